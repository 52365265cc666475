"""Snakemake that looks at its jobs every two seconds: on a cluster the pause between two looks grows to minutes, and a test only waits.

It hears Ctrl-C as in a terminal, also where the tests run in a shell's background (`make slurm-test &`), whose processes ignore SIGINT.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from snakemake.cli import main

LONGEST_PAUSE_S = 2.0
patient = asyncio.sleep


async def impatient(seconds: float, *result: Any) -> Any:
    return await patient(min(seconds, LONGEST_PAUSE_S), *result)


if __name__ == "__main__":
    asyncio.sleep = impatient
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
