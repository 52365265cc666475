"""From a movie to a run: read the file, ask for what it does not say, look for the lattice, write the files, say what comes next."""

from __future__ import annotations

import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from scant.commands.plan import bytes_to_come, disk_problem, free_bytes, movie_facts, short
from scant.commands.questions import PATHS, QUESTIONS, ask, checked, terminal
from scant.config import Acquisition, Config, parse_config, read_yaml
from scant.config_docs import allowed
from scant.errors import ConfigError, InputError
from scant.io.readers import open_movie
from scant.io.source import MovieSource
from scant.plan import plan
from scant.report.preview import Preview, preview_figure
from scant.report.style import png_bytes
from scant.stages.facts import dataset_facts, usable_pixel_size_angstrom
from scant.stages.materials import BUILT_IN
from scant.stages.preview import look

REPOSITORY = Path(__file__).resolve().parents[3]
NAME_LENGTH = 64


def run(movies: Sequence[str], folder: str | None, options: Mapping[str, str], force: bool, n_cores: int) -> int:
    """Write acquisition.yaml, NAME.yaml and preview.png into the folder (default: NAME); 1 when the disk cannot hold the run.

    `options` are values of acquisition.yaml as text. Raises InputError for a movie that cannot be read, ConfigError for values that are
    not allowed and for files that are there already (unless `force`).
    """
    if len(movies) > 1:
        raise InputError(f"{len(movies)} files given, the first {movies[0]}; put a pattern in quotes: 'frames/*.tif'")
    name = dataset_name(movies[0])
    target = Path(folder or name)
    _refuse_overwriting(target, name, force)
    given = {key: checked(key, text) for key, text in options.items()}
    source = open_movie(movies[0], Config().ingest.max_bytes)
    print("\n".join(what_the_file_says(movies[0], source)))
    in_file = {"voltage_kV": source.voltage_kv, "pixel_size_angstrom": usable_pixel_size_angstrom(source)}
    if terminal():
        given |= ask(in_file, given)
    elif unset := [q.key for q in QUESTIONS if q.key != "material" and q.key not in given and in_file.get(q.key) is None]:
        print(f"left unset, since there is no terminal to ask on: {', '.join(unset)}; give them as options (--help) or in acquisition.yaml")
    values = _paths_from(target, given | {"movie": movies[0]})
    facts, config = dataset_facts(source, Acquisition(**values), target), Config()
    print("\nlooking for the lattice in a few frames of the middle ...")
    preview = look(source, facts, config.calibrate.flat_degree, config.correct.hit_threshold_sigma)
    print("\n".join(["", *preview.sentences, *facts["missing"]]))
    texts = (acquisition_yaml(values, in_file, source), config_yaml(target, name))
    _write(_files(target, name), (*(text.encode() for text in texts), png_bytes(preview_figure(preview, name))))
    return _say_plan(parse_config(read_yaml(target / f"{name}.yaml")), name, preview, n_cores) or _say_next(target, name, preview)


def _write(files: Sequence[Path], contents: Sequence[bytes]) -> None:
    try:
        for file, content in zip(files, contents, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{files[0].parent}: cannot be written ({error.strerror}); give another folder with --folder") from error
    print(f"\nwritten: {', '.join(str(file) for file in files)}\n")


def _say_plan(config: Config, name: str, preview: Preview, n_cores: int) -> int:
    facts = movie_facts(config, name)
    if preview.lattice is not None and facts.pixel_size_angstrom is None:
        facts = replace(facts, pixel_size_angstrom=preview.lattice.pixel_size_angstrom)
    if preview.dose_e_per_angstrom2 is not None and facts.dose_e_per_angstrom2 is None:
        facts = replace(facts, dose_e_per_angstrom2=preview.dose_e_per_angstrom2)
    planned = plan(config, name, facts, n_cores)
    print("\n".join(short(planned)))
    problem = disk_problem(config.results, bytes_to_come(config, [planned]), free_bytes(config.results))
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def _say_next(target: Path, name: str, preview: Preview) -> int:
    if preview.problems:
        print("\na run is likely to end at `calibrate` for the reason above: mend that first")
    snakemake = _shown(Path(sys.executable).with_name("snakemake"))
    command = shlex.join([snakemake, *snakefile_option(), "--configfile", str(target / f"{name}.yaml")])
    print(f"\nnext: look at {target / 'preview.png'}, then\n  {command} -n\n  {command}")
    print(f"the report will be {target / 'results' / name / 'report.html'}")
    return 0


def snakefile_option() -> list[str]:
    """Snakemake finds a Snakefile by itself only in the folder where it is started."""
    return [] if Path("Snakefile").exists() else ["--snakefile", str(REPOSITORY / "Snakefile")]


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def dataset_name(movie: str) -> str:
    """A dataset's name from a movie's path or pattern: its stem, or its folder's name, in the characters that a name may have."""
    for part in (Path(movie).stem, Path(movie).absolute().parent.name):
        plain = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")[:NAME_LENGTH].rstrip("-_")
        if name:
            return name
    return "movie"


def what_the_file_says(movie: str, source: MovieSource) -> list[str]:
    """Size, pixel size, voltage and frame time as the metadata have them, and why not where they have not."""
    pixel, usable = source.pixel_size_angstrom, usable_pixel_size_angstrom(source)
    not_used = "" if usable else f", not used: no lattice can be seen with it (allowed: {_allowed('pixel_size_angstrom')})"
    said = [
        ("pixel size", None if pixel is None else f"{pixel:g} A{not_used}"),
        ("voltage", None if source.voltage_kv is None else f"{source.voltage_kv:g} kV"),
        ("frame time", None if source.frame_time_ms is None else f"{source.frame_time_ms:g} ms"),
    ]
    lines = [f"{movie}: {source.n_frames} frame(s) of {source.height_px} x {source.width_px} px {source.dtype}, read by {source.reader}"]
    lines += [*(f"  {what:<11} {value or 'the file does not say'}" for what, value in said), *(f"  {note}" for note in source.notes)]
    # units and names come from the file: what is not printable would be run by the terminal
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _allowed(key: str) -> str:
    return allowed(Acquisition.model_fields[key])


def acquisition_yaml(values: Mapping[str, Any], in_file: Mapping[str, Any], source: MovieSource) -> str:
    """acquisition.yaml with every key explained: those with a value as `key: value`, the others as a comment to fill in."""
    lines = [
        "# What is known of the movie; written by `python -m scant init`, to be edited. Snakemake reruns what a change concerns.",
        f"# The file holds {source.n_frames} frame(s) of {source.height_px} x {source.width_px} px {source.dtype}.",
    ]
    units = {question.key: question.unit for question in QUESTIONS}
    for key, info in Acquisition.model_fields.items():
        if key == "truth":
            continue
        details = [info.description or "", units.get(key, ""), allowed(info)]
        lines += ["", f"# {'; '.join(part for part in details if part)}"]
        if key in values or key == "material":
            lines.append(yaml.safe_dump({key: values.get(key, info.default)}, allow_unicode=True, width=10**6).rstrip("\n"))
        elif in_file.get(key) is not None:
            lines.append(f"# {key}: {in_file[key]:.6g}   # as the file says; a value here overrides it")
        else:
            lines.append(f"# {key}:" + ("" if info.default is None else f" {info.default}"))
    return "\n".join(lines) + "\n"


def config_yaml(target: Path, name: str) -> str:
    """The configuration of one dataset; absolute paths, so that it does not matter where Snakemake is started."""
    values = {"datasets": {name: str((target / "acquisition.yaml").absolute())}, "results": str((target / "results").absolute())}
    head = "# Written by `python -m scant init`; all keys: config/README.md. `results` may be on another disk.\n"
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10**6)


def _paths_from(target: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as acquisition.yaml needs them: relative to its folder where the file is in it, else absolute."""
    moved = dict(values)
    for key in ("movie", *PATHS, "material"):
        if key in moved and moved[key] not in BUILT_IN:
            path = Path(os.path.abspath(moved[key]))  # noqa: PTH100 - a link to the movie stays the link
            folder = Path(os.path.abspath(target))  # noqa: PTH100
            moved[key] = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
    return moved


def _files(target: Path, name: str) -> list[Path]:
    return [target / "acquisition.yaml", target / f"{name}.yaml", target / "preview.png"]


def _refuse_overwriting(target: Path, name: str, force: bool) -> None:
    there = [str(path) for path in _files(target, name) if path.exists()]
    if there and not force:
        raise ConfigError(f"{', '.join(there)}: already there and not overwritten; give another --folder, or --force to write them anew")
