"""The only file that knows CuPy. Everything else takes its array module from the data it is given."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from scant.errors import DeviceError
from scant.free_memory import free_main_memory_bytes

DEVICES = ("auto", "cpu", "gpu")


def gpu_problem() -> str | None:
    """Why no GPU can be used here, or None when one can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (remedy: `make setup-gpu`)"
    import cupy

    if not cupy.is_available():
        return "CuPy is installed but finds no CUDA device (remedy: check the driver with `nvidia-smi`)"
    return None


def resolve_device(device: str) -> str:
    """'cpu' or 'gpu' for 'auto', 'cpu' or 'gpu'.

    Raises DeviceError for an unknown word, and for 'gpu' where none can be used: never a silent fallback.
    """
    if device not in DEVICES:
        raise DeviceError(f"device: {device!r} is not one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    problem = gpu_problem()
    if device == "gpu" and problem:
        raise DeviceError(f"device: gpu was asked for, but {problem}; or set `device: auto` or `cpu`")
    return "cpu" if problem else "gpu"


def module_for(device: str) -> Any:
    """NumPy for 'cpu', CuPy for 'gpu' (a resolved device)."""
    if device == "gpu":
        import cupy

        return cupy
    return np


def array_module(*arrays: Any) -> Any:
    """The module that the arrays come from; mixed arrays are an error in CuPy itself."""
    for array in arrays:
        if type(array).__module__.partition(".")[0] == "cupy":
            import cupy

            return cupy
    return np


def on_device(*arrays: Any) -> bool:
    """Whether the arrays are a GPU's."""
    return array_module(*arrays) is not np


def to_numpy(array: Any) -> np.ndarray:
    """A NumPy array of the same values, copied from the device where needed."""
    return array.get() if hasattr(array, "get") and type(array).__module__.startswith("cupy") else np.asarray(array)


def launch(source: str, name: str, blocks: tuple[int, int], threads: int, arguments: tuple[Any, ...]) -> None:
    """Run the function `name` of a CUDA C source on the current device: a grid of `blocks`, each of so many threads.

    arguments: arrays of the device, and NumPy scalars of the parameters' types.
    """
    _compiled(source).get_function(name)(blocks, (threads,), arguments)


def with_constants(source: str, constants: Mapping[str, Any]) -> str:
    """A CUDA C source with definitions of constants before it."""
    return "\n".join([*(f"#define {name} {value}" for name, value in constants.items()), source])


@cache
def _compiled(source: str) -> Any:
    import cupy

    return cupy.RawModule(code=source, options=("--std=c++17",))


def from_device(error: BaseException) -> bool:
    """Whether the driver or the device raised it (a lost GPU, a failed launch), and not the code or a lack of memory."""
    module, name = type(error).__module__, type(error).__name__
    if module.partition(".")[0] == "torch" or type(error) is RuntimeError:
        # older versions of PyTorch raise a bare RuntimeError
        return name == "AcceleratorError" or str(error).startswith(("CUDA error", "CUDA driver error", "cuDNN error"))
    return module.startswith(("cupy_backends.cuda", "cupy.cuda")) and not module.startswith("cupy.cuda.compiler")


def out_of_memory(error: BaseException) -> bool:
    """Whether main memory or a device's was short (PyTorch has an error of its own)."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def free_memory_bytes(device: str) -> int:
    """Memory free for arrays on a resolved device."""
    if device == "gpu":
        import cupy

        return int(cupy.cuda.runtime.memGetInfo()[0])
    return free_main_memory_bytes()
