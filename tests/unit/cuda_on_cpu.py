"""CUDA C run on the CPU: the same source through g++, a block's threads as real threads that meet at barriers. For small cases."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SCALARS = {np.int32: ctypes.c_int, np.float64: ctypes.c_double}
SHIM = """
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>
using std::isnan;
using std::max;
using std::min;
#define __global__
#define __device__
#define __shared__ static
struct Index { int x, y; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim;
static std::barrier<>* meeting;
static void __syncthreads() { meeting->arrive_and_wait(); }
static unsigned int __float_as_uint(float value) { unsigned int bits; std::memcpy(&bits, &value, 4); return bits; }
static void atomicAdd(unsigned long long* at, unsigned long long value) { __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
"""
LAUNCH = """
extern "C" void launch_{name}(int blocks_x, int blocks_y, int n_threads, {parameters}) {{
    blockDim.x = n_threads;
    for (blockIdx.y = 0; blockIdx.y < blocks_y; blockIdx.y++) for (blockIdx.x = 0; blockIdx.x < blocks_x; blockIdx.x++) {{
        std::barrier<> here(n_threads);
        meeting = &here;
        std::vector<std::thread> team;
        for (int n = 1; n < n_threads; n++) team.emplace_back([=] {{ threadIdx.x = n; {name}({names}); }});
        threadIdx.x = 0;
        {name}({names});
        for (auto& member : team) member.join();
    }}
}}
"""


def launcher(folder: Path, threads: int) -> Callable[..., None]:
    """A stand-in for `xp.launch` on NumPy arrays, with so many threads a block whatever is asked for."""
    libraries: dict[str, ctypes.CDLL] = {}

    def launch(source: str, name: str, blocks: tuple[int, int], n_threads: int, arguments: tuple[Any, ...]) -> None:
        assert threads <= n_threads
        if source not in libraries:
            libraries[source] = _compiled(source, folder)
        given = [a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else SCALARS[type(a)](a.item()) for a in arguments]
        getattr(libraries[source], f"launch_{name}")(*blocks, threads, *given)

    return launch


def _compiled(source: str, folder: Path) -> ctypes.CDLL:
    kernels = re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source)
    wrappers = [
        LAUNCH.format(name=name, parameters=parameters, names=", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters.strip())))
        for name, parameters in kernels
    ]
    stem = folder / hashlib.sha256(source.encode()).hexdigest()[:16]
    stem.with_suffix(".cpp").write_text("\n".join([SHIM, source, *wrappers]))
    command = ["g++", "-std=c++20", "-O2", "-mfma", "-shared", "-fPIC", "-pthread", "-w", f"{stem}.cpp", "-o", f"{stem}.so"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(f"{stem}.so")
