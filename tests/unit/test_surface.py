"""The surface table: its columns, and a sigma that samples of the posterior give where neighbours err together."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import atoms_of_frame, atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.samples import iterate_samples
from scant.analysis.surface import surface_table
from scant.errors import InputError

XY = honeycomb_xy(24.0)
FLAT = np.column_stack([XY, np.zeros(len(XY))])


def samples_of(positions: list[np.ndarray], frame: int = 0) -> pl.DataFrame:
    parts = [pl.DataFrame({"frame": frame, "id": np.arange(len(p)), "draw": draw, **{f"{a}_angstrom": p[:, k].astype(np.float32)
             for k, a in enumerate("xyz")}}) for draw, p in enumerate(positions)]  # fmt: skip
    return pl.concat(parts)


def bent(rng: np.random.Generator) -> np.ndarray:
    """The sheet bent by a wave as long as the view: 0.2 A at every atom, next to nothing between neighbours."""
    phase = 2 * np.pi * (XY @ [0.6, 0.8]) / 24
    return FLAT + np.column_stack([0 * XY, rng.normal(0, 0.2) * np.sin(phase) + rng.normal(0, 0.2) * np.cos(phase)])


def test_sigma_of_a_soft_mode_is_far_below_that_of_independent_errors():
    rng = np.random.default_rng(3)
    atoms = atoms_of_frame(frame_atoms(FLAT, (0.02, 0.02, 0.2)))
    table = surface_table(atoms, 2.46, samples_of([bent(rng) for _ in range(40)]))
    alone = surface_table(atoms, 2.46, None)
    for name in ("sigma_pyramidalisation_deg", "sigma_mean_per_angstrom", "sigma_green_xx"):
        both = table[name].is_finite() & alone[name].is_finite()
        assert both.sum() > 60, name
        assert table[name].filter(both).median() < 0.5 * alone[name].filter(both).median(), name
    # Curvature of the wave, 0.2 A rms times q^2, twice H: half of it.
    inner = np.abs(XY - 12).max(axis=1) < 5
    expected = 0.5 * 0.2 * (2 * np.pi / 24) ** 2
    assert np.median(table["sigma_mean_per_angstrom"].to_numpy()[inner]) == pytest.approx(expected, rel=0.3)
    assert table.drop(c for c in table.columns if c.startswith("sigma_")).equals(
        alone.drop(c for c in alone.columns if c.startswith("sigma_")), null_equal=True
    )


def test_one_sample_leaves_the_sigma_of_independent_errors_and_flat_data_have_none():
    atoms = atoms_of_frame(frame_atoms(FLAT, (0.02, 0.02, 0.2)))
    assert surface_table(atoms, 2.46, samples_of([FLAT])).equals(surface_table(atoms, 2.46, None))
    flat = surface_table(atoms_table(1, flat=True), 2.46, None)
    assert flat["pyramidalisation_deg"].is_nan().all() and flat["eps_xx"].is_finite().any()


def test_samples_of_other_atoms_are_refused():
    atoms = atoms_of_frame(frame_atoms(FLAT))
    with pytest.raises(InputError, match="frame 0"):
        list(iterate_samples(atoms, samples_of([FLAT[1:]])))
    with pytest.raises(InputError, match="anneal"):
        list(iterate_samples(atoms, samples_of([FLAT], frame=1)))
