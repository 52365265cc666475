"""Bending rigidity of a free sheet from the power of its ripples: equipartition, <|h_q|^2> = k_B T / (A kappa q^4).

(Nelson, Piran and Weinberg, Statistical Mechanics of Membranes and Surfaces, 2004; Fasolino, Los and Katsnelson, Nat. Mater. 6, 858
(2007).)
A view is a cut, seen through a window: the steep law leaks from long waves into short ones. What a harmonic sheet with k_B T / kappa = 1
would show in each ring is therefore computed with the frame's own atoms, window and plane, and each ring's ratio to it is an estimate.
Harmonic: from 2.5 times the longest wave's q (longer ones are known through few periods and stiffened by strain) to 0.7 / A (shorter
ones feel the lattice). The interval resamples blocks of neighbouring frames, as ripples outlive a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.analysis.correlation import frame_interval, resampled_frames
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.ripples import MIN_ATOMS, PlaneWaves, without_plane
from scant.analysis.samples import iterate_samples
from scant.units import BOLTZMANN_EV_PER_K

VIEW_ANGSTROM = 60.0
FROM_STEPS, TO_PER_ANGSTROM = 2.5, 0.7
# Waves of the sheet around the view: of a box so many times larger, up to so many steps beyond the rings.
BOX, BEYOND_STEPS = 3, 3
SCHEMA = {
    "frame": pl.Int64, "q_per_angstrom": pl.Float64, "n_waves": pl.Int64,
    **dict.fromkeys(("power_angstrom4", "harmonic_angstrom4", "mean_power_angstrom4", "next_power_angstrom4"), pl.Float64),
}  # fmt: skip


@dataclass(frozen=True)
class Rigidity:
    """Bending rigidity in eV with its 95 % interval (NaN for fewer than three frames) and the number of frames behind it."""

    kappa_ev: float
    low_ev: float
    high_ev: float
    n_frames: int


def ripple_power_table(atoms: pl.DataFrame, samples: pl.DataFrame | None) -> pl.DataFrame:
    """Per frame and ring of q: number of waves, their mean power over samples of the posterior, a harmonic sheet's for k_B T / kappa = 1.

    Samples are as rough as the sheet, unlike their mean. mean_power is that of the posterior mean, next_power its product with the next
    frame's where that follows directly in the table, null elsewhere. Views wider than 60 A are looked at in their middle. Rings and
    harmonic power are those of the first frame's atoms: a block's frames differ by their drift. Frames of fewer than 12 atoms are left
    out; without samples there is no row.
    """
    tables, known, before = [pl.DataFrame(schema=SCHEMA)], None, None
    for frame, drawn in iterate_samples(atoms, samples) if samples is not None else ():
        middle = _middle(frame.xyz_angstrom[:, :2])
        if not frame.has_heights or middle.sum() < MIN_ATOMS:
            continue
        xy = frame.xyz_angstrom[middle, :2]
        if known is None:
            edges = _q_edges(xy)
            known = edges, harmonic_power(xy, edges)
        edges, harmonic = known
        waves = PlaneWaves(xy, edges)
        count, centre = waves.over_rings(None), 0.5 * (edges[1:] + edges[:-1])
        power = np.mean([_rings(waves, waves.power(without_plane(xyz[middle, :2], xyz[middle, 2]))) for xyz in drawn], axis=0)
        mean_power = _rings(waves, waves.power(without_plane(xy, frame.xyz_angstrom[middle, 2])))
        if before is not None and before.frame + 1 == frame.frame:
            tables[-1] = tables[-1].with_columns(next_power_angstrom4=pl.Series(_cross_power(before, frame, edges)))
        columns = (np.full(len(centre), frame.frame), centre, count, power, harmonic, mean_power, [None] * len(centre))
        tables.append(pl.DataFrame(dict(zip(SCHEMA, columns)), schema=SCHEMA))
        before = frame
    return pl.concat(tables).filter(pl.col("n_waves") > 0)


def _rings(waves: PlaneWaves, values: np.ndarray) -> np.ndarray:
    """Mean (r,) of values (w,) over each ring."""
    return waves.over_rings(values) / np.maximum(waves.over_rings(None), 1)


def _cross_power(before: FrameAtoms, after: FrameAtoms, edges: np.ndarray) -> np.ndarray:
    """Mean product (r,) of the amplitudes of two frames over the atoms that both have, where the first has them: drift does not count."""
    _, first, second = np.intersect1d(before.ids, after.ids, assume_unique=True, return_indices=True)
    shared = _middle(before.xyz_angstrom[first, :2])
    first, second = first[shared], second[shared]
    waves = PlaneWaves(before.xyz_angstrom[first, :2], edges)
    heights = (without_plane(f.xyz_angstrom[which, :2], f.xyz_angstrom[which, 2]) for f, which in ((before, first), (after, second)))
    one, other = (waves.amplitude(height) for height in heights)
    return _rings(waves, (one * other.conj()).real)


def harmonic_power(xy_angstrom: np.ndarray, q_edges_per_angstrom: np.ndarray) -> np.ndarray:
    """Mean power (r,), angstrom^4, per ring that a sheet with k_B T / kappa = 1 shows at atoms xy (n, 2) through window and plane."""
    waves = PlaneWaves(xy_angstrom, q_edges_per_angstrom)
    side = BOX * np.ptp(xy_angstrom, axis=0)
    step = 2 * np.pi / side
    k_max = q_edges_per_angstrom[-1] + BEYOND_STEPS * BOX * step.max()
    n = np.ceil(k_max / step).astype(int)
    k = np.stack(np.meshgrid(*(s * np.arange(-m, m + 1) for s, m in zip(step, n)), indexing="ij"), axis=-1).reshape(-1, 2)
    # Of k and -k, which show the same ring powers, one.
    k = k[((k[:, 0] > 0) | ((k[:, 0] == 0) & (k[:, 1] > 0))) & (np.linalg.norm(k, axis=1) <= k_max)]
    shapes = without_plane(xy_angstrom, np.exp(1j * xy_angstrom @ k.T))
    weights = 2 / np.prod(side) / np.linalg.norm(k, axis=1) ** 4
    power = sum(weight * waves.power(shape) for weight, shape in zip(weights, shapes.T))
    return _rings(waves, np.asarray(power))


def bending_rigidity(table: pl.DataFrame, temperature_k: float) -> Rigidity | None:
    """Rigidity from the table of ripple powers of a movie at a temperature; None where it holds no frame."""
    waves = pl.col("n_waves").cast(pl.Float64)
    ratio = pl.col("power_angstrom4") / pl.col("harmonic_angstrom4")
    by_frame = table.group_by("frame").agg((waves * ratio).sum() / waves.sum()).sort("frame")
    values = by_frame[:, 1].to_numpy()
    if not values.size:
        return None
    kt_ev = BOLTZMANN_EV_PER_K * temperature_k
    if values.size < 3:
        return Rigidity(float(kt_ev / values.mean()), np.nan, np.nan, values.size)
    low, high = frame_interval(float(values.mean()), values[resampled_frames(values.size)].mean(axis=1), values.size)
    return Rigidity(float(kt_ev / values.mean()), kt_ev / high, kt_ev / low if low > 0 else np.inf, values.size)


def _middle(xy_angstrom: np.ndarray) -> np.ndarray:
    """The atoms (n,) of the middle square of at most 60 A."""
    centre = 0.5 * (xy_angstrom.min(axis=0) + xy_angstrom.max(axis=0))
    return np.asarray((np.abs(xy_angstrom - centre) <= VIEW_ANGSTROM / 2).all(axis=1))


def _q_edges(xy_angstrom: np.ndarray) -> np.ndarray:
    """Rings as wide as the longest wave's q, over the harmonic range; empty where the view is too small to have one."""
    step = 2 * np.pi / np.ptp(xy_angstrom, axis=0).min()
    return np.arange(FROM_STEPS * step, max(TO_PER_ANGSTROM, FROM_STEPS * step) + 1e-9, step)
