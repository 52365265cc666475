"""A module that behaves like CuPy towards NumPy, on the CPU: what lies on the "device" never mixes with what lies on the host.

As in CuPy, an array converts to NumPy by `get` alone, and functions and operators refuse NumPy arrays beside their own; scalars and indices
may come from the host, `asarray` brings an array over. What such a module cannot show: a device's memory, rounding and speed.
"""

from __future__ import annotations

import importlib.machinery
import operator
import sys
import types
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import launcher

FROM_HOST = {"asarray", "array"}


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the device. Its module is said to be cupy, by which `scant.xp` knows it."""

    def __init__(self, host: Any) -> None:
        self.host = np.asarray(host)

    def get(self) -> np.ndarray:
        return self.host.copy()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        return to_device(getattr(ufunc, method)(*to_host(inputs), **to_host(named)))

    def __array_function__(self, function: Any, _: Any, inputs: Any, named: Any) -> Any:
        return to_device(function(*to_host(inputs), **to_host(named)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.host, name)
        return called(value) if callable(value) else to_device(value)

    def __getitem__(self, index: Any) -> Any:
        return to_device(self.host[index_on_host(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.host[index_on_host(index)] = to_host(value)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Any:
        return (to_device(part) for part in self.host)

    def __bool__(self) -> bool:
        return bool(self.host)

    def __float__(self) -> float:
        return float(self.host)

    def __int__(self) -> int:
        return int(self.host)

    def __index__(self) -> int:
        return operator.index(self.host[()])


ndarray.__module__ = "cupy"


def to_host(value: Any) -> Any:
    """Arguments of a call as NumPy ones; TypeError for an array that lies on the host already."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}: a NumPy array of shape {value.shape} beside CuPy's")
    if isinstance(value, (tuple, list)):
        return type(value)(to_host(part) for part in value)
    return {name: to_host(part) for name, part in value.items()} if isinstance(value, dict) else value


def index_on_host(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(index_on_host(part) for part in index)
    return index.host if isinstance(index, ndarray) else index


def to_device(value: Any) -> Any:
    """Results of a call as device arrays; CuPy keeps even single numbers there."""
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(value)
    return type(value)(to_device(part) for part in value) if type(value) in (tuple, list) else value


def called(function: Any) -> Any:
    return lambda *given, **named: to_device(function(*to_host(given), **to_host(named)))


class Module(types.ModuleType):
    """The stand-in for a module of NumPy: `cupy`, `cupy.fft`."""

    def __init__(self, name: str, original: Any) -> None:
        super().__init__(name)
        self.original = original
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.original, name)
        if name in FROM_HOST:
            return lambda given, *more, **named: ndarray(
                value(given.host if isinstance(given, ndarray) else np.array(given), *more, **named)
            )
        return called(value) if callable(value) and not isinstance(value, type) else value


@pytest.fixture
def stand_in(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`cupy` as said above, device and memory included; CUDA sources run on the CPU, a thread a block."""
    cupy = Module("cupy", np)
    run = launcher(tmp_path, 1)

    class RawModule:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            self.code = code

        def get_function(self, name: str) -> Any:
            return lambda blocks, threads, given: run(self.code, name, blocks, threads[0], to_host(given))

    runtime = types.SimpleNamespace(memGetInfo=lambda: (2**33, 2**34))
    beyond_numpy = {
        "ndarray": ndarray, "fft": Module("cupy.fft", np.fft), "is_available": lambda: True, "RawModule": RawModule,
        "cuda": types.SimpleNamespace(runtime=runtime),
    }  # fmt: skip
    cupy.__dict__.update(beyond_numpy)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy
