"""The prior: an interatomic potential on the fixed bond tables of a batch of frames, at the temperature of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from scant.physics import lcbop, tersoff
from scant.physics.lammps import LATTICE_RANGE_ANGSTROM, checked
from scant.physics.lattice import flat_sites
from scant.physics.lcbop import LcbopTable, lcbop_table, stack_lcbop_tables
from scant.physics.rim import RimSprings, rim_springs, stack_rims
from scant.physics.tersoff import NeighbourTable, TersoffParameters, neighbour_table, stack_tables
from scant.units import BOLTZMANN_EV_PER_K

PotentialName = Literal["lcbop", "tersoff"]


class Bonded(Protocol):
    """What the prior needs to know of a frame: see `refine.FrameProblem`."""

    @property
    def positions(self) -> np.ndarray: ...
    @property
    def bonds(self) -> np.ndarray: ...
    @property
    def coordination(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Potential:
    """What the annealer needs to know of a potential beside its energy: its own flat lattice and how stiff it is there.

    Heights are held by bending * L^2 with L the Laplacian of the bond graph, the plane by stretching * L (tests/physics/test_prior.py).
    """

    lattice_constant_angstrom: float
    bending_ev_per_angstrom2: float
    stretching_ev_per_angstrom2: float


POTENTIALS = {
    "lcbop": Potential(lcbop.FLAT_LATTICE_CONSTANT_ANGSTROM, 0.80, 15.5),
    "tersoff": Potential(TersoffParameters().lattice_constant_angstrom, 2.1, 15.5),
}


@dataclass(frozen=True)
class Prior:
    """Potential energy of F stacked structures in units of k_B T; the kind of `table` decides which potential it is.

    `scale`: lengths of the potential per length of the sample, so that the flat sheet has the sample's lattice constant,
    U'(x) = U(x a0 / a).
    """

    table: LcbopTable | NeighbourTable
    rim: RimSprings
    scale: float
    temperature_k: float

    def on(self, xp: Any) -> Prior:
        """The same prior in the memory of another array module."""
        return replace(self, table=self.table.on(xp), rim=self.rim.on(xp))

    def energy_and_gradient(self, positions: Any) -> tuple[Any, Any]:
        """U / (k_B T), (F,), in float64 and its gradient in 1/A, (F, N, 3), at positions (F, N, 3) in A."""
        lengths = positions * positions.dtype.type(self.scale)
        if isinstance(self.table, LcbopTable):
            energy_ev, gradient = lcbop.energy_and_gradient(lengths, self.table)
        else:
            energy_ev, gradient = tersoff.energy_and_gradient(lengths, self.table, TersoffParameters())
        gradient = gradient * gradient.dtype.type(self.scale)
        rim_ev, slope = self.rim.energy_and_slope(positions[..., 2].reshape(-1))
        energy_ev = energy_ev + rim_ev.reshape(positions.shape[:-1]).sum(axis=-1, dtype=np.float64)
        gradient[..., 2] += slope.reshape(positions.shape[:-1])
        beta = 1 / (BOLTZMANN_EV_PER_K * self.temperature_k)
        return energy_ev * beta, gradient * gradient.dtype.type(beta)


def build_prior(
    frames: Sequence[Bonded], n_replicas: int, potential: PotentialName, lattice_constant_angstrom: float, temperature_k: float
) -> Prior:
    """Prior of all frames with `n_replicas` copies each side by side, padded to the largest frame; InputError outside 2.2 to 2.8 A."""
    checked(lattice_constant_angstrom, "lattice constant", "A", *LATTICE_RANGE_ANGSTROM)
    own = POTENTIALS[potential].lattice_constant_angstrom
    tables, rims, chosen = [], [], []
    for frame in frames:
        bonds = neighbour_table(frame.bonds, len(frame.positions), coordination=frame.coordination)
        sites = flat_sites(frame.positions, frame.bonds, own)
        tables += [bonds] * n_replicas
        rims += [rim_springs(sites, np.asarray(bonds.lost) > 0, own)] * n_replicas
        if potential == "lcbop":
            chosen += [lcbop_table(bonds, sites)] * n_replicas
    stacked = stack_tables(tables)
    table = stack_lcbop_tables(chosen, stacked) if potential == "lcbop" else stacked
    return Prior(table, stack_rims(rims, stacked.shape[-1]), own / lattice_constant_angstrom, temperature_k)
