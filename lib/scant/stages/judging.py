"""Structures of a block through molecular dynamics: what a worker does for one frame, and the tables of verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from scant.errors import FrameFailure
from scant.io.structures import read_table
from scant.physics.md import MdSettings, MdVerdict, judge_structure
from scant.rng import seed_of

TEXTS, COUNTS = ("verdict", "reason"), ("n_atoms", "bonds_broken", "bonds_formed")
NUMBERS = (
    "rms_displacement_angstrom", "max_displacement_angstrom", "energy_per_atom_ev", "relaxed_energy_per_atom_ev",
    "md_temperature_k", "md_energy_per_atom_ev", "mean_bond_angstrom", "sd_bond_angstrom",
)  # fmt: skip


@dataclass(frozen=True)
class JudgeTask:
    """Reads one frame's atoms and judges them; the velocities are seeded by run seed and frame."""

    atoms: str
    settings: MdSettings
    seed: int

    def __call__(self, frame: int) -> MdVerdict:
        rows = read_table(self.atoms).filter(frame=frame)
        positions = rows.select("x_angstrom", "y_angstrom", "z_angstrom").to_numpy()
        return judge_structure(positions, rows["species"].to_list(), settings=self.settings, seed=seed_of(self.seed, "md", frame))


def md_table(verdicts: Mapping[int, MdVerdict]) -> pl.DataFrame:
    """One row per frame with its verdict, reason and figures."""
    schema = {"frame": pl.Int64, **dict.fromkeys(TEXTS, pl.String), **dict.fromkeys(COUNTS, pl.Int64), **dict.fromkeys(NUMBERS, pl.Float64)}
    rows = [{"frame": frame, **{key: getattr(verdict, key) for key in (*TEXTS, *COUNTS, *NUMBERS)}} for frame, verdict in verdicts.items()]
    return pl.DataFrame(rows, schema=schema).sort("frame").fill_nan(None)


def verdict_failures(verdicts: Mapping[int, MdVerdict]) -> list[FrameFailure]:
    """Ledger rows for structures that LAMMPS could not simulate; their logs are in the stage's .lammps.json."""
    remedy = "see the log in validate/*.lammps.json; the structure itself may be wrong"
    return [
        FrameFailure(frame, "validate", "md failed", verdict.reason, remedy)
        for frame, verdict in verdicts.items()
        if verdict.verdict == "failed"
    ]
