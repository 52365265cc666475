"""Films: the same bytes each time, sizes the format allows, pictures that follow the data, failed frames said."""

from __future__ import annotations

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from report_tables import atoms_table, images
from scant.analysis.neighbours import iterate_frames
from scant.errors import InputError
from scant.report.gif import pass_on, write_gif
from scant.report.movie import FilmFrame, film_scale, render_dynamics, write_movie

IMAGE = images(100)["corrected"]


def film_frames(flat: bool = False) -> list[FilmFrame]:
    atoms = list(iterate_frames(atoms_table(3, 20.0, flat=flat)))
    return [FilmFrame(0, IMAGE, atoms[0]), FilmFrame(1, IMAGE, None, "failed"), FilmFrame(2, IMAGE + 1, atoms[2])]


def pictures(flat: bool = False, frame_time_ms: float | None = 1.0) -> list[np.ndarray]:
    heights = np.concatenate([f.atoms.xyz_angstrom[:, 2] for f in film_frames(flat) if f.atoms is not None])
    return list(render_dynamics(film_frames(flat), film_scale([IMAGE], heights, 0.2), "demo $x_1$", 2, frame_time_ms))


def moving_squares(count: int = 5, shape: tuple[int, int] = (61, 83)):
    for k in range(count):
        picture = np.zeros((*shape, 3), dtype=np.uint8)
        picture[10:30, 10 + 5 * k : 30 + 5 * k] = (250, 40, 40)
        yield picture


def read(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3) for data in reader]


def test_a_film_comes_back_with_even_sides(tmp_path):
    assert write_movie(tmp_path / "a.mp4", moving_squares(), fps=5) == 5
    meta, frames = read(tmp_path / "a.mp4")
    assert meta["codec"] == "h264" and meta["pix_fmt"].startswith("yuv420p") and meta["fps"] == 5
    assert meta["size"] == (84, 62) and len(frames) == 5
    for k, frame in enumerate(frames):
        column = np.flatnonzero(frame[20, :, 0] > 128)
        assert abs(column.min() - (10 + 5 * k)) <= 2
    assert not list(tmp_path.glob("*.partial"))


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_movie(tmp_path / f"{name}.mp4", moving_squares())
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no pictures"),
        ([np.zeros((8, 8, 3))], "float64"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((10, 8, 3), np.uint8)], "picture 1"),
    ],
)
def test_faults_are_named_and_leave_no_film(tmp_path, frames, words):
    with pytest.raises(InputError, match=words):
        write_movie(tmp_path / "a.mp4", frames)
    assert not (tmp_path / "a.mp4").exists()


def test_pictures_follow_the_data_and_are_the_same_each_time():
    shown, again = pictures(), pictures()
    assert [p.shape for p in shown] == [(720, 1280, 3)] * 3 and shown[0].dtype == np.uint8
    for a, b in zip(shown, again):
        np.testing.assert_array_equal(a, b)
    sheet = np.s_[60:500, 500:1160]
    assert (shown[0][sheet] != shown[2][sheet]).any()
    coloured = [np.ptp(p[sheet].astype(int), axis=2).max() > 60 for p in shown]
    assert coloured == [True, False, True]


def test_a_flat_film_has_pictures_too():
    shown = pictures(flat=True)
    assert len(shown) == 3 and np.ptp(shown[0][60:500, 500:1160].astype(int), axis=2).max() > 60


def test_without_a_frame_time_the_film_counts_frames():
    timed, counted = pictures(), pictures(frame_time_ms=None)
    title, course = np.s_[:45, :600], np.s_[550:655, :]
    assert all((a[title] != b[title]).any() for a, b in zip(timed, counted))
    assert (counted[0][course] != counted[2][course]).any(), "the course goes on"


def test_a_gif_has_the_chosen_pictures_and_their_speed(tmp_path):
    kept: list[np.ndarray] = []
    passed = list(pass_on(moving_squares(5, (450, 1280)), {0, 2, 4}, kept))
    assert len(passed) == 5 and passed[0].shape == (450, 1280, 3) and [k.shape for k in kept] == [(281, 800, 3)] * 3
    size = write_gif(tmp_path / "a.gif", kept, fps=8)
    assert size == (tmp_path / "a.gif").stat().st_size and not list(tmp_path.glob("*.partial"))
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (3, (800, 281), 0)
        for n, picture in enumerate(kept):
            film.seek(n)
            assert film.info["duration"] in (120, 130)
            np.testing.assert_allclose(np.asarray(film.convert("RGB"), int), picture.astype(int), atol=40)
    write_gif(tmp_path / "b.gif", kept, fps=8)
    assert (tmp_path / "b.gif").read_bytes() == (tmp_path / "a.gif").read_bytes()


def test_a_gif_too_large_is_made_narrower(tmp_path, monkeypatch):
    monkeypatch.setattr("scant.report.gif.MOST_BYTES", 150_000)
    noise = np.random.default_rng(0).integers(0, 255, (2, 400, 800, 3), dtype=np.uint8)
    assert write_gif(tmp_path / "a.gif", list(noise)) < 150_000
    with Image.open(tmp_path / "a.gif") as film:
        assert film.width < 800
    with pytest.raises(InputError, match="no pictures"):
        write_gif(tmp_path / "none.gif", [])
