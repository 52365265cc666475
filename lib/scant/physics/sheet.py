"""Thermal sheets for simulated movies: rippled free-standing graphene at temperature, snapshot after snapshot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scant.errors import InputError
from scant.physics.lammps import LATTICE_RANGE_ANGSTROM, Simulation, checked, checked_potential
from scant.physics.lattice import pairs_within, stone_wales
from scant.rng import stream

DEFECT_SPACING_ANGSTROM = 8.0
BOND_CUTOFF_PER_LATTICE_CONSTANT = 0.7


@dataclass(frozen=True)
class SheetSettings:
    """A periodic sheet that covers a view of width x height with a margin on every side. Raises InputError out of range.

    The sheet is compressed by `compression` of its lattice constant in x and y: a free-standing sheet held so buckles into
    ripples (0.5 % over 40 A: 0.3 to 0.8 A rms; 1 %: 0.9 A). The first frame comes after `equilibration_ps`. Defects lie in the view, or in
    its central square of side `defect_zone_angstrom`.
    """

    width_angstrom: float
    height_angstrom: float
    n_frames: int
    frame_interval_ps: float = 0.2
    temperature_k: float = 300.0
    lattice_constant_angstrom: float = 2.46
    potential: str = "tersoff"
    compression: float = 0.005
    margin_angstrom: float = 6.0
    equilibration_ps: float = 2.0
    vacancies: int = 0
    stone_wales: int = 0
    defect_zone_angstrom: float | None = None

    def __post_init__(self) -> None:
        checked(self.width_angstrom, "width", "A", 5.0, 2000.0)
        checked(self.height_angstrom, "height", "A", 5.0, 2000.0)
        checked(self.n_frames, "number of frames", "", 1, 1_000_000)
        checked(self.frame_interval_ps, "frame interval", "ps", 0.001, 1e4)
        checked(self.temperature_k, "temperature", "K", 1.0, 5000.0)
        checked(self.lattice_constant_angstrom, "lattice constant", "A", *LATTICE_RANGE_ANGSTROM)
        checked_potential(self.potential)
        checked(self.compression, "compression", "", -0.02, 0.05)
        checked(self.margin_angstrom, "margin", "A", 0.0, 200.0)
        checked(self.equilibration_ps, "equilibration", "ps", 0.0, 1e4)


@dataclass(frozen=True)
class ThermalSheet:
    """Snapshots of one sheet: positions (t, N, 3) in A, species (N,), atom ids (N,) from 0, and the period (x, y) in A.

    The view is 0 <= x <= width, 0 <= y <= height. x and y are not wrapped, so an atom's path is continuous, and the common
    drift is taken out; z is relative to the mean plane of each snapshot.
    """

    positions: np.ndarray
    species: np.ndarray
    ids: np.ndarray
    cell_angstrom: tuple[float, float]


def thermal_sheet(settings: SheetSettings, seed: int) -> ThermalSheet:
    """Run a sheet in LAMMPS (Nose-Hoover) and return its snapshots; deterministic for a seed.

    Raises InputError when the defects asked for do not fit, SimulationError when LAMMPS cannot run it.
    """
    rng = stream(seed, "sheet")
    flat, cell = _flat_sheet(settings)
    flat = _with_defects(flat, cell, settings, rng)
    start = np.column_stack([flat, 0.05 * rng.standard_normal(len(flat))])
    frames = np.empty((settings.n_frames, *start.shape))
    carbon = np.full(len(start), "C")
    with Simulation(
        start, carbon, potential=settings.potential, lattice_constant_angstrom=settings.lattice_constant_angstrom, cell_angstrom=cell
    ) as simulation:
        simulation.minimise(200)
        simulation.start_nvt(settings.temperature_k, seed=int(rng.integers(2**31)))
        simulation.run(settings.equilibration_ps)
        for frame in range(settings.n_frames):
            if frame:
                simulation.run(settings.frame_interval_ps)
            frames[frame] = simulation.positions()
    frames -= frames.mean(axis=1, keepdims=True)
    frames[..., :2] += flat.mean(axis=0)
    return ThermalSheet(frames, carbon, np.arange(len(start)), cell)


def _flat_sheet(settings: SheetSettings) -> tuple[np.ndarray, tuple[float, float]]:
    """The compressed flat sheet (N, 2), centred on the view, and its period; zigzag rows along x."""
    a = settings.lattice_constant_angstrom * (1 - settings.compression)
    unit = np.array([a, math.sqrt(3) * a])
    view = np.array([settings.width_angstrom, settings.height_angstrom])
    repeats = np.ceil((view + 2 * settings.margin_angstrom) / unit).astype(int)
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    basis = np.array([[0.25, 1 / 12], [0.75, 0.25], [0.75, 7 / 12], [0.25, 0.75]])
    positions = ((corners + basis) * unit).reshape(-1, 2) + (view - repeats * unit) / 2
    width, height = (repeats * unit).tolist()
    return positions, (width, height)


def _with_defects(flat: np.ndarray, cell: tuple[float, float], settings: SheetSettings, rng: np.random.Generator) -> np.ndarray:
    """Turn bonds and take atoms out at random places inside the zone, at least `DEFECT_SPACING_ANGSTROM` apart."""
    view = np.array([settings.width_angstrom, settings.height_angstrom])
    zone = view if settings.defect_zone_angstrom is None else np.full(2, settings.defect_zone_angstrom)
    wanted = settings.vacancies + settings.stone_wales
    places: list[np.ndarray] = []
    for candidate in rng.permutation(flat[(np.abs(flat - view / 2) < zone / 2).all(axis=1)]):
        if len(places) < wanted and all(np.linalg.norm(candidate - place) >= DEFECT_SPACING_ANGSTROM for place in places):
            places.append(candidate)
    if len(places) < wanted:
        raise InputError(f"{wanted} defects do not fit {zone[0]:g} x {zone[1]:g} A; {len(places)} do, at {DEFECT_SPACING_ANGSTROM} A")
    gone = [int(np.linalg.norm(flat - place, axis=1).argmin()) for place in places[: settings.vacancies]]
    for place in places[settings.vacancies :]:
        bonds = pairs_within(flat, BOND_CUTOFF_PER_LATTICE_CONSTANT * settings.lattice_constant_angstrom)
        nearest = int(np.linalg.norm(flat[bonds].mean(axis=1) - place, axis=1).argmin())
        flat = stone_wales(flat, bonds, nearest)[0]
    return np.delete(flat, gone, axis=0)
