"""Open a movie in any supported format, check that it is whole, and read frames of it on demand."""

from __future__ import annotations

import functools
import glob
import re
from collections import Counter
from pathlib import Path

import numpy as np

from scant.errors import InputError
from scant.io.arrays import open_mrc, open_npy, open_zarr
from scant.io.rosetta import MODULES, open_rosetta
from scant.io.ser import open_ser, ser_of_emi
from scant.io.source import MovieSource, Opened
from scant.io.tiff import open_tiff

__all__ = ["MAX_BYTES", "MovieSource", "open_movie", "read_frames", "read_reference"]

MAX_BYTES = 64 * 2**20
# deflate reaches 1,030 on blanks; sparse counted frames stay under 200
EXPANSION_MAX = 500
OPENERS = {
    ".tif": open_tiff, ".tiff": open_tiff, ".mrc": open_mrc, ".mrcs": open_mrc, ".npy": open_npy, ".zarr": open_zarr, ".ser": open_ser,
    **dict.fromkeys(MODULES, open_rosetta),
}  # fmt: skip


def open_movie(path: str, max_bytes: int = MAX_BYTES) -> MovieSource:
    """Describe the movie in a file, a .zarr folder, an .emi (its .ser is read), or a glob of single frames.

    A file that decodes to more than `max_bytes` and more than 500 times its size on disk is refused before decoding: no camera's
    frames compress so well, but bombs do. Raises InputError, naming the file, for everything that cannot be read as one whole movie.
    """
    if not Path(path).exists() and glob.has_magic(path):
        return _open_sequence(path, max_bytes)
    file = Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such file or folder; check the path, `movie:` where it stands in acquisition.yaml")
    if file.suffix.lower() == ".emi":
        file = ser_of_emi(file)
    opened = _opened(str(file), file.stat().st_mtime_ns)
    if opened.decoded_bytes > max_bytes and opened.decoded_bytes > EXPANSION_MAX * opened.stored_bytes:
        raise InputError(
            f"{path}: declares {opened.decoded_bytes} bytes of pixels in {opened.stored_bytes} bytes on disk "
            f"(allowed: {EXPANSION_MAX} times, or {max_bytes} bytes in all): damaged or a decompression bomb; export the movie again"
        )
    # one frame is decoded now, so that a codec that is not installed is found before a long run starts
    read_frames(opened.source, 0, 1)
    return opened.source


def read_frames(source: MovieSource, start: int, stop: int) -> np.ndarray:
    """Frames [start, stop) as (t, y, x) in the file's type and native byte order; reads only what is asked where the format allows.

    Raises InputError for frames outside the movie, and when the file changed or broke since it was opened.
    """
    if not 0 <= start < stop <= source.n_frames:
        raise InputError(f"{source.paths[0]}: frames {start} to {stop} asked for; allowed: 0 to {source.n_frames}, at least one")
    if len(source.paths) > 1:
        frames = np.concatenate([_read_one(path, 0, 1) for path in source.paths[start:stop]])
    else:
        frames = _read_one(source.paths[0], start, stop)
    expected = (stop - start, source.height_px, source.width_px)
    if frames.shape != expected or frames.dtype.name != source.dtype:
        raise InputError(
            f"{source.paths[0]}: frames {start} to {stop}: expected {expected} {source.dtype}, found {frames.shape} {frames.dtype}; "
            "the file changed since it was opened"
        )
    return np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("="))


def read_reference(path: str | None) -> np.ndarray | None:
    """Mean (y, x) float32 over the frames of a dark or flat reference; None for none. Errors as `open_movie`."""
    if path is None:
        return None
    source = open_movie(path)
    return read_frames(source, 0, source.n_frames).mean(axis=0, dtype=np.float64).astype(np.float32)


def _open(file: Path) -> Opened:
    opener = OPENERS.get(file.suffix.lower())
    if opener is None and file.is_dir():
        raise InputError(f"{file}: a folder that is no .zarr; single frames are given as a pattern in quotes, such as '{file}/*.tif'")
    if opener is None:
        raise InputError(
            f"{file}: unknown format {file.suffix or '(no ending)'}; allowed: .emi {' '.join(sorted(OPENERS))}, or a glob of frames"
        )
    if file.is_dir() != (opener is open_zarr):
        raise InputError(
            f"{file}: expected a {'folder' if opener is open_zarr else 'file'}; a Zarr movie is a folder, all others are files"
        )
    if file.is_file() and not file.stat().st_size:
        raise InputError(f"{file}: expected a movie, found 0 bytes; copy or export the file again")
    try:
        return opener(file)
    except InputError:
        raise
    # what a foreign parser raises on a damaged header is anyone's guess
    except Exception as error:
        raise InputError(f"{file}: cannot be read as {file.suffix} ({type(error).__name__}: {error}); copy or export it again") from error


@functools.lru_cache(maxsize=16)
def _opened(path: str, modified_ns: int) -> Opened:
    # one open file per process and movie: a worker that reads frame by frame must not parse the whole header each time
    return _open(Path(path))


def _read_one(path: str, start: int, stop: int) -> np.ndarray:
    try:
        return _opened(path, Path(path).stat().st_mtime_ns).read(start, stop)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: frames {start} to {stop} cannot be decoded ({type(error).__name__}: {error}); export the file again"
        ) from error


def _open_sequence(pattern: str, max_bytes: int) -> MovieSource:
    paths = sorted(glob.glob(pattern), key=_natural_key)  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not paths:
        raise InputError(f"{pattern}: no file matches; check the pattern, `movie:` where it stands in acquisition.yaml")
    if len(paths) == 1:
        return open_movie(paths[0], max_bytes)
    _check_numbers(pattern, paths)
    sources = [open_movie(path, max_bytes) for path in paths]
    if stacks := [f"{Path(s.paths[0]).name} ({s.n_frames})" for s in sources if s.n_frames != 1]:
        raise InputError(f"{pattern}: expected single frames, found {len(stacks)} stacks: {_some(stacks)}; name one stack as the movie")
    kinds = Counter((s.height_px, s.width_px, s.dtype) for s in sources)
    if len(kinds) > 1:
        usual = kinds.most_common(1)[0][0]
        odd = [Path(s.paths[0]).name for s in sources if (s.height_px, s.width_px, s.dtype) != usual]
        listed = ", ".join(f"{n} of {h} x {w} {d}" for (h, w, d), n in kinds.most_common())
        raise InputError(f"{pattern}: mixed frames: {listed}; the odd ones are {_some(odd)}; narrow the pattern or export them again")
    first = sources[0]
    return MovieSource(
        tuple(path for s in sources for path in s.paths), len(paths), first.height_px, first.width_px, first.dtype,
        first.pixel_size_angstrom, first.frame_time_ms, first.voltage_kv, first.reader, first.metadata, first.notes,
    )  # fmt: skip


def _natural_key(path: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]


def _check_numbers(pattern: str, paths: list[str]) -> None:
    """The frames' numbers (the one run of digits that changes) follow each other without a gap or a double."""
    numbered = [re.findall(r"\d+", Path(path).name) for path in paths]
    changing = [i for i in range(min(map(len, numbered))) if len({row[i] for row in numbered}) > 1]
    if len({len(row) for row in numbered}) > 1 or len(changing) != 1:
        raise InputError(
            f"{pattern}: {len(paths)} files with no single running number ({_some([Path(p).name for p in paths])}); narrow the pattern"
        )
    numbers = Counter(int(row[changing[0]]) for row in numbered)
    expected = range(min(numbers), max(numbers) + 1)
    missing = [str(n) for n in expected if n not in numbers]
    doubled = [str(n) for n, count in numbers.items() if count > 1]
    if missing or doubled:
        raise InputError(
            f"{pattern}: expected {len(expected)} frames numbered {expected[0]} to {expected[-1]}, found {len(paths)} files; "
            f"missing: {_some(missing) or 'none'}; double: {_some(doubled) or 'none'}; restore them, or name a pattern without the gap"
        )


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
