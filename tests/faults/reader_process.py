"""Reads what it is told on stdin, one `KIND PATH` a line, and says what became of it; memory beyond the cap is refused by the kernel."""

from __future__ import annotations

import os
import resource
import sys
import traceback
import warnings

import numpy as np
from scant.config import load_acquisition, parse_config, read_yaml
from scant.errors import ScantError
from scant.io.readers import open_movie, read_frames

MAX_BYTES = 2**26
CAP_BYTES = 2**30


def read_movie(path: str) -> None:
    source = open_movie(path, MAX_BYTES)
    for frame in {0, source.n_frames - 1}:
        assert np.asarray(read_frames(source, frame, frame + 1)).nbytes <= MAX_BYTES


KINDS = {"movie": read_movie, "acquisition": load_acquisition, "config": lambda path: parse_config(read_yaml(path))}


def main() -> None:
    warnings.simplefilter("ignore")
    reply = os.fdopen(os.dup(1), "w")
    # what a library prints must not be taken for a reply
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with open("/proc/self/status") as status:  # noqa: PTH123
        used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (used + CAP_BYTES, used + CAP_BYTES))
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split(" ", 1)
        try:
            KINDS[kind](path)
            answer = "ok"
        except ScantError as error:
            answer = "refused " + str(error).replace("\n", " ")
        except BaseException:
            answer = "crashed " + traceback.format_exc().replace("\n", " | ")
        print(answer, file=reply, flush=True)


if __name__ == "__main__":
    main()
