"""Strain, curvature and pyramidalisation of every atom in one table, each with the sigma that the samples of the posterior give it."""

from __future__ import annotations

import numpy as np
import polars as pl

from scant.analysis.curvature import curvature_table
from scant.analysis.neighbours import POSITION
from scant.analysis.posterior_spread import posterior_sigma
from scant.analysis.pyramidalisation import pyramidalisation_table
from scant.analysis.samples import iterate_samples
from scant.analysis.strain import strain_table

SIGMA = "sigma_"


def surface_table(atoms: pl.DataFrame, lattice_angstrom: float, samples: pl.DataFrame | None) -> pl.DataFrame:
    """Of posterior means, one row per frame and atom: the columns of the strain, curvature and pyramidalisation tables.

    samples: frame, id, draw, x_angstrom, y_angstrom, z_angstrom; where a frame has two or more, sigma is the spread over them. Without,
    sigma takes the errors of all atoms for independent, an upper bound.
    """
    table = _columns(atoms, lattice_angstrom)
    if samples is None or not table.height:
        return table
    names = [name for name in table.columns if SIGMA + name in table.columns]
    sigmas = [_spread(atoms, samples, names, lattice_angstrom, frame) for frame in table["frame"].unique(maintain_order=True)]
    known = pl.concat(sigmas)
    return table.with_columns(
        pl.when(known[SIGMA + name].is_finite()).then(known[SIGMA + name]).otherwise(pl.col(SIGMA + name)).alias(SIGMA + name)
        for name in names
    )


def _columns(atoms: pl.DataFrame, lattice_angstrom: float) -> pl.DataFrame:
    table = strain_table(atoms, lattice_angstrom)
    for other in (curvature_table(atoms), pyramidalisation_table(atoms)):
        table = table.join(other, on=["frame", "id"], how="left", maintain_order="left")
    return table


def _spread(atoms: pl.DataFrame, samples: pl.DataFrame, names: list[str], lattice_angstrom: float, frame: int) -> pl.DataFrame:
    """sigma_NAME of a frame's atoms, in their order, over its samples; where an atom's quadric weighs its neighbours as in the table."""
    of_frame = atoms.filter(frame=frame).sort("id")
    ((_, drawn),) = iterate_samples(of_frame, samples.filter(frame=frame))
    moved = [of_frame.with_columns(**{name: pl.Series(xyz[:, k]) for k, name in enumerate(POSITION)}) for xyz in drawn]
    values = np.stack([_columns(m, lattice_angstrom).select(names).to_numpy() for m in moved])
    return pl.DataFrame({SIGMA + name: posterior_sigma(values[:, :, k]) for k, name in enumerate(names)})
