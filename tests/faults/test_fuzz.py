"""Mutated movies and settings: each is read or refused by a named error; no crash, no memory beyond the cap, nothing is written."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
VENDOR_FILES = (
    "dmTest_3D_int16_64,65,66.dm3", "dmTest_3D_int16_64,65,66.dm4", "64x64x5_TEM_preview_1.ser", "fei_example_tem_stack.emd",
)  # fmt: skip
EXTREMES = (0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
HEADER_BYTES = 2048
ACQUISITION = {
    "material": "graphene", "movie": "m.tif", "voltage_kV": 80.0, "cs_um": -13.0, "defocus_angstrom": -45.0, "pixel_size_angstrom": 0.2,
}  # fmt: skip


def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (5, 24, 40)).astype("uint16")


def tiff(path: Path, **options: object) -> None:
    tifffile.imwrite(path, stack(), photometric="minisblack", **options)


def mrc(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(stack())


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        group = file.create_group("data/movie")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", data=stack(), chunks=(1, 24, 40), compression="gzip")
        for i, (name, n) in enumerate(zip("tyx", (5, 24, 40)), 1):
            group.create_dataset(f"dim{i}", data=np.arange(n) * 0.1).attrs.update({"name": name, "units": "nm"})


MADE: dict[str, Callable[[Path], object]] = {
    "plain.tif": lambda path: tiff(path, metadata=None),
    "imagej.tif": lambda path: tiff(path, imagej=True),
    "zlib.tif": lambda path: tiff(path, compression="zlib"),
    "m.mrc": mrc,
    "m.emd": hdf5,
    "m.npy": lambda path: np.save(path, stack()),
    "acquisition.yaml": lambda path: path.write_text(yaml.safe_dump(ACQUISITION)),
    "config.yaml": lambda path: path.write_text(yaml.safe_dump({"datasets": {"a": "a/acquisition.yaml"}, "anneal": {"n_samples": 9}})),
}
SINGLE = st.one_of(
    st.tuples(st.just("overwrite"), st.binary(min_size=1, max_size=8)),
    st.tuples(
        st.just("overwrite"),
        st.tuples(st.sampled_from(EXTREMES), st.sampled_from([2, 4, 8]), st.sampled_from("<>")).map(
            lambda v: struct.pack(v[2] + "Q", v[0])[: v[1]] if v[2] == "<" else struct.pack(">Q", v[0])[-v[1] :]
        ),
    ),
    st.tuples(st.just("insert"), st.sampled_from([b"\x00" * 16, b"99999999999", b"-1", b"nan", b"!!python/object:os.system", b"&a [*a]"])),
    st.tuples(st.just("delete"), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("cut"), st.just(b"")),
)
MUTATIONS = st.lists(st.tuples(SINGLE, st.floats(0, 1, exclude_max=True), st.booleans()), min_size=1, max_size=4)


def mutate(data: bytes, mutations: list) -> bytes:
    for (kind, payload), where, in_header in mutations:
        at = int(where * min(len(data), HEADER_BYTES if in_header else len(data)))
        if kind == "overwrite":
            data = data[:at] + payload + data[at + len(payload) :]
        elif kind == "insert":
            data = data[:at] + payload + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(payload) :]
        else:
            data = data[:at]
    return data


class Reader:
    """A process that reads files on request and is started again when it dies."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process: subprocess.Popen | None = None

    def ask(self, kind: str, path: Path) -> str:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "reader_process.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=self.folder,
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{kind} {path}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() or f"died with status {self.process.wait()}"

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Name -> content of every file that is mutated; the vendors' files where the validation data is there."""
    folder = tmp_path_factory.mktemp("sources")
    for name, make in MADE.items():
        make(folder / name)
    array = zarr.create_array(str(folder / "m.zarr"), shape=(5, 24, 40), chunks=(1, 24, 40), dtype="u2")
    array[:] = stack()
    contents = {name: (folder / name).read_bytes() for name in MADE}
    contents["m.zarr"] = (folder / "m.zarr/zarr.json").read_bytes()
    with suppress(pytest.skip.Exception):
        data = request.getfixturevalue("shared_data") / "formats"
        contents |= {name: (data / name).read_bytes() for name in VENDOR_FILES}
    contents["store"] = str(folder / "m.zarr").encode()
    return contents


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "cwd").mkdir()
    reader = Reader(tmp_path / "cwd")
    yield reader
    reader.end()


def place(folder: Path, name: str, content: bytes, sources: dict[str, bytes]) -> Path:
    """The mutated file where a reader expects it; metadata of a store goes into a copy of the store."""
    if name != "m.zarr":
        (folder / name).write_bytes(content)
        return folder / name
    shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(sources["store"].decode(), folder / name)
    (folder / name / "zarr.json").write_bytes(content)
    return folder / name


def fuzz(n_examples: int, sources: dict[str, bytes], reader: Reader, folder: Path) -> None:
    names = sorted(set(sources) - {"store"})

    @settings(max_examples=n_examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(names), MUTATIONS)
    def one(name: str, mutations: list) -> None:
        path = place(folder, name, mutate(sources[name], mutations), sources)
        answer = reader.ask(name.removesuffix(".yaml") if name.endswith(".yaml") else "movie", path)
        assert answer == "ok" or answer.startswith("refused "), f"{name}: {answer}"
        assert answer == "ok" or name in answer or name == "config.yaml", answer
        assert list(reader.folder.iterdir()) == []

    one()
    assert {path.name for path in folder.iterdir()} <= {*names, "cwd"}


@pytest.mark.fault("F13")
def test_mutated_files_are_read_or_refused(sources: dict[str, bytes], reader: Reader, tmp_path: Path) -> None:
    fuzz(150, sources, reader, tmp_path)


@pytest.mark.slow
@pytest.mark.fault("F13")
def test_a_thousand_mutated_files_are_read_or_refused(sources: dict[str, bytes], reader: Reader, tmp_path: Path) -> None:
    fuzz(1000, sources, reader, tmp_path)
