"""Rigidity and relaxation of simulated movies of known modes, seen through a posterior that knows what it does not know."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import atoms_of_frame, atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.relaxation import relaxation_table
from scant.analysis.rigidity import bending_rigidity, harmonic_power, ripple_power_table
from scant.analysis.ripples import PlaneWaves, without_plane
from scant.units import BOLTZMANN_EV_PER_K

XY = honeycomb_xy(42.0)
BOX, K_MAX, TEMPERATURE_K = 170.0, 1.0, 300.0
# The error of a mode's amplitude: as large as the amplitude itself at 0.65 / A.
N_FRAMES, N_DRAWS, NOISE_ANGSTROM = 24, 4, 0.003


def modes() -> tuple[np.ndarray, np.ndarray]:
    """Waves (m, 2) of a periodic sheet four times as wide as the view, and their standing waves (n, 2 m) over the atoms."""
    step = 2 * np.pi / BOX
    n = int(K_MAX / step)
    k = step * np.stack(np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij"), axis=-1).reshape(-1, 2)
    k = k[((k[:, 0] > 0) | ((k[:, 0] == 0) & (k[:, 1] > 0))) & (np.linalg.norm(k, axis=1) < K_MAX)]
    return k, np.hstack([np.cos(XY @ k.T), np.sin(XY @ k.T)])


K, WAVES = modes()
SPREAD = np.tile(np.sqrt(2 * BOLTZMANN_EV_PER_K * TEMPERATURE_K) / BOX / np.linalg.norm(K, axis=1) ** 2, 2)


def movie(kappa_ev: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Posterior means and samples of a sheet whose modes keep half of their amplitude from frame to frame.

    Each mode is measured with an error; the posterior of prior and measurement is Gaussian, its mean smoother than the sheet.
    """
    rng = np.random.default_rng(seed)
    spread = SPREAD / np.sqrt(kappa_ev)
    amplitude = spread * rng.normal(size=spread.size)
    atoms, samples = [], []
    for frame in range(N_FRAMES):
        amplitude = 0.5 * amplitude + np.sqrt(0.75) * spread * rng.normal(size=spread.size)
        gain = spread**2 / (spread**2 + NOISE_ANGSTROM**2)
        mean = gain * (amplitude + NOISE_ANGSTROM * rng.normal(size=spread.size))
        draws = mean + np.sqrt(gain) * NOISE_ANGSTROM * rng.normal(size=(N_DRAWS, spread.size))
        atoms.append(atoms_of_frame(frame_atoms(np.column_stack([XY, WAVES @ mean]), frame=frame)))
        for draw, heights in enumerate((WAVES @ draws.T).T):
            samples.append(
                pl.DataFrame({"frame": frame, "id": np.arange(len(XY)), "draw": draw})
                .with_columns(x_angstrom=XY[:, 0], y_angstrom=XY[:, 1], z_angstrom=heights)
            )  # fmt: skip
    return pl.concat(atoms), pl.concat(samples)


def test_the_interval_holds_the_known_rigidity():
    kappa, found = 1.1, []
    for seed in range(40):
        result = bending_rigidity(ripple_power_table(*movie(kappa, seed)), TEMPERATURE_K)
        assert result is not None and result.n_frames == N_FRAMES
        found.append((result.kappa_ev, result.low_ev, result.high_ev))
    values = np.array(found)
    held = np.mean((values[:, 1] <= kappa) & (kappa <= values[:, 2]))
    assert held >= 0.9, held
    assert np.median(values[:, 0]) == pytest.approx(kappa, rel=0.05)
    assert np.median(values[:, 2] / values[:, 1]) < 1.6


def test_the_posterior_mean_alone_would_be_too_stiff():
    atoms, samples = movie(1.1, 0)
    mean = atoms.select("frame", "id", "x_angstrom", "y_angstrom", "z_angstrom").with_columns(draw=pl.lit(0))
    smooth, rough = (bending_rigidity(ripple_power_table(atoms, drawn), TEMPERATURE_K) for drawn in (mean, samples))
    assert smooth.kappa_ev > 1.2 * rough.kappa_ev


def test_what_a_window_shows_of_a_steep_law_is_computed_and_is_not_the_law():
    edges = np.array([0.35, 0.5, 0.65, 0.8])
    expected = harmonic_power(XY, edges)
    waves, rng = PlaneWaves(XY, edges), np.random.default_rng(2)
    spread = SPREAD / np.sqrt(BOLTZMANN_EV_PER_K * TEMPERATURE_K)
    power = [waves.over_rings(waves.power(without_plane(XY, WAVES @ (spread * rng.normal(size=spread.size))))) for _ in range(300)]
    mean = np.mean(power, axis=0) / waves.over_rings(None)
    np.testing.assert_allclose(mean / expected, 1.0, atol=0.12)
    law = 1 / (0.5 * (edges[1:] + edges[:-1])) ** 4
    assert expected[0] > 1.1 * law[0]


def test_few_frames_have_no_interval_and_none_no_rigidity():
    atoms, samples = movie(1.1, 1)
    two = bending_rigidity(ripple_power_table(atoms.filter(pl.col("frame") < 2), samples), TEMPERATURE_K)
    assert two is not None and two.kappa_ev > 0 and np.isnan(two.low_ev)
    flat = atoms_table(1, flat=True)
    still = flat.select("frame", "id", "x_angstrom", "y_angstrom", "z_angstrom").with_columns(draw=pl.lit(0))
    assert bending_rigidity(ripple_power_table(flat, still), TEMPERATURE_K) is None


def test_the_bounds_of_relaxation_hold_that_of_the_modes():
    """Amplitudes keep a half from frame to frame: tau = 1 ms / ln 2. Frames that know nothing of each other lie at the upper bound."""
    table = pl.concat([relaxation_table(ripple_power_table(*movie(1.1, seed)), 1.0) for seed in range(12)])
    assert table["n_frames"].to_list() == [N_FRAMES - 1] * len(table)
    held = table.select(((pl.col("low_correlation") <= 0.5) & (pl.col("high_correlation") >= 0.5)).mean()).item()
    assert held >= 0.9, held
    time = 1 / np.log(2)
    assert table.select(((pl.col("low_relaxation_ms") <= time) & (pl.col("high_relaxation_ms") >= time)).mean()).item() == held
    powers = ripple_power_table(*movie(1.1, 0))
    short = powers.filter(pl.col("q_per_angstrom") == powers["q_per_angstrom"].max())
    assert short["mean_power_angstrom4"].mean() < 0.8 * short["power_angstrom4"].mean()


def test_a_sheet_that_is_known_exactly_leaves_the_statistical_interval_alone():
    _, samples = movie(1.1, 5)
    truth = samples.filter(draw=0)
    exact = atoms_of_frame(frame_atoms(np.zeros((1, 3)))).clear()
    columns = {f"sigma_{a}_angstrom": pl.lit(0.0) for a in "xyz"} | {"species": pl.lit("C"), "flag": pl.lit(0)}
    atoms = truth.drop("draw").with_columns(**columns).select(pl.col(name).cast(exact[name].dtype) for name in exact.columns)
    powers = ripple_power_table(atoms, truth)
    np.testing.assert_allclose(powers["power_angstrom4"], powers["mean_power_angstrom4"], rtol=1e-9)
    table = relaxation_table(powers, 2.0)
    assert (table["high_correlation"] - table["low_correlation"]).max() < 0.6
    assert (table["low_relaxation_ms"] > 0).any()


def test_only_frames_in_a_row_are_compared_by_the_atoms_that_both_have():
    atoms, samples = movie(1.1, 3)
    gap = pl.col("frame") != 5
    table = ripple_power_table(atoms.filter(gap), samples.filter(gap))
    without = table.filter(pl.col("next_power_angstrom4").is_null())["frame"].unique().to_list()
    assert without == [4, N_FRAMES - 1]
    drifted = [frame.with_columns(x_angstrom=pl.col("x_angstrom") + 0.7 * pl.col("frame")) for frame in (atoms, samples)]
    moved, still = (ripple_power_table(*pair)["next_power_angstrom4"].drop_nulls() for pair in (drifted, (atoms, samples)))
    np.testing.assert_allclose(moved, still, rtol=1e-6)
    assert relaxation_table(table.clear(), 1.0).height == 0
    assert relaxation_table(table.filter(pl.col("frame") < 2), 1.0).height == 0
