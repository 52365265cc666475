"""Every supported format opens with the right frames, type, axes and units, each compared with an independent reader."""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from scant.errors import InputError
from scant.io.readers import MovieSource, open_movie, read_frames


def raw_block(offset: int, dtype: str, shape: tuple[int, ...]) -> Callable[[Path], np.ndarray]:
    """Pixels straight from the file's bytes."""

    def read(path: Path) -> np.ndarray:
        return np.frombuffer(path.read_bytes(), dtype, int(np.prod(shape)), offset).reshape(shape)

    return read


def dm_pixels(dtype: str, shape: tuple[int, ...]) -> Callable[[Path], np.ndarray]:
    """The `Data` array of the right size in DigitalMicrograph's tags: name, (.dm4: length,) %%%%, four type words, pixels."""

    def read(path: Path) -> np.ndarray:
        data, count = path.read_bytes(), int(np.prod(shape))
        name, words = (rb"Data.{8}%%%%", ">QQQQ") if data[3] == 4 else (b"Data%%%%", ">IIII")
        for tag in re.finditer(name, data, re.DOTALL):
            if struct.unpack_from(words, data, tag.end())[3] == count:
                return np.frombuffer(data, dtype, count, tag.end() + struct.calcsize(words)).reshape(shape)
        raise AssertionError(f"no pixels found in {path}")

    return read


def ser_pixels(path: Path) -> np.ndarray:
    data = path.with_name("64x64x5_TEM_preview_1.ser").read_bytes()
    table = struct.unpack_from("<I", data, 22)[0]
    offsets = struct.unpack_from("<5I", data, table)
    # TIA stores the bottom row first
    return np.stack([np.frombuffer(data, "<f4", 4096, o + 50).reshape(64, 64)[::-1] for o in offsets])


def velox_pixels(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.moveaxis(next(iter(file["Data/Image"].values()))["Data"][:], 2, 0)


def berkeley_pixels(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        assert (file["data/single/dim1"].attrs["name"], file["data/single/dim2"].attrs["name"]) == (b"Y", b"X")
        return file["data/single/data"][:][None]


# by hand from each file's metadata: frames, height, width, type, pixel size (A), frame time (ms), voltage (kV), independent pixels
FORMATS = {
    # CalibrationDelta 6.2818e-9 m in the .ser; 200 kV in the .emi's XML
    "64x64x5_TEM_preview.emi": (5, 64, 64, "float32", 62.81833616298531, None, 200.0, ser_pixels),
    "64x64x5_TEM_preview_1.ser": (5, 64, 64, "float32", 62.81833616298531, None, 200.0, ser_pixels),
    # dim1 = Y, dim2 = X with steps of 0.012246 in `n_m`; high tension 200,000 V
    "Acquisition_18.emd": (1, 1024, 1024, "uint16", 0.12246524915099144, None, 200.0, berkeley_pixels),
    # cell -160 A over 16 px: unset
    "Custom_movie.mrc": (30, 16, 16, "uint16", None, None, None, raw_block(1024, "<u2", (30, 16, 16))),
    # x 2 pm, y 3 nm, stack 4 um: three units, and no one pixel size
    "dmTest_3D_int16_64,65,66.dm3": (66, 65, 64, "int16", None, None, None, dm_pixels("<i2", (66, 65, 64))),
    "dmTest_3D_int16_64,65,66.dm4": (66, 65, 64, "int16", None, None, None, dm_pixels("<i2", (66, 65, 64))),
    # Velox: 8.17 pm, 0.8 s, 300 kV; (y, x, t) on disk
    "fei_example_tem_stack.emd": (2, 3, 3, "int16", 0.08172883192297851, 800.0, 300.0, velox_pixels),
    # cell 256 A over 128 px
    "temp.mrc": (3, 128, 128, "float32", 2.0, None, None, raw_block(1024, "<f4", (3, 128, 128))),
    # DigitalMicrograph tags: x 0.169 um, y 1.69 um, 2.5 s
    "test_loading_image_saved_with_DM_stack.tif": (2, 68, 68, "float32", None, 2500.0, None, tifffile.imread),
    # 5.928571 px per micron
    "test_loading_image_saved_with_imageJ_stack.tif": (2, 68, 68, "float32", 1686.747110, None, None, raw_block(76494, ">f4", (2, 68, 68))),
    # 0.05998 um, written with the micro sign
    "test_stackbuilder_imagestack.dm3": (3, 2, 16, "uint32", 599.8290330171585, None, None, dm_pixels("<u4", (3, 2, 16))),
}


@pytest.mark.parametrize("name", FORMATS)
def test_vendor_file(shared_data: Path, name: str) -> None:
    n_frames, height, width, dtype, pixel_size, frame_time, voltage, pixels = FORMATS[name]
    path = shared_data / "formats" / name
    source = open_movie(str(path))
    assert (source.n_frames, source.height_px, source.width_px, source.dtype) == (n_frames, height, width, dtype)
    assert source.pixel_size_angstrom == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-6))
    assert source.frame_time_ms == (None if frame_time is None else pytest.approx(frame_time))
    assert source.voltage_kv == voltage
    assert (source.pixel_size_angstrom is None) == any("pixel size" in note for note in source.notes)
    middle = n_frames // 2
    independent = pixels(path)
    assert independent.shape == (n_frames, height, width)
    frame = read_frames(source, middle, middle + 1)
    assert frame.dtype == np.dtype(dtype) and frame.dtype.isnative
    np.testing.assert_array_equal(frame[0], independent[middle])
    np.testing.assert_array_equal(read_frames(source, 0, n_frames), independent)


@pytest.mark.parametrize("name", FORMATS)
def test_vendor_metadata_is_json_and_the_source_pickles(shared_data: Path, name: str) -> None:
    source = open_movie(str(shared_data / "formats" / name))
    assert json.loads(json.dumps(source.metadata, allow_nan=False)) == source.metadata
    again: MovieSource = pickle.loads(pickle.dumps(source))
    assert again == source
    np.testing.assert_array_equal(read_frames(again, 0, 1), read_frames(source, 0, 1))


def test_the_table_covers_every_file(shared_data: Path) -> None:
    assert {p.name for p in (shared_data / "formats").iterdir()} == set(FORMATS)


def test_validation_movie_reads_frame_by_frame(shared_data: Path) -> None:
    path = shared_data / "graphene-open" / "movie.tif"
    source = open_movie(str(path))
    assert (source.n_frames, source.height_px, source.width_px, source.dtype) == (24, 256, 256, "uint16")
    np.testing.assert_array_equal(read_frames(source, 7, 10), tifffile.imread(path)[7:10])


def stack(n: int = 6, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(2).integers(0, 60000, (n, 11, 17)).astype(dtype)


TIFF_KINDS = {
    "plain": {"metadata": None}, "shaped": {}, "imagej": {"imagej": True}, "ome": {"ome": True}, "big": {"bigtiff": True},
    "zlib": {"compression": "zlib"}, "big-endian": {"byteorder": ">"}, "big-endian-zlib": {"byteorder": ">", "compression": "zlib"},
    "tiled": {"tile": (16, 16)}, "one-directory": {"truncate": True},
}  # fmt: skip


@pytest.mark.parametrize("kind", TIFF_KINDS)
def test_tiff_layouts(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack(), photometric="minisblack", **TIFF_KINDS[kind])
    source = open_movie(str(path))
    assert (source.n_frames, source.dtype) == (6, "uint16")
    frames = read_frames(source, 2, 5)
    assert frames.dtype.isnative
    np.testing.assert_array_equal(frames, stack()[2:5])


def test_tiff_written_frame_by_frame(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for frame in stack():
            writer.write(frame, photometric="minisblack")
    source = open_movie(str(tmp_path / "m.tif"))
    np.testing.assert_array_equal(read_frames(source, 0, 6), stack())


def test_tiff_units_of_imagej_and_ome(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "i.tif", stack(), imagej=True, resolution=(50, 50), metadata={"unit": "nm", "finterval": 0.002, "axes": "TYX"}
    )
    source = open_movie(str(tmp_path / "i.tif"))
    assert (source.pixel_size_angstrom, source.frame_time_ms) == (pytest.approx(0.2), pytest.approx(2.0))
    ome = {"axes": "TYX", "PhysicalSizeX": 20.0, "PhysicalSizeXUnit": "pm", "PhysicalSizeY": 0.02, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "o.ome.tif", stack(), ome=True, metadata=ome)
    assert open_movie(str(tmp_path / "o.ome.tif")).pixel_size_angstrom == pytest.approx(0.2)


def test_printers_resolution_is_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", stack(), resolution=(72, 72), resolutionunit="INCH", metadata=None)
    assert open_movie(str(tmp_path / "m.tif")).pixel_size_angstrom is None


def test_npy_and_zarr(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", stack(dtype=">f4"))
    source = open_movie(str(tmp_path / "m.npy"))
    assert source.dtype == "float32"
    np.testing.assert_array_equal(read_frames(source, 1, 3), stack(dtype="f4")[1:3])
    group = zarr.create_group(str(tmp_path / "m.zarr"))
    group.create_array("0", data=stack(), chunks=(2, 11, 17))
    axes = [{"name": "t", "type": "time", "unit": "millisecond"}] + [{"name": a, "type": "space", "unit": "nanometer"} for a in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 0.02, 0.02]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    source = open_movie(str(tmp_path / "m.zarr"))
    assert (source.n_frames, source.pixel_size_angstrom, source.frame_time_ms) == (6, pytest.approx(0.2), pytest.approx(1.0))
    np.testing.assert_array_equal(read_frames(source, 3, 6), stack()[3:])


def test_hspy(tmp_path: Path) -> None:
    from rsciio.hspy import file_writer

    names, scales, units = ("time", "y", "x"), (0.5, 0.02, 0.02), ("ms", "nm", "nm")
    axes = [
        {
            "_type": "UniformDataAxis",
            "name": n,
            "scale": s,
            "units": u,
            "offset": 0.0,
            "size": k,
            "navigate": n == "time",
            "is_binned": False,
        }
        for n, s, u, k in zip(names, scales, units, stack().shape)
    ]
    signal = {"data": stack(), "axes": axes, "metadata": {"General": {"title": "m"}}, "original_metadata": {}}
    signal |= {
        "package_info": {"package": "test", "package_version": "0"},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "attributes": {"_lazy": False},
    }
    file_writer(str(tmp_path / "m.hspy"), signal)
    source = open_movie(str(tmp_path / "m.hspy"))
    assert (source.n_frames, source.pixel_size_angstrom, source.frame_time_ms) == (6, pytest.approx(0.2), pytest.approx(0.5))
    np.testing.assert_array_equal(read_frames(source, 2, 4), stack()[2:4])


def test_a_single_image_is_a_movie_of_one_frame(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", stack()[0])
    source = open_movie(str(tmp_path / "m.npy"))
    assert (source.n_frames, source.height_px, source.width_px) == (1, 11, 17)
    np.testing.assert_array_equal(read_frames(source, 0, 1), stack()[:1])


def test_glob_of_frames_is_sorted_by_number(tmp_path: Path) -> None:
    for i, frame in enumerate(stack(12)):
        tifffile.imwrite(tmp_path / f"run2_{i}.tif", frame)
    source = open_movie(str(tmp_path / "run2_*.tif"))
    assert source.n_frames == 12
    np.testing.assert_array_equal(read_frames(source, 8, 12), stack(12)[8:])


def test_frames_outside_the_movie_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", stack())
    source = open_movie(str(tmp_path / "m.npy"))
    for start, stop in ((0, 7), (-1, 2), (3, 3)):
        with pytest.raises(InputError, match="allowed: 0 to 6"):
            read_frames(source, start, stop)


def test_reading_one_frame_leaves_the_rest_of_a_big_file_alone(tmp_path: Path) -> None:
    """A sparse 64 GiB movie: anything but a lazy read would fail."""
    n = 2**21
    header = np.lib.format.header_data_from_array_1_0(np.empty((1, 128, 128), "uint16")) | {"shape": (n, 128, 128)}
    with (tmp_path / "m.npy").open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        handle.truncate(handle.tell() + n * 128 * 128 * 2)
    source = open_movie(str(tmp_path / "m.npy"))
    assert source.n_frames == n
    assert not read_frames(source, n - 1, n).any()
