"""The Zarr store: what is written comes back, whole chunks only, and no damage stays silent."""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scant.errors import DataIntegrityError, InputError
from scant.io.manifest import check_manifest, write_manifest
from scant.io.store import StackReader, create_movie, create_stack, layout_of, read_frames, write_frames

SHAPE = (22, 12, 20)


def movie(path: Path, provenance: str = "a") -> str:
    create_movie(str(path), SHAPE, "uint16", 8, 0.2, 1.5, {"Microscope": {"kV": 80}}, {"config": provenance})
    return str(path)


def frames(n: int = SHAPE[0], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(5).integers(0, 65535, (n, *SHAPE[1:])).astype(dtype)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.sampled_from(["uint8", "uint16", "float32"]), st.data())
def test_round_trip(n_frames: int, chunk_frames: int, dtype: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/m.zarr"
        stack = frames(n_frames, dtype)
        create_movie(path, stack.shape, dtype, chunk_frames, None, None, {}, {})
        write_frames(path, 0, stack)
        start = data.draw(st.integers(0, n_frames - 1))
        stop = data.draw(st.integers(start + 1, n_frames))
        back = read_frames(path, start, stop)
        assert back.dtype == stack.dtype
        np.testing.assert_array_equal(back, stack[start:stop])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_chunks_are_those_that_zarr_writes_and_reads(tmp_path: Path, dtype: str) -> None:
    ours, zarrs = str(tmp_path / "ours.zarr"), str(tmp_path / "zarrs.zarr")
    for path in (ours, zarrs):
        create_movie(path, SHAPE, dtype, 8, None, None, {}, {})
    write_frames(ours, 0, frames(dtype=dtype))
    zarr.open_array(f"{zarrs}/0", mode="r+")[:] = frames(dtype=dtype)
    np.testing.assert_array_equal(zarr.open_array(f"{ours}/0", mode="r")[:], frames(dtype=dtype))
    for chunk in range(3):
        assert Path(ours, f"0/c/{chunk}/0/0").read_bytes() == Path(zarrs, f"0/c/{chunk}/0/0").read_bytes()


def test_a_cut_chunk_or_one_of_another_size_is_an_error(tmp_path: Path) -> None:
    path, other = movie(tmp_path / "movie.zarr"), str(tmp_path / "other.zarr")
    write_frames(path, 0, frames())
    create_movie(other, (8, 5, 5), "uint16", 8, None, None, {}, {})
    write_frames(other, 0, np.ones((8, 5, 5), "uint16"))
    chunk = Path(path, "0/c/1/0/0")
    for contents, why in ((b"", "decodes to 0 bytes"), (chunk.read_bytes()[:-9], "crc32c"), (Path(other, "0/c/0/0/0").read_bytes(), "400")):
        chunk.write_bytes(contents)
        with pytest.raises(DataIntegrityError, match=f"frames 8 to 16: .*{why}"):
            read_frames(path, 8, 9)


def test_axes_units_and_metadata_follow_ome_ngff(tmp_path: Path) -> None:
    group = zarr.open_group(movie(tmp_path / "movie.zarr"), mode="r")
    scale = group.attrs["ome"]["multiscales"][0]
    assert group.attrs["ome"]["version"] == "0.5"
    assert [(a["name"], a["type"], a["unit"]) for a in scale["axes"]] == [
        ("t", "time", "millisecond"), ("y", "space", "angstrom"), ("x", "space", "angstrom")]  # fmt: skip
    assert scale["datasets"] == [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.5, 0.2, 0.2]}]}]
    assert group["0"].metadata.dimension_names == ("t", "y", "x")
    assert group.attrs["vendor_metadata"] == {"Microscope": {"kV": 80}}
    assert group.attrs["provenance"] == {"config": "a"}


def test_unset_pixel_size_has_no_unit_and_nonsense_is_refused(tmp_path: Path) -> None:
    create_movie(str(tmp_path / "a.zarr"), SHAPE, "uint16", 8, None, None, {}, {})
    axes = zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs["ome"]["multiscales"][0]["axes"]
    assert all("unit" not in axis for axis in axes)
    with pytest.raises(InputError, match=r"pixel_size_angstrom -10"):
        create_movie(str(tmp_path / "b.zarr"), SHAPE, "uint16", 8, -10.0, None, {}, {})


def test_creating_again_keeps_data_and_another_store_is_an_error(tmp_path: Path) -> None:
    path = movie(tmp_path / "movie.zarr")
    write_frames(path, 0, frames())
    movie(tmp_path / "movie.zarr")
    np.testing.assert_array_equal(read_frames(path, 0, 22), frames())
    with pytest.raises(DataIntegrityError, match="other provenance"):
        movie(tmp_path / "movie.zarr", provenance="b")
    with pytest.raises(DataIntegrityError, match="shape"):
        create_movie(path, (23, 12, 20), "uint16", 8, 0.2, 1.5, {"Microscope": {"kV": 80}}, {"config": "a"})
    assert [p.name for p in tmp_path.iterdir()] == ["movie.zarr"]


@pytest.mark.fault("F11")
@pytest.mark.parametrize(("start", "n"), [(4, 8), (0, 4), (0, 12), (16, 8), (8, 6), (-8, 8), (24, 8), (0, 0)])
def test_misaligned_writes_are_refused_before_any_write(tmp_path: Path, start: int, n: int) -> None:
    path = movie(tmp_path / "movie.zarr")
    with pytest.raises(InputError, match="every 8 frames"):
        write_frames(path, start, frames(n))
    assert not (tmp_path / "movie.zarr/0/c").exists()


def test_other_type_or_shape_is_refused(tmp_path: Path) -> None:
    path = movie(tmp_path / "movie.zarr")
    with pytest.raises(InputError, match="the store holds"):
        write_frames(path, 0, frames(8, "float32"))
    with pytest.raises(InputError, match="the store holds"):
        write_frames(path, 0, frames(8).transpose(0, 2, 1))


@pytest.mark.fault("F8")
def test_blank_frames_are_stored_and_a_missing_chunk_is_an_error(tmp_path: Path) -> None:
    path = movie(tmp_path / "movie.zarr")
    write_frames(path, 0, np.zeros(SHAPE, "uint16"))
    assert not read_frames(path, 0, 22).any()
    (tmp_path / "movie.zarr/0/c/1/0/0").unlink()
    with pytest.raises(DataIntegrityError, match=r"frames 8 to 16"):
        read_frames(path, 6, 9)
    assert not read_frames(path, 0, 8).any()


@pytest.mark.fault("F9")
def test_one_flipped_bit_is_found_with_its_file_and_frames(tmp_path: Path) -> None:
    path = movie(tmp_path / "movie.zarr")
    records = write_frames(path, 0, frames())
    write_manifest(str(tmp_path / "m.json"), records)
    assert check_manifest(path, str(tmp_path / "m.json")) == []
    chunk = tmp_path / "movie.zarr/0/c/2/0/0"
    whole = chunk.read_bytes()
    for position in np.random.default_rng(1).integers(0, len(whole), 25):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(position % 8)
        chunk.write_bytes(damaged)
        with pytest.raises(DataIntegrityError, match=r"c/2/0/0: frames 16 to 22"):
            read_frames(path, 20, 21)
        (problem,) = check_manifest(path, str(tmp_path / "m.json"))
        assert "frames 16 to 22" in problem and "changed" in problem


def test_manifest_finds_missing_cut_and_replaced_chunks(tmp_path: Path) -> None:
    path = movie(tmp_path / "movie.zarr")
    manifest = str(tmp_path / "m.json")
    records = write_frames(path, 0, frames())
    assert [(r.key, r.start, r.stop) for r in records] == [("0/c/0/0/0", 0, 8), ("0/c/1/0/0", 8, 16), ("0/c/2/0/0", 16, 22)]
    write_manifest(manifest, records)
    assert json.loads(Path(manifest).read_text())[1]["n_bytes"] == Path(path, "0/c/1/0/0").stat().st_size
    Path(path, "0/c/0/0/0").unlink()
    Path(path, "0/c/1/0/0").write_bytes(Path(path, "0/c/1/0/0").read_bytes()[:-9])
    write_frames(path, 16, frames()[8:14])
    problems = check_manifest(path, manifest)
    assert [p.split(": ")[1] for p in problems] == ["frames 0 to 8", "frames 8 to 16", "frames 16 to 22"]
    assert "missing" in problems[0] and "bytes" in problems[1]
    assert "no manifest" in check_manifest(path, str(tmp_path / "none.json"))[0]


def test_stack_reader_crosses_blocks_and_names_gaps(tmp_path: Path) -> None:
    whole = frames(40, "float32")
    paths = []
    for first in (0, 16, 32):
        path = str(tmp_path / f"{first}.zarr")
        stop = min(first + 16, 40)
        create_stack(path, (stop - first, *SHAPE[1:]), 8, first, 0.2, 1.0, {})
        write_frames(path, first, whole[first:stop])
        paths.append(path)
    assert layout_of(paths[1]).first_frame == 16 and layout_of(paths[1]).stop_frame == 32
    reader = StackReader(paths[::-1])
    np.testing.assert_array_equal(reader.read(13, 35), whole[13:35])
    np.testing.assert_array_equal(reader.read(17, 18), whole[17:18])
    with pytest.raises(DataIntegrityError, match="frames 40 to 42"):
        reader.read(38, 42)
    with pytest.raises(DataIntegrityError, match="frames 16 to 32"):
        StackReader([paths[0], paths[2]]).read(14, 34)
    with pytest.raises(InputError, match="begins at frame 16"):
        StackReader([paths[0], paths[1], paths[1]])
    with pytest.raises(InputError, match="holds 16 to 32"):
        read_frames(paths[1], 0, 8)


@pytest.mark.fault("F7")
def test_a_full_disk_is_an_error_with_path_and_bytes_and_leaves_nothing_partial(tmp_path: Path) -> None:
    """A file-size limit of 2 kB stands in for the full disk."""
    path = movie(tmp_path / "movie.zarr")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_frames(path, 0, np.zeros((8, 12, 20), "uint16"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(DataIntegrityError, match=r"movie\.zarr: frames 8 to 16 cannot be written .* 6720 bytes are still needed"):
            write_frames(path, 8, frames(14))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if "/c/" in p.as_posix() and p.is_file()) == [
        "movie.zarr/0/c/0/0/0"
    ]
    write_frames(path, 8, frames(14))
    np.testing.assert_array_equal(read_frames(path, 8, 22), frames(14))


def test_no_store_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match=r"none\.zarr"):
        read_frames(str(tmp_path / "none.zarr"), 0, 1)


def test_a_store_made_anew_or_damaged_after_it_was_read_is_seen(tmp_path: Path) -> None:
    path = movie(tmp_path / "m.zarr")
    assert layout_of(path).n_frames == SHAPE[0]
    shutil.rmtree(path)
    create_movie(path, (5, *SHAPE[1:]), "uint16", 8, None, None, {}, {})
    assert layout_of(path).n_frames == 5
    Path(path, "0/zarr.json").write_text("{}")
    with pytest.raises(DataIntegrityError, match=r"m\.zarr: no movie store can be opened"):
        layout_of(path)
