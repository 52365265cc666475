"""Faults on demand, from outside the library: with SCANT_FAULT="STAGE FRAME KIND" that frame kills, hangs or overloads its worker."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import signal
import sys
import time

KINDS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(3600),
    "memory": lambda: bytearray(2**45),
    "error": lambda: {}["no such key"],
}


class Spoiler(importlib.abc.MetaPathFinder):
    """Lets `scant.io.guard` load as it is, then puts the fault before the frame's work."""

    def find_spec(self, name, path, target=None):
        if name != "scant.io.guard":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            spoil(module)

        spec.loader.exec_module = exec_module
        return spec


def spoil(module) -> None:
    stage, frame, kind = os.environ["SCANT_FAULT"].split()
    run_group = module._run_group

    def spoiled(function, frames, batched, limits):
        def troubled(given):
            if limits.stage == stage and int(frame) in frames:
                KINDS[kind]()
            return function(given)

        return run_group(troubled, frames, batched, limits)

    module._run_group = spoiled


if "SCANT_FAULT" in os.environ:
    sys.meta_path.insert(0, Spoiler())
