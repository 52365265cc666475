"""Synthetic tables of the workflow's contracts: a rippled honeycomb sheet, its frames, verdicts, doses and failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scant.analysis.dose_curve import dose_threshold, rmsd_by_dose
from scant.analysis.neighbours import FrameAtoms
from scant.rng import stream

LATTICE_ANGSTROM = 2.46
HOSTILE = "=1+1<script>alert('x')</script>"


def honeycomb_xy(size_angstrom: float, lattice_angstrom: float = LATTICE_ANGSTROM, angle_rad: float = 0.2) -> np.ndarray:
    """Atoms (n, 2) of a turned honeycomb whose centres lie in a square field of view with its corner at the origin."""
    n = int(2 * size_angstrom / lattice_angstrom) + 2
    i, j = np.mgrid[-n:n, -n:n].reshape(2, -1, 1)
    first, second = lattice_angstrom * np.array([1.0, 0.0]), lattice_angstrom * np.array([0.5, np.sqrt(3) / 2])
    cells = i * first + j * second
    xy = np.concatenate([cells, cells + (first + second) / 3])
    turn = np.array([[np.cos(angle_rad), np.sin(angle_rad)], [-np.sin(angle_rad), np.cos(angle_rad)]])
    xy = xy @ turn + 0.5 * size_angstrom + [0.11, -0.07]
    return xy[np.all((xy >= 0) & (xy <= size_angstrom), axis=1)]


def frame_atoms(xyz_angstrom: np.ndarray, sigma_angstrom: tuple[float, float, float] = (0.03, 0.03, 0.2), frame: int = 0) -> FrameAtoms:
    sigma = np.broadcast_to(np.asarray(sigma_angstrom, dtype=float), xyz_angstrom.shape).copy()
    return FrameAtoms(frame, np.arange(len(xyz_angstrom)), np.asarray(xyz_angstrom, dtype=float), sigma)


def atoms_of_frame(atoms: FrameAtoms) -> pl.DataFrame:
    axes = "xyz"
    columns: dict[str, Any] = {"frame": np.full(atoms.ids.size, atoms.frame), "id": atoms.ids, "species": ["C"] * atoms.ids.size}
    columns |= {f"{a}_angstrom": atoms.xyz_angstrom[:, k] for k, a in enumerate(axes)}
    columns |= {f"sigma_{a}_angstrom": atoms.sigma_angstrom[:, k] for k, a in enumerate(axes)}
    return pl.DataFrame(columns | {"flag": np.zeros(atoms.ids.size, dtype=np.int64)})


def ripple(xy: np.ndarray, time: float) -> np.ndarray:
    return 0.6 * np.sin(2 * np.pi * (xy[:, 0] + 0.4 * xy[:, 1]) / 28 + 0.5 * time) + 0.3 * np.cos(2 * np.pi * xy[:, 1] / 17 - 0.3 * time)


def atoms_table(n_frames: int = 8, size_angstrom: float = 24.0, flat: bool = False, seed: int = 7) -> pl.DataFrame:
    """Atoms of a travelling ripple with noise of the sigma it states; `flat` leaves z and sigma_z null."""
    rng = np.random.default_rng(seed)
    xy = honeycomb_xy(size_angstrom)
    tables = []
    for frame in range(n_frames):
        xyz = np.column_stack([xy, ripple(xy, frame)])
        noise = rng.normal(size=xyz.shape) * [0.03, 0.03, 0.2]
        tables.append(atoms_of_frame(frame_atoms(xyz + noise, frame=frame)))
    table = pl.concat(tables)
    if not flat:
        return table
    return table.with_columns(z_angstrom=pl.lit(None, dtype=pl.Float64), sigma_z_angstrom=pl.lit(None, dtype=pl.Float64))


def frames_table(n_frames: int = 8, failed: tuple[int, ...] = (5,), n_atoms: int = 210) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    t = np.arange(n_frames)
    ok = ~np.isin(t, failed)

    def where_ok(values: Any) -> list[Any]:
        return [v if good else None for v, good in zip(np.asarray(values).tolist(), ok)]

    return pl.DataFrame(
        {
            "frame": t,
            "time_ms": t * 1.0,
            "status": np.where(ok, "ok", "failed"),
            "drift_x_px": np.cumsum(rng.normal(0, 0.4, n_frames)),
            "drift_y_px": np.cumsum(rng.normal(0.2, 0.4, n_frames)),
            "drift_sigma_px": np.full(n_frames, 0.05),
            "dose_e_per_angstrom2": rng.normal(8000, 60, n_frames),
            "n_atoms": where_ok(np.full(n_frames, n_atoms)),
            "n_hits": rng.poisson(2, n_frames),
            "variance_cut": where_ok(rng.normal(0.62, 0.02, n_frames)),
            "correlation": where_ok(rng.normal(0.45, 0.01, n_frames)),
            "reduced_chi2": where_ok(rng.normal(1.01, 0.01, n_frames)),
            "acceptance": where_ok(rng.normal(0.65, 0.03, n_frames)),
            "r_hat": where_ok(rng.normal(1.03, 0.01, n_frames)),
            "converged": where_ok(t != 2),
        }
    )


def md_table(n_frames: int = 8) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    t = np.arange(n_frames)
    verdict = np.where(t == 3, "unstable", np.where(t == 5, "failed", "stable"))
    return pl.DataFrame(
        {
            "frame": t,
            "verdict": verdict,
            "reason": np.where(t == 3, "2 bonds broken", np.where(t == 5, "no structure", "")),
            "rms_displacement_angstrom": rng.normal(0.35, 0.03, n_frames),
            "max_displacement_angstrom": rng.normal(1.1, 0.1, n_frames),
            "energy_per_atom_ev": rng.normal(-7.20, 0.01, n_frames),
            "relaxed_energy_per_atom_ev": rng.normal(-7.35, 0.005, n_frames),
            "md_temperature_k": rng.normal(300, 4, n_frames),
            "bonds_broken": np.where(t == 3, 2, 0),
            "bonds_formed": np.zeros(n_frames, dtype=int),
            "mean_bond_angstrom": rng.normal(1.425, 0.002, n_frames),
            "sd_bond_angstrom": rng.normal(0.035, 0.002, n_frames),
        }
    )


def dose_table(n_twins: int = 4) -> pl.DataFrame:
    rng = np.random.default_rng(9)
    rows = []
    for dose in (100.0, 200.0, 400.0, 1000.0, 2300.0, 8000.0, 27000.0):
        for twin in range(n_twins):
            rmsd = 0.26 + 0.9 * (dose / 150) ** -0.9 * float(rng.lognormal(0, 0.15))
            good = rmsd < 1.4
            rows.append((dose, 5, twin, 0, rmsd, 0.05, 0.05, 0.9 * rmsd, 0.8 * rmsd, 0.99 if good else 0.8, 0.99, good))
    schema = ["dose_e_per_angstrom2", "window", "twin", "frame", "rmsd_3d_angstrom", "sigma_x_angstrom", "sigma_y_angstrom",
              "sigma_z_angstrom", "claimed_sigma_z_angstrom", "recall", "precision", "succeeded"]  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def dose_summary() -> dict[str, Any]:
    return dose_threshold(*rmsd_by_dose(dose_table()), rng=stream(0, "dose")).summary()


def failures_table(hostile: bool = False) -> pl.DataFrame:
    message = HOSTILE if hostile else "frame 5: correlation 0.08 with the model is below 0.20"
    return pl.DataFrame(
        {
            "frame": [5],
            "stage": ["anneal"],
            "cause": ["calibration"],
            "message": [message],
            "remedy": ["refine the defocus of this block, or lower min_correlation"],
        }
    )


def calibration() -> dict[str, Any]:
    return {
        "optics": {
            "voltage_kv": 80.0,
            "cs_um": -13.0,
            "defocus_angstrom": -45.3,
            "sigma_defocus_angstrom": 1.2,
            "focal_spread_angstrom": 10.0,
            "astigmatism_angstrom": 3.1,
            "astigmatism_angle_rad": 0.4,
            "contrast_scale": 0.97,
        },
        "detector": {"gain_adu_per_electron": 6.02, "offset_adu": 100.1, "read_noise_e": 3.0, "excess_noise": 1.02, "n_bad_pixels": 120},
        "pixel_size_angstrom": 0.2001,
        "sigma_pixel_size_angstrom": 0.0001,
        "lattice": {"name": "graphene", "lattice_constant_angstrom": 2.46},
        "kl_divergence": 0.0021,
        "gates": [
            {"name": "KL divergence", "passed": True, "value": 0.0021, "unit": "nat", "limit": 0.01},
            {"name": "Model and data correlate", "passed": True, "value": 0.45, "unit": "", "limit": 0.2},
            {"name": "Pixel size agrees with the lattice", "passed": False, "value": 1.4, "unit": "%", "limit": 1.0},
        ],
    }


def images(size: int = 120, pixel_size_angstrom: float = 0.2) -> dict[str, np.ndarray]:
    """A blurred honeycomb at three stages: raw (noisy ADU), corrected and model, each (size, size)."""
    y, x = np.mgrid[:size, :size] * pixel_size_angstrom
    xy = honeycomb_xy(size * pixel_size_angstrom)
    model = np.ones((size, size))
    for atom_x, atom_y in xy:
        model -= 0.3 * np.exp(-((x - atom_x) ** 2 + (y - atom_y) ** 2) / (2 * 0.45**2))
    rng = np.random.default_rng(1)
    counts = rng.poisson(320 * model).astype(float)
    return {"raw": counts * 6 + 100, "corrected": 320 * model + rng.normal(0, 4, model.shape), "model": 320 * model}
