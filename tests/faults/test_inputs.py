"""Broken, mistyped and hostile inputs (F13, F15 and the attacks): refused before decoding, naming file, expected and found."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from scant.errors import InputError
from scant.io.readers import open_movie, read_frames


def stack(n: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9000, (n, 32, 40)).astype("uint16")


def cut(path: Path, fraction: float) -> Path:
    data = path.read_bytes()
    target = path.with_name(f"cut{path.suffix}")
    target.write_bytes(data[: int(len(data) * fraction)])
    return target


KINDS = {"plain": {"metadata": None}, "shaped": {}, "imagej": {"imagej": True}, "ome": {"ome": True}, "zlib": {"compression": "zlib"}}


@pytest.mark.fault("F13")
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_cut_tiff_is_refused_with_both_counts(tmp_path: Path, kind: str, fraction: float) -> None:
    tifffile.imwrite(tmp_path / "m.tif", stack(), photometric="minisblack", **KINDS[kind])
    with pytest.raises(InputError, match=r"cut\.tif: .*expected .*found"):
        open_movie(str(cut(tmp_path / "m.tif", fraction)))


def test_cut_tiff_says_how_many_frames_are_left(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for frame in stack():
            writer.write(frame, metadata=None, contiguous=False)
    with pytest.raises(InputError, match="expected 8 frames, found 7"):
        open_movie(str(cut(tmp_path / "m.tif", 0.999)))


def test_imagej_stack_with_a_single_directory_counts_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack(), imagej=True, truncate=True)
    assert open_movie(str(path)).n_frames == 8
    data = path.read_bytes()
    path.write_bytes(data[: -3 * 32 * 40 * 2])
    with pytest.raises(InputError, match="expected 8 frames, found 5"):
        open_movie(str(path))


def test_cut_mrc(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "m.mrc") as file:
        file.set_data(stack())
    with pytest.raises(InputError, match="expected 8 frames, found 3"):
        open_movie(str(cut(tmp_path / "m.mrc", 0.5)))
    with pytest.raises(InputError, match="header of 1024 bytes, found"):
        open_movie(str(cut(tmp_path / "m.mrc", 0.01)))


@pytest.mark.fault("F13")
@pytest.mark.parametrize("name", ["dmTest_3D_int16_64,65,66.dm3", "dmTest_3D_int16_64,65,66.dm4", "64x64x5_TEM_preview_1.ser"])
@pytest.mark.parametrize("fraction", [0.0001, 0.5, 0.999])
def test_cut_vendor_file(shared_data: Path, tmp_path: Path, name: str, fraction: float) -> None:
    copy = tmp_path / name
    copy.write_bytes((shared_data / "formats" / name).read_bytes())
    with pytest.raises(InputError, match=rf"cut\{copy.suffix}: .*expected.*found|cut\{copy.suffix}: not a"):
        open_movie(str(cut(copy, fraction)))


def test_cut_ser_counts_its_frames(shared_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m_1.ser"
    copy.write_bytes((shared_data / "formats" / "64x64x5_TEM_preview_1.ser").read_bytes()[:50000])
    with pytest.raises(InputError, match=r"expected 5 frames, found [0-3] "):
        open_movie(str(copy))


@pytest.mark.parametrize("name", ["Acquisition_18.emd", "fei_example_tem_stack.emd"])
def test_cut_hdf5(shared_data: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / name
    copy.write_bytes((shared_data / "formats" / name).read_bytes())
    with pytest.raises(InputError, match=r"cut\.emd: HDF5 cannot open it"):
        open_movie(str(cut(copy, 0.7)))


def test_cut_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", stack())
    with pytest.raises(InputError, match="expected 8 frames, found 4"):
        open_movie(str(cut(tmp_path / "m.npy", 0.6)))


@pytest.mark.fault("F13")
@pytest.mark.parametrize("ending", [".tif", ".mrc", ".dm3", ".dm4", ".emd", ".ser", ".hspy", ".npy"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"not a movie, a note\n" * 80, os.urandom(5000)], ids=["empty", "one", "text", "noise"])
def test_mistyped_file(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"m{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"m\{ending}"):
        open_movie(str(path))


def test_unknown_missing_and_misplaced_paths(tmp_path: Path) -> None:
    (tmp_path / "m.avi").write_bytes(b"x")
    (tmp_path / "m.tif").mkdir()
    (tmp_path / "m.zarr").write_bytes(b"x")
    (tmp_path / "m.emi").write_bytes(b"x")
    for name, message in (
        ("m.avi", "unknown format .avi"), ("none.tif", "no such file"), ("none*.tif", "no file matches"), ("m.tif", "expected a file"),
        ("m.zarr", "expected a folder"), ("m.emi", "found 0: no m_1.ser"), (".", "a folder that is no .zarr; single frames"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            open_movie(str(tmp_path / name))


def test_emi_with_two_series_names_them(shared_data: Path, tmp_path: Path) -> None:
    for suffix in (".emi", "_1.ser", "_2.ser"):
        origin = "64x64x5_TEM_preview" + suffix.replace("_2", "_1")
        (tmp_path / f"m{suffix}").write_bytes((shared_data / "formats" / origin).read_bytes())
    with pytest.raises(InputError, match=r"found 2: m_1\.ser, m_2\.ser"):
        open_movie(str(tmp_path / "m.emi"))
    assert open_movie(str(tmp_path / "m_2.ser")).n_frames == 5


@pytest.mark.parametrize(("values", "message"), [
    (np.zeros((2, 3, 8, 8), "u2"), "no movie"), (np.zeros((2, 8, 8), "c8"), "complex"), (np.zeros((2, 8, 8), bool), "booleans"),
    (np.zeros((2, 8, 8), [("R", "u1"), ("G", "u1")]), "RGB"), (np.zeros((2, 0, 8), "u2"), "no movie"),
])  # fmt: skip
def test_arrays_that_are_no_movie(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "m.npy", values)
    with pytest.raises(InputError, match=message):
        open_movie(str(tmp_path / "m.npy"))


def test_rgb_and_four_dimensional_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 8, 8, 3), "u1"), photometric="rgb")
    tifffile.imwrite(tmp_path / "4d.tif", np.zeros((4, 3, 8, 8), "u2"), photometric="minisblack")
    for name, message in (("rgb.tif", "RGB"), ("4d.tif", "no movie")):
        with pytest.raises(InputError, match=message):
            open_movie(str(tmp_path / name))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "PWNED"),)

    np.save(tmp_path / "m.npy", np.array([[Attack()]], dtype=object), allow_pickle=True)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Attack()))
    for name in ("m.npy", "p.npy"):
        with pytest.raises(InputError, match=name):
            open_movie(str(tmp_path / name))
    assert not (tmp_path / "PWNED").exists()


def test_mixed_pages_are_counted(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for shape in ((8, 8), (8, 8), (8, 9)):
            writer.write(np.zeros(shape, "u2"))
    with pytest.raises(InputError, match=r"2 of 8 x 8 px with 16 bits, 1 of 8 x 9"):
        open_movie(str(tmp_path / "m.tif"))


def frames_on_disk(folder: Path, numbers: list[int]) -> str:
    for number in numbers:
        tifffile.imwrite(folder / f"f_{number}.tif", stack()[number % 8])
    return str(folder / "f_*.tif")


@pytest.mark.fault("F15")
def test_gap_and_double_in_a_sequence(tmp_path: Path) -> None:
    pattern = frames_on_disk(tmp_path, [1, 2, 3, 5, 6, 9])
    with pytest.raises(InputError, match=r"expected 9 frames numbered 1 to 9, found 6 files; missing: 4, 7, 8"):
        open_movie(pattern)
    frames_on_disk(tmp_path, [4, 7, 8])
    assert open_movie(pattern).n_frames == 9
    tifffile.imwrite(tmp_path / "f_03.tif", stack()[0])
    with pytest.raises(InputError, match="double: 3"):
        open_movie(pattern)


def test_mixed_sequence_names_the_odd_ones(tmp_path: Path) -> None:
    pattern = frames_on_disk(tmp_path, [1, 2, 3])
    tifffile.imwrite(tmp_path / "f_2.tif", stack()[0].astype("f4"))
    with pytest.raises(InputError, match=r"2 of 32 x 40 uint16, 1 of 32 x 40 float32; the odd ones are f_2\.tif"):
        open_movie(pattern)
    tifffile.imwrite(tmp_path / "f_2.tif", stack()[:2])
    with pytest.raises(InputError, match=r"found 1 stacks: f_2\.tif \(2\)"):
        open_movie(pattern)


def test_zarr_metadata_that_declares_terabytes(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "m.zarr"), shape=(10**6, 2048, 2048), chunks=(10**6, 2048, 2048), dtype="u2")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 1000
    with pytest.raises(InputError, match="chunks"):
        open_movie(str(tmp_path / "m.zarr"))


def test_tiff_bomb_that_declares_its_size(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", np.zeros((64, 1024, 1024), "u2"), compression="zlib", compressionargs={"level": 9}, rowsperstrip=1024
    )
    assert (tmp_path / "m.tif").stat().st_size < 200_000
    with pytest.raises(InputError, match="bomb"):
        open_movie(str(tmp_path / "m.tif"), max_bytes=2**24)


def test_tiff_bomb_that_says_64_by_64(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(2**25), 9)
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((64, 64), "u2"), compression="zlib", metadata=None)
    data = bytearray((tmp_path / "m.tif").read_bytes())
    directory = struct.unpack_from("<I", data, 4)[0]
    for at in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12):
        code = struct.unpack_from("<H", data, at)[0]
        if code in (273, 279):
            struct.pack_into("<HII", data, at + 2, 4, 1, len(data) if code == 273 else len(bomb))
    (tmp_path / "m.tif").write_bytes(bytes(data) + bomb)
    with pytest.raises(InputError, match="page 0 stores"):
        open_movie(str(tmp_path / "m.tif"))


def berkeley(path: Path, **dataset: object) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/movie")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", **dataset)
        for i, (name, n) in enumerate(zip("tyx", (4, 64, 64)), 1):
            group.create_dataset(f"dim{i}", data=np.arange(n) * 0.1).attrs.update({"name": name, "units": "nm"})


def test_hdf5_absent_chunks_and_pixels_elsewhere(tmp_path: Path) -> None:
    berkeley(tmp_path / "good.emd", data=stack(4)[:, :1, :1].repeat(64, 1).repeat(64, 2), chunks=(1, 64, 64), compression="gzip")
    source = open_movie(str(tmp_path / "good.emd"))
    assert (source.n_frames, source.pixel_size_angstrom) == (4, pytest.approx(1.0))
    assert (read_frames(source, 2, 3) == stack(4)[2, 0, 0]).all()
    berkeley(tmp_path / "sparse.emd", shape=(4, 64, 64), dtype="u2", chunks=(1, 64, 64))
    with pytest.raises(InputError, match="expected 4 chunks, found 0"):
        open_movie(str(tmp_path / "sparse.emd"))
    berkeley(tmp_path / "elsewhere.emd", shape=(4, 64, 64), dtype="u2", external=[("/etc/passwd", 0, 4 * 64 * 64 * 2)])
    with pytest.raises(InputError, match="other files"):
        open_movie(str(tmp_path / "elsewhere.emd"))


def test_file_that_changes_after_it_was_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", stack())
    source = open_movie(str(tmp_path / "m.npy"))
    np.save(tmp_path / "m.npy", stack().astype("f4"))
    with pytest.raises(InputError, match="changed since"):
        read_frames(source, 0, 2)


def test_damaged_zlib_strip_names_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack(), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[5].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 20] = bytes(20)
    path.write_bytes(data)
    source = open_movie(str(path))
    assert read_frames(source, 4, 5).shape == (1, 32, 40)
    with pytest.raises(InputError, match=r"frames 5 to 6 cannot be decoded"):
        read_frames(source, 5, 6)


def test_codec_that_is_not_installed_is_found_when_the_movie_is_opened(tmp_path: Path) -> None:
    Image.fromarray(stack()[0]).save(tmp_path / "m.tif", compression="tiff_lzw")
    with pytest.raises(InputError, match=r"m\.tif: frames 0 to 1 cannot be decoded .*imagecodecs"):
        open_movie(str(tmp_path / "m.tif"))


def test_names_are_only_names(tmp_path: Path) -> None:
    odd = tmp_path / "x; touch PWNED [1].npy"
    np.save(odd, stack())
    assert open_movie(str(odd)).paths == (str(odd),)
    assert json.dumps(open_movie(str(odd)).paths)
