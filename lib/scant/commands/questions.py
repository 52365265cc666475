"""What `scant init` asks of a newcomer: each value with its unit, what is allowed, an example and what leaving it empty means."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scant.config import Acquisition
from scant.config_docs import allowed
from scant.errors import ConfigError, InputError
from scant.stages.facts import OPTICS_KEYS
from scant.stages.materials import BUILT_IN, load_material

FLAT = "left empty: atoms are located in 2D, without heights and molecular dynamics"
PATHS = ("dark", "flat")
BACK = "<"


@dataclass(frozen=True)
class Question:
    """One value of acquisition.yaml; `empty` says what happens without it."""

    key: str
    unit: str
    example: str
    empty: str

    @property
    def text(self) -> str:
        """Meaning, unit and range, example, and what happens when nothing is given."""
        info = Acquisition.model_fields[self.key]
        meaning = (info.description or "").split(";")[0]
        numbers = f", in {self.unit} ({allowed(info)})" if self.unit else ""
        return f"{meaning}{numbers}; for example {self.example}\n  {self.empty}"


QUESTIONS = (
    Question("material", "", "graphene, or cell.cif", "left empty: graphene"),
    Question("voltage_kV", "kV", "80", FLAT),
    Question("cs_um", "um", "-13 with a corrector, 1200 without", FLAT),
    Question("defocus_angstrom", "angstrom", "-45", FLAT),
    Question("objective_aperture_mrad", "mrad", "52.2", "left empty: no aperture in the model, only the focal spread limits the transfer"),
    Question("pixel_size_angstrom", "angstrom", "0.2", "left empty: taken from the lattice"),
    Question("dark", "", "dark.tif", "left empty: none, an offset of the camera counts as dose"),
    Question("flat", "", "flat.tif", "left empty: none, a polynomial through the movie stands in"),
)


def checked(key: str, text: str) -> Any:
    """The value of a key of acquisition.yaml from text. Raises ConfigError with what was found and what is allowed."""
    info = Acquisition.model_fields[key]
    try:
        value = getattr(Acquisition.model_validate({"movie": "-", key: text}), key)
    except ValidationError as error:
        limits = f"; allowed: a number without its unit, {allowed(info)}" if allowed(info) else ""
        raise ConfigError(f"{key}: {error.errors()[0]['msg']} (found {text!r}){limits}") from error
    if key == "material":
        _check_material(text)
    if key in PATHS and not Path(text).exists():
        raise ConfigError(f"{key}: {text}: no such file; give the path of the {key} reference")
    return value


def _check_material(text: str) -> None:
    try:
        load_material(text)
    except InputError:
        raise
    except Exception as error:  # ASE has no error of its own: each of its formats raises what it likes
        raise ConfigError(
            f"material: {text} is no unit cell that can be read ({error}); allowed: {', '.join(BUILT_IN)}, CIF, .xyz"
        ) from error


def terminal() -> bool:
    """Whether someone can see a question and answer it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(
    in_file: Mapping[str, Any], given: Mapping[str, Any], read: Callable[[str], str] = input, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Answers to the questions that neither the file nor an option has answered; a wrong one is asked again, with the reason.

    Once the optics cannot be complete, nothing more is asked of them. `<` goes back one answer; the end of input leaves the rest unset.
    """
    answers: dict[str, Any] = {}
    say(f"(Enter leaves a value empty, {BACK} goes back to the question before)")
    while (question := _next_question(in_file, given, answers)) is not None:
        say(f"\n{question.text}")
        try:
            text = read(f"{question.key}: ").strip()
        except EOFError:
            say("(end of input: the rest is left unset)")
            break
        if text == BACK:
            if answers:
                answers.popitem()
            continue
        try:
            answers[question.key] = checked(question.key, text) if text else None
        except InputError as error:
            say(f"  {error}")
    return {key: value for key, value in answers.items() if value is not None}


def _next_question(in_file: Mapping[str, Any], given: Mapping[str, Any], answers: Mapping[str, Any]) -> Question | None:
    flat = any(answers.get(key, 0) is None for key in OPTICS_KEYS)
    for question in QUESTIONS:
        optics = question.key in (*OPTICS_KEYS, "objective_aperture_mrad")
        known = question.key in given or question.key in answers or in_file.get(question.key) is not None
        if not known and not (optics and flat):
            return question
    return None
