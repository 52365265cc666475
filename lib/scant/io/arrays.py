"""Movies in plain array formats: MRC by mrcfile, .npy by a memory map without pickle, Zarr (v2, v3, OME-NGFF)."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import zarr
from mrcfile.dtypes import HEADER_DTYPE

from scant.errors import InputError
from scant.io.source import (
    Axis,
    MovieSource,
    Opened,
    checked_dtype,
    frame_time_ms,
    jsonable,
    movie_shape,
    pixel_size_angstrom,
    refuse_truncated,
)

MRC_HEADER_BYTES = 1024
# mode 4 is complex; mode 101 packs two 4-bit pixels into a byte, which mrcfile does not unpack
MRC_PIXEL_BYTES = {0: 1, 1: 2, 2: 4, 4: 8, 6: 2, 12: 2}


def open_mrc(path: Path) -> Opened:
    """Open an .mrc/.mrcs stack. Raises InputError when the header's frames are not all in the file."""
    name = str(path)
    size = path.stat().st_size
    if size < MRC_HEADER_BYTES:
        raise InputError(f"{name}: truncated: expected an MRC header of {MRC_HEADER_BYTES} bytes, found {size}; copy the file again")
    header = _mrc_header(path)
    shape = movie_shape(name, (int(header["nz"]), int(header["ny"]), int(header["nx"])))
    mode = int(header["mode"])
    if mode not in MRC_PIXEL_BYTES:
        raise InputError(f"{name}: MRC mode {mode} cannot be read; allowed: 0, 1, 2, 6, 12: convert it to 16-bit integers")
    frame_bytes = shape[1] * shape[2] * MRC_PIXEL_BYTES[mode]
    offset = MRC_HEADER_BYTES + int(header["nsymbt"])
    refuse_truncated(name, shape[0], max(0, size - offset) // frame_bytes, f"{size} bytes; {offset + shape[0] * frame_bytes} declared")
    with warnings.catch_warnings():
        # permissive, because old writers leave out the map stamp; the sizes are checked above, with counts
        warnings.simplefilter("ignore", RuntimeWarning)
        data: Any = mrcfile.mmap(path, mode="r", permissive=True).data
    kind = checked_dtype(name, data.dtype)
    voxel = [float(header["cella"][a]) / int(header[m]) if int(header[m]) else 0.0 for a, m in (("y", "my"), ("x", "mx"))]
    pixel_size, notes = pixel_size_angstrom(Axis(shape[1], voxel[0], "A"), Axis(shape[2], voxel[1], "A"))
    metadata = {"header": jsonable(header)}
    source = MovieSource((name,), *shape, kind, pixel_size, None, None, "mrcfile", metadata, notes)
    return Opened(source, lambda start, stop: np.array(data.reshape(shape)[start:stop]), size, shape[0] * frame_bytes)


def _mrc_header(path: Path) -> np.void:
    with path.open("rb") as handle:
        header = np.frombuffer(handle.read(MRC_HEADER_BYTES), HEADER_DTYPE)[0]
    # the machine stamp is often wrong or absent; a mode above 255 can only be a swapped one
    return header if 0 <= header["mode"] < 256 else header.view(header.dtype.newbyteorder())


def open_npy(path: Path) -> Opened:
    """Open an .npy array. Raises InputError for pickled objects and for a header that declares more than the file holds."""
    name = str(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as handle:
            major, _ = np.lib.format.read_magic(handle)
            read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            array_shape, _, dtype = read_header(handle)
            offset = handle.tell()
    except ValueError as error:
        raise InputError(f"{name}: no .npy header that can be read ({error}); save the movie with numpy.save") from error
    kind = checked_dtype(name, dtype)
    shape = movie_shape(name, array_shape)
    frame_bytes = shape[1] * shape[2] * dtype.itemsize
    refuse_truncated(name, shape[0], (size - offset) // frame_bytes, f"{size} bytes; {offset + shape[0] * frame_bytes} declared")
    data = np.load(path, mmap_mode="r", allow_pickle=False).reshape(shape)
    notes = ("a .npy file has no calibration",)
    source = MovieSource((name,), *shape, kind, None, None, None, "numpy", {}, notes)
    return Opened(source, lambda start, stop: np.array(data[start:stop]), size, shape[0] * frame_bytes)


def open_zarr(path: Path) -> Opened:
    """Open a Zarr array, or an OME-NGFF group (its first multiscale at full resolution; units from its axes).

    Raises InputError for chunks that are absent (Zarr reads them as the fill value) or stored larger than they decode to.
    """
    name = str(path)
    try:
        node = zarr.open(name, mode="r")
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no Zarr array or group can be opened ({error}); give the folder that holds zarr.json") from error
    attributes = dict(node.attrs)
    array, axes = _full_resolution(name, node, attributes)
    kind = checked_dtype(name, np.dtype(array.dtype))
    shape = movie_shape(name, array.shape)
    _check_chunks(name, array)
    t, y, x = axes
    pixel_size, notes = pixel_size_angstrom(y, x)
    source = MovieSource((name,), *shape, kind, pixel_size, frame_time_ms(t), None, "zarr", jsonable(attributes), notes)
    stored = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    decoded = math.prod(array.cdata_shape) * math.prod(array.chunks) * array.dtype.itemsize
    lead = (0,) * (array.ndim - 3)
    # TIFF-like leading axes of size 1 are taken at their only place

    def read(start: int, stop: int) -> np.ndarray:
        frames = np.asarray(array[(*lead, slice(start, stop))] if array.ndim >= 3 else array[:])
        return frames.reshape((stop - start, *shape[1:]))

    return Opened(source, read, stored, decoded)


def _full_resolution(name: str, node: Any, attributes: dict[str, Any]) -> tuple[Any, tuple[Axis, Axis, Axis]]:
    if isinstance(node, zarr.Array):
        return node, _plain_axes(node.shape)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if not multiscales:
        arrays = sorted(key for key, _ in node.arrays())
        if len(arrays) != 1:
            raise InputError(f"{name}: a Zarr group with {len(arrays)} arrays {arrays} and no OME multiscales; give the path of one array")
        return node[arrays[0]], _plain_axes(node[arrays[0]].shape)
    dataset = multiscales[0]["datasets"][0]
    array = node[dataset["path"]]
    scales = next((c["scale"] for c in dataset.get("coordinateTransformations", []) if c["type"] == "scale"), [None] * array.ndim)
    by_name = {a["name"]: Axis(size, s, a.get("unit")) for a, size, s in zip(multiscales[0]["axes"], array.shape, scales)}
    plain = _plain_axes(array.shape)
    return array, (by_name.get("t", plain[0]), by_name.get("y", plain[1]), by_name.get("x", plain[2]))


def _plain_axes(shape: tuple[int, ...]) -> tuple[Axis, Axis, Axis]:
    padded = (1, 1, 1, *shape)
    return Axis(padded[-3]), Axis(padded[-2]), Axis(padded[-1])


def _check_chunks(name: str, array: Any) -> None:
    missing = array.nchunks - array.nchunks_initialized
    if missing > 0:
        raise InputError(
            f"{name}: expected {array.nchunks} chunks, found {array.nchunks_initialized}: absent ones read as {array.fill_value}; "
            "restore them, or write blank frames out (write_empty_chunks)"
        )
