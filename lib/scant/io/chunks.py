"""One chunk of a store on disk: bytes -> blosc (lz4, shuffled) -> crc32c, the codecs that its Zarr metadata names.

Zarr reads and writes the same files; done here, frames are not copied on the way (a quarter of a chunk's time), a file that is absent is an
error instead of zeros, and a chunk's checksum is known without reading it again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import google_crc32c
import numpy as np
from numcodecs import blosc
from zarr.codecs import BloscCodec, Crc32cCodec

CHECKSUM_BYTES = 4
LEVEL = 1
# bytes that blosc packs at a time: counts unpack in three quarters of the time that its own choice takes, means pack in four fifths
BLOCK_BYTES = 2**18
SHUFFLES = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
# where blosc's header has the bytes that a chunk decodes to
DECODED_BYTES = slice(4, 8)

# a worker has the one core that it was given
blosc.use_threads = False


def codecs(dtype: np.dtype) -> tuple[BloscCodec, Crc32cCodec]:
    """What Zarr has to know to read the chunks."""
    return BloscCodec(cname="lz4", clevel=LEVEL, shuffle=_shuffle(dtype), typesize=dtype.itemsize, blocksize=BLOCK_BYTES), Crc32cCodec()


def write_chunk(file: Path, frames: np.ndarray) -> tuple[int, int]:
    """Write a chunk's frames beside its place and rename; returns the checksum of its encoded bytes and the size of the file."""
    encoded = blosc.compress(np.ascontiguousarray(frames), b"lz4", LEVEL, SHUFFLES[_shuffle(frames.dtype)], BLOCK_BYTES)
    checksum = google_crc32c.value(encoded)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as handle:
            handle.write(encoded)
            handle.write(checksum.to_bytes(CHECKSUM_BYTES, "little"))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return checksum, len(encoded) + CHECKSUM_BYTES


def encoded_chunk(file: Path) -> tuple[bytes, int]:
    """A chunk's encoded bytes and their checksum. Raises ValueError where it is not that of the bytes."""
    with file.open("rb") as handle:
        encoded = handle.read(max(os.fstat(handle.fileno()).st_size - CHECKSUM_BYTES, 0))
        stored = int.from_bytes(handle.read(), "little")
    if google_crc32c.value(encoded) != stored:
        raise ValueError("its checksum (crc32c) does not match")
    return encoded, stored


def read_chunk(file: Path, out: np.ndarray) -> None:
    """Decode a chunk into `out`, a contiguous array of its shape and type. Raises ValueError, saying why, for one that is damaged."""
    encoded, _ = encoded_chunk(file)
    decoded_bytes = int.from_bytes(encoded[DECODED_BYTES], "little")
    if decoded_bytes != out.nbytes:
        raise ValueError(f"it decodes to {decoded_bytes} bytes instead of {out.nbytes}")
    blosc.decompress(encoded, out)


def _shuffle(dtype: np.dtype) -> Literal["shuffle", "bitshuffle"]:
    """Counts lose a third by bits; electrons as float32 hardly more by bits than by bytes (31 and 25 %), at twice the time both ways."""
    return "bitshuffle" if dtype.kind in "iu" else "shuffle"
