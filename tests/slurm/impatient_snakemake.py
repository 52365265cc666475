"""Snakemake that looks at its jobs every two seconds: on a cluster the pause between two looks grows to minutes, and a test only waits."""

from __future__ import annotations

import asyncio
from typing import Any

from snakemake.cli import main

LONGEST_PAUSE_S = 2.0
patient = asyncio.sleep


async def impatient(seconds: float, *result: Any) -> Any:
    return await patient(min(seconds, LONGEST_PAUSE_S), *result)


if __name__ == "__main__":
    asyncio.sleep = impatient
    main()
