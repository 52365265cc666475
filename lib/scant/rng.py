"""Counter-based random streams: a frame's numbers depend on its key alone, never on block, order or resume.

Philox 4x64 (Salmon et al., SC'11) keyed by (seed, stage) and counted by (frame, chain).
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, stage: str, frame: int = 0, chain: int = 0) -> np.random.Generator:
    """Independent generator for one (seed, stage, frame, chain); 2**64 draws fit before streams could meet."""
    stage_word = int.from_bytes(hashlib.blake2b(stage.encode(), digest_size=8).digest(), "little")
    philox = np.random.Philox(key=np.array([seed, stage_word], dtype=np.uint64), counter=np.array([0, 0, chain, frame], dtype=np.uint64))
    return np.random.Generator(philox)


def seed_of(seed: int, stage: str, number: int) -> int:
    """Seed for a computation that draws its streams by itself; sums of seeds would make number n of one run number n + 1 of another."""
    return int(stream(seed, stage, number).integers(2**63))
