"""`scant init`: what a file says, what is asked on a terminal and what without one, what is written, and that nothing is overwritten."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from honeycomb_images import draw, honeycomb, noisy
from scant.__main__ import ACQUISITION_KEYS, main
from scant.commands.init import dataset_name, what_the_file_says
from scant.commands.questions import QUESTIONS, ask, checked
from scant.config import NAME_PATTERN, Acquisition, load_acquisition, parse_config, read_yaml
from scant.errors import ConfigError, InputError
from scant.io.readers import open_movie
from scant.stages.facts import dataset_facts

OPTICS = ["--voltage-kV", "80", "--cs-um", "-13.0", "--defocus-angstrom", "-45"]


@pytest.fixture
def movie(tmp_path) -> Path:
    """Four noisy frames of graphene at 0.2 A a pixel."""
    image = draw(honeycomb((96, 96), 0.2), (96, 96), 0.2)
    frames = np.stack([noisy(image, 8000, 0.2, seed) for seed in range(4)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "my movie #1.tif", frames, photometric="minisblack")
    return tmp_path / "my movie #1.tif"


@pytest.mark.parametrize(
    ("movie", "name"),
    [
        ("a/dmTest_3D_int16_64,65,66.dm4", "dmTest_3D_int16_64-65-66"), ("graphène 80kV.tif", "graphene-80kV"),
        ("x/frames/*.tif", "frames"),
        ("img_*.tif", "img"), ("../-rf; touch X.mrc", "rf-touch-X"), ("m" * 90 + ".tif", "m" * 64), ("run.zarr", "run"),
    ],
)  # fmt: skip
def test_names_fit_the_pattern(movie, name):
    assert dataset_name(movie) == name
    assert re.match(NAME_PATTERN, name)


def test_a_name_is_found_even_where_no_letter_is(tmp_path):
    assert re.match(NAME_PATTERN, dataset_name("/???/***"))


def test_every_key_of_acquisition_is_an_option():
    assert set(ACQUISITION_KEYS) == set(Acquisition.model_fields) - {"movie", "truth"}


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("voltage_kV", "80000", "less than or equal to 400 .*80000.*>= 10, <= 400"), ("voltage_kV", "80 kV", "valid number"),
        ("cs_um", "nan", "finite"), ("pixel_size_angstrom", "0,2", "valid number"), ("defocus_angstrom", "-inf", "finite"),
        ("material", "unobtainium", "neither built in"), ("dark", "gone.tif", "no such file"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_what_is_allowed(key, text, words):
    with pytest.raises(InputError, match=words):
        checked(key, text)


def test_a_material_that_is_no_cell_is_refused(tmp_path):
    (tmp_path / "cell.cif").write_bytes(b"\x00\xff nonsense")
    with pytest.raises(ConfigError, match="no unit cell that can be read"):
        checked("material", str(tmp_path / "cell.cif"))


def answers(*lines: str):
    said, rest = [], iter(lines)

    def read(prompt: str) -> str:
        said.append(prompt)
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return read, said


def test_only_what_is_missing_is_asked_and_a_wrong_answer_again():
    read, said = answers("", "-13", "-45", "0.2")
    found = ask({"voltage_kV": 80.0}, {"objective_aperture_mrad": 50.0}, read, said.append)
    assert found == {"cs_um": -13.0, "defocus_angstrom": -45.0, "pixel_size_angstrom": 0.2}
    text = "\n".join(said)
    assert "voltage_kV" not in text and "objective_aperture" not in text
    read, said = answers("", "500", "80 kV", "80", "-13.0", "-45", "", "")
    assert ask({}, {}, read, said.append) == {"voltage_kV": 80.0, "cs_um": -13.0, "defocus_angstrom": -45.0}
    text = "\n".join(said)
    for words in (
        "less than or equal to 400",
        "valid number",
        ", in kV (>= 10, <= 400); for example 80",
        "left empty: taken from the lattice",
    ):
        assert words in text


def test_an_answer_can_be_taken_back():
    read, said = answers("", "80", "-13", "<", "<", "60", "-12", "<", "", "", "")
    assert ask({"objective_aperture_mrad": 50.0}, {"dark": None, "flat": None}, read, said.append) == {"voltage_kV": 60.0}
    assert said.count("voltage_kV: ") == 2 and said.count("cs_um: ") == 4
    read, said = answers("<", "<", "graphene")
    assert ask({}, {}, read, said.append) == {"material": "graphene"}


def test_without_a_voltage_nothing_more_is_asked_of_the_optics():
    read, said = answers("", "", "0.2")
    assert ask({}, {}, read, said.append) == {"pixel_size_angstrom": 0.2}
    assert "cs_um" not in "\n".join(said)


def test_the_end_of_input_leaves_the_rest_unset():
    read, said = answers("graphene", "80")
    assert ask({}, {}, read, said.append) == {"material": "graphene", "voltage_kV": 80.0}
    assert {q.key for q in QUESTIONS} < set(Acquisition.model_fields)


def test_without_a_terminal_nothing_blocks_and_what_is_unset_is_said(movie, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["init", str(movie), "--folder", str(folder), *OPTICS]) == 0
    printed = capsys.readouterr().out
    for words in (
        "4 frame(s) of 96 x 96 px uint16", "left unset", "objective_aperture_mrad, pixel_size", "so a pixel is 0.199", "e/A^2 per frame",
        "CPU hours", "memory", "disk", f"--configfile {folder}/my-movie-1.yaml -n\n",
    ):  # fmt: skip
        assert words in printed
    assert (folder / "preview.png").read_bytes()[:4] == b"\x89PNG"
    acquisition = load_acquisition(folder / "acquisition.yaml")
    assert (acquisition.voltage_kV, acquisition.cs_um, acquisition.defocus_angstrom) == (80.0, -13.0, -45.0)
    config = parse_config(read_yaml(folder / "my-movie-1.yaml"))
    assert config.datasets == {"my-movie-1": str(folder / "acquisition.yaml")} and config.results == str(folder / "results")
    assert dataset_facts(open_movie(acquisition.movie), acquisition, folder)["optics"]["defocus_angstrom"] == -45.0


def test_hostile_names_and_units_stay_text(movie, tmp_path):
    odd = movie.rename(tmp_path / "a: b\nvoltage_kV: 300 'x' \x1b[31m.tif")
    assert main(["init", str(odd), "--folder", str(tmp_path / "out")]) == 0
    acquisition = load_acquisition(tmp_path / "out/acquisition.yaml")
    assert (acquisition.movie, acquisition.voltage_kV) == (str(odd), None)
    source = replace(open_movie(str(odd)), notes=("unit \x1b]0;owned\x07",))
    assert all(line.isprintable() for line in what_the_file_says(str(odd), source))


def test_nothing_is_overwritten_without_force(movie, tmp_path, capsys):
    arguments = ["init", str(movie), "--folder", str(tmp_path)]
    (tmp_path / "acquisition.yaml").write_text("mine: yes\n")
    assert main(arguments) == 1
    assert "already there and not overwritten" in capsys.readouterr().err
    assert (tmp_path / "acquisition.yaml").read_text() == "mine: yes\n" and not (tmp_path / "preview.png").exists()
    assert main([*arguments, "--force"]) == 0
    assert load_acquisition(tmp_path / "acquisition.yaml").movie == movie.name


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--voltage-kV", "1e6"], "less than or equal to 400"), (["--dark", "gone.tif"], "no such file"),
        (["other.tif"], "put a pattern in quotes"),
    ],
)  # fmt: skip
def test_faults_are_said_before_anything_is_written(movie, tmp_path, capsys, more, words):
    assert main(["init", str(movie), *more, "--folder", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dark_of_another_camera_and_a_wrong_pixel_size_are_said(movie, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "dark.tif", np.ones((64, 64), np.uint16))
    assert main(["init", str(movie), "--folder", str(tmp_path / "a"), "--dark", str(tmp_path / "dark.tif")]) == 0
    assert "dark reference is 64 x 64 px, the movie 96 x 96" in capsys.readouterr().out
    assert main(["init", str(movie), "--folder", str(tmp_path / "b"), "--pixel-size-angstrom", "0.215"]) == 0
    printed = capsys.readouterr().out
    assert "pixel_size_angstrom 0.215 in acquisition.yaml, but the lattice gives 0.199" in printed
    assert "so a pixel is 0.199" in printed
    assert main(["init", str(movie), "--folder", str(tmp_path / "c"), "--pixel-size-angstrom", "0.3"]) == 0
    assert re.search(r"the lattice fits a pixel of 0\.199\d A, not the 0\.3 A given", capsys.readouterr().out)


def test_a_folder_that_cannot_be_written_is_named(movie, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["init", str(movie), "--folder", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err


REAL = {
    "formats/dmTest_3D_int16_64,65,66.dm4": (
        "66 frame(s) of 65 x 64 px int16",
        "differ",
        "cannot be calibrated: neighbouring frames are equal",
    ),
    "formats/test_loading_image_saved_with_DM_stack.tif": ("2 frame(s)", "frame time  2500 ms", "cannot be calibrated"),
    "formats/Custom_movie.mrc": ("30 frame(s)", "pixel size  the file does not say", "at least 32 x 32"),
    "formats/64x64x5_TEM_preview_1.ser": ("voltage     200 kV", "62.8183 A, not used", "no lattice found"),
    "formats/fei_example_tem_stack.emd": ("0.0817288 A", "frame time  800 ms", "voltage     300 kV"),
    "graphene-dtu/frame.tif": ("1 frame(s) of 500 x 500", "so a pixel is 0.117", "gain: not known"),
    "graphene-open/movie.tif": ("24 frame(s)", "so a pixel is 0.200", "dose: 8"),
}


@pytest.mark.parametrize("file", REAL)
def test_real_files(file, shared_data, tmp_path, capsys):
    assert main(["init", str(shared_data / file), "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for words in REAL[file]:
        assert words in printed
    acquisition = load_acquisition(tmp_path / "acquisition.yaml")
    assert open_movie(str(tmp_path / acquisition.movie)).n_frames == open_movie(str(shared_data / file)).n_frames
    assert (tmp_path / "preview.png").stat().st_size > 10_000


def test_the_questions_on_a_terminal(movie, tmp_path):
    """A pseudo-terminal: each prompt is waited for, answered, and a wrong answer is asked again."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "scant", "init", str(movie), "--folder", "out"]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path, close_fds=True)
    os.close(follower)
    seen = ""
    try:
        for prompt, answer in (
            ("material: ", ""), ("voltage_kV: ", "800"), ("voltage_kV: ", "80"), ("cs_um: ", "-13.0"), ("defocus_angstrom: ", "-45"),
            ("objective_aperture_mrad: ", ""), ("pixel_size_angstrom: ", "0.3"), ("dark: ", "<"), ("pixel_size_angstrom: ", "0.2"),
            ("dark: ", ""), ("flat: ", ""),
        ):  # fmt: skip
            seen += _read_until(leader, prompt)
            os.write(leader, f"{answer}\n".encode())
        seen += _read_until(leader, "report.html")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert "less than or equal to 400" in seen and seen.count("voltage_kV: ") >= 2
    acquisition = load_acquisition(tmp_path / "out/acquisition.yaml")
    assert (acquisition.voltage_kV, acquisition.pixel_size_angstrom, acquisition.objective_aperture_mrad) == (80.0, 0.2, None)


def _read_until(descriptor: int, words: str, limit_s: float = 120.0) -> str:
    text, deadline = "", time.monotonic() + limit_s
    while words not in text:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{words!r} did not come within {limit_s:g} s; so far: {text}"
        text += os.read(descriptor, 4096).decode()
    return text
