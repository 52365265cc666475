"""Ripples and dynamics: known waves, known noise, known motion."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import atoms_of_frame, atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.dynamics import displacement_table, motion_by_atom, without_drift
from scant.analysis.neighbours import iterate_frames
from scant.analysis.ripples import (
    default_q_edges,
    detrended_heights,
    frame_spectrum,
    ripple_spectrum,
    ripple_table,
    spectrum_of_table,
)
from scant.errors import InputError

XY = honeycomb_xy(50.0)


def wave(amplitude: float, q: float) -> np.ndarray:
    return np.column_stack([XY, amplitude * np.sin(q * (XY @ [0.8, 0.6]) + 0.3)])


def test_a_plane_is_no_ripple():
    tilted = np.column_stack([XY, 0.1 * XY[:, 0] - 0.2 * XY[:, 1] + 3])
    assert np.abs(detrended_heights(frame_atoms(tilted))).max() < 1e-9


def test_a_wave_peaks_at_its_q_and_its_power_is_its_variance():
    atoms = frame_atoms(wave(0.5, 0.8), (0.0, 0.0, 0.0))
    edges = default_q_edges(atoms)
    spectrum = ripple_spectrum(frame_spectrum(atoms, edges))
    assert spectrum.q_per_angstrom[np.nanargmax(spectrum.power_angstrom4)] == pytest.approx(0.8, abs=edges[1] - edges[0])
    area = np.prod(np.ptp(XY, axis=0))
    variance = np.nansum(spectrum.power_angstrom4 * spectrum.n_modes) / area
    assert variance == pytest.approx(0.125, rel=0.1)


def test_white_noise_lies_on_its_stated_floor():
    rng = np.random.default_rng(0)
    tables = [atoms_of_frame(frame_atoms(np.column_stack([XY, rng.normal(0, 0.3, len(XY))]), (0.03, 0.03, 0.3), t)) for t in range(40)]
    spectrum = spectrum_of_table(pl.concat(tables))
    assert spectrum is not None and spectrum.n_frames == 40
    ratio = spectrum.power_angstrom4[2:] / spectrum.noise_angstrom4[2:]
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.05)
    pull = (spectrum.power_angstrom4 - spectrum.noise_angstrom4)[2:] / spectrum.sigma_power_angstrom4[2:]
    assert np.std(pull) < 2.5


def test_blocks_merge_to_the_whole_and_other_bins_are_refused():
    frames = list(iterate_frames(atoms_table(4)))
    edges = default_q_edges(frames[0])
    parts = [frame_spectrum(f, edges) for f in frames]
    left = parts[0].merge(parts[1]).merge(parts[2].merge(parts[3]))
    right = parts[0].merge(parts[1].merge(parts[2])).merge(parts[3])
    np.testing.assert_allclose(left.power_angstrom4, right.power_angstrom4, rtol=1e-12)
    assert left.n_frames == 4
    with pytest.raises(InputError, match="q_edges"):
        left.merge(frame_spectrum(frames[0], edges[:-1]))


def test_rms_height_is_that_of_the_samples_whose_mean_is_smoother_and_knows_its_sigma():
    rng, mean = np.random.default_rng(5), wave(0.5, 0.6)
    samples = mean + rng.normal(size=(60, len(XY), 3)) * [0.0, 0.0, 0.3]
    rms = [np.std(detrended_heights(frame_atoms(xyz))) for xyz in samples]
    found = ripple_table(atoms_of_frame(frame_atoms(mean, (0.03, 0.03, 0.3)))).row(0, named=True)
    assert np.mean(rms) > np.std(detrended_heights(frame_atoms(mean))) + 0.05
    assert found["rms_height_angstrom"] == pytest.approx(np.mean(rms), abs=0.005)
    assert found["sigma_rms_height_angstrom"] == pytest.approx(np.std(rms), rel=0.3)


def test_flat_data_have_no_ripples_and_say_so_with_null():
    assert ripple_table(atoms_table(2, flat=True))["rms_height_angstrom"].to_list() == [None, None]
    assert spectrum_of_table(atoms_table(2, flat=True)) is None


def drifting(n_frames: int, noise: float, drift: float) -> pl.DataFrame:
    rng = np.random.default_rng(11)
    flat = np.column_stack([XY, np.zeros(len(XY))])
    tables = []
    for t in range(n_frames):
        xyz = flat + [drift * t, -0.5 * drift * t, 0.1 * drift * t] + rng.normal(0, 1, flat.shape) * noise
        kept = xyz[:, 0] < 48
        atoms = atoms_of_frame(frame_atoms(xyz, (noise, noise, noise), t))
        tables.append(atoms.filter(pl.Series(kept)))
    return pl.concat(tables)


def test_drift_is_taken_out_although_atoms_leave():
    moved = motion_by_atom(drifting(12, 0.05, 0.3))
    still = motion_by_atom(without_drift(drifting(12, 0.05, 0.3)))
    whole = still.filter(pl.col("n_frames") == 12)
    assert moved["fluctuation_x_angstrom"].mean() > 0.5
    assert whole["fluctuation_x_angstrom"].mean() == pytest.approx(0.05, abs=0.01)
    assert still["noise_x_angstrom"].mean() == pytest.approx(0.05)


def test_displacement_of_noise_is_its_noise_and_of_a_wave_its_phase():
    table = displacement_table(drifting(12, 0.05, 0.0), lags=(1, 3, 50))
    assert table["lag"].to_list() == [1, 3]
    for name in ("xy", "z"):
        np.testing.assert_allclose(table[f"msd_{name}_angstrom2"], table[f"noise_{name}_angstrom2"], rtol=0.03)
    frames = [atoms_of_frame(frame_atoms(np.column_stack([XY, np.sin(2 * np.pi * t / 8 + 0.2 * XY[:, 0])]), frame=t)) for t in range(32)]
    half_period = displacement_table(pl.concat(frames), lags=(4, 8))["z_correlation"]
    assert half_period.to_list() == pytest.approx([-1.0, 1.0], abs=0.02)


def test_motion_without_heights_is_planar():
    motion = motion_by_atom(without_drift(atoms_table(4, flat=True)))
    assert motion["fluctuation_z_angstrom"].null_count() == motion.height
    assert motion["fluctuation_x_angstrom"].mean() == pytest.approx(0.03, abs=0.01)
