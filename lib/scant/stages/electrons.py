"""Electronic response of a block's structures: what a worker does for one frame, and the tables that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.analysis.electronic import FrameElectrons, frame_electrons
from scant.analysis.response_sums import PAIRS
from scant.analysis.samples import iterate_samples
from scant.io.structures import read_table
from scant.stages.products import ELECTRONS, ORDERS, SUMS


@dataclass(frozen=True)
class ElectronTask:
    """Reads one frame's atoms and samples and solves their pi bands; only carbon has any, of other crystals nothing is said.

    valley_rad: direction of the lattice vector next to the valley whose field is given.
    """

    atoms: str
    samples: str
    lattice_angstrom: float
    valley_rad: float

    def __call__(self, frame: int) -> tuple[np.ndarray, FrameElectrons | None]:
        atoms = read_table(self.atoms).filter(frame=frame)
        ((rows, drawn),) = iterate_samples(atoms, read_table(self.samples).filter(frame=frame))
        carbon = (atoms["species"] == "C").all()
        return rows.ids, frame_electrons(rows, drawn, self.lattice_angstrom, self.valley_rad) if carbon else None


def electron_tables(done: Mapping[int, tuple[np.ndarray, FrameElectrons | None]]) -> tuple[pl.DataFrame, ...]:
    """Atoms: frame, id, each quantity and its sigma; bonds: frame, id_a, id_b, pi bond order and sigma; null where not known.

    Sums behind correlations: frame, response, shape, n, x, y, xx, yy, xy.
    """
    atoms, bonds, sums = [pl.DataFrame(schema=ELECTRONS)], [pl.DataFrame(schema=ORDERS)], [pl.DataFrame(schema=SUMS)]
    for frame, (ids, found) in done.items():
        nothing = np.full(ids.size, np.nan)
        columns = dict.fromkeys(ELECTRONS, nothing) | {"frame": np.full(ids.size, frame), "id": ids}
        if found is not None:
            for name, (value, sigma) in found.atoms.items():
                columns |= {name: value, f"sigma_{name}": sigma}
            ends = {"id_a": ids[found.pairs[:, 0]], "id_b": ids[found.pairs[:, 1]]}
            orders = {"pi_bond_order": found.bond_order, "sigma_pi_bond_order": found.sigma_bond_order}
            bonds.append(pl.DataFrame({"frame": np.full(len(found.pairs), frame), **ends, **orders}, schema=ORDERS))
            rows = [(frame, *pair, *values) for pair, values in zip(PAIRS, found.sums.tolist())]
            sums.append(pl.DataFrame(rows, schema=SUMS, orient="row"))
        atoms.append(pl.DataFrame(columns, schema=ELECTRONS))
    return pl.concat(atoms).fill_nan(None), pl.concat(bonds).fill_nan(None), pl.concat(sums)
