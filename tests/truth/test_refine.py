"""Annealing and the optics fit on simulated frames whose structure and optics are known."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scant.errors import CalibrationError
from scant.inference import optics_fit, refine, replicas
from scant.inference.anneal import Schedule
from scant.inference.gate import likely_reason
from scant.inference.optics_calibration import calibrate_optics
from scant.inference.optics_fit import CalibrationFrame, fit_optics, histogram_kl
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import bytes_per_frame, frames_that_fit, refine_frames
from scant.inference.scoring import score
from scant.physics import lcbop
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import pairs_within
from scant.physics.lcbop_pairs import pair_terms_by_arrays
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.physics.structure_sums import MatrixSums
from scant.rng import stream
from scant.xp import gpu_problem

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, envelope_b_angstrom2=1.5)
VIEW = View(100, 0.2, 0.1)
GRID = ImageGrid.padded(100, 100, 0.2, 6.0)
SETTINGS = RefineSettings(Schedule(8.0, 6, 6, 24, 24, 8), 4, "lcbop", 300.0, 2.46, 0.03, 3)
MEAN_E = 8000 * 0.04


@pytest.fixture(scope="module")
def problems() -> tuple[list[FrameProblem], list[np.ndarray]]:
    truth = [f.positions for f in true_frames(VIEW, 2, Specimen(), seed=4)]
    made = []
    for n, positions in enumerate(truth):
        species = np.full(len(positions), "C")
        image = ForwardModel(OPTICS, GRID, species, n_orders=5, dtype=np.float64).image(positions[None])[0]
        counts = counts_with_noise(image, MEAN_E, 0.5, 1.0, stream(0, "test-refine", n))
        start = positions + stream(1, "test-refine", n).normal(0, 0.05, positions.shape)
        start[:, 2] = 0
        bonds = pairs_within(positions[:, :2], 1.85)
        weights = np.full(counts.shape, 1 / (MEAN_E + 0.25), np.float32)
        made.append(FrameProblem(n, counts, weights, start, species, bonds, np.full(len(positions), 3)))
    return made, truth


def test_heights_and_positions_are_found_from_a_flat_start(problems):
    made, truth = problems
    estimates, failures = refine_frames(made, OPTICS, GRID, SETTINGS)
    assert failures == []
    for estimate, true in zip(estimates, truth):
        result = score(estimate.positions, true, (20.0, 20.0))
        spread = result.error_angstrom.std(axis=0)
        assert result.recall == 1.0
        assert spread[:2].max() < 0.05
        assert spread[2] < 0.6
        assert estimate.reduced_chi2 == pytest.approx(1.0, abs=0.05)
        ratio = (result.error_angstrom[:, :2] / estimate.sigma[result.found][:, :2]).std()
        assert 0.6 < ratio < 1.4


def test_a_frame_does_not_depend_on_its_batch(problems):
    """Batched matrix products may round differently, and chaos amplifies that: equal within a fraction of sigma after few moves."""
    made, _ = problems
    brief = replace(SETTINGS, schedule=Schedule(2.0, 1, 2, 1, 4, 3))
    together, _ = refine_frames(made, OPTICS, GRID, brief)
    alone, _ = refine_frames(made[1:], OPTICS, GRID, brief)
    assert together[1].frame == alone[0].frame == 1
    np.testing.assert_allclose(together[1].positions, alone[0].positions, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(gpu_problem() is not None, reason="needs CuPy and a CUDA device")
def test_the_device_agrees_with_the_cpu(problems):
    """Same streams, matrix products instead of the non-uniform FFT: equal within a fraction of sigma after few moves."""
    made, _ = problems
    brief = replace(SETTINGS, schedule=Schedule(2.0, 1, 2, 1, 4, 3))
    on_cpu, on_gpu = (refine_frames(made, OPTICS, GRID, brief, device)[0] for device in ("cpu", "gpu"))
    for one, other in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=0.02)


@pytest.fixture
def over_matrices(monkeypatch):
    """What the device computes, on NumPy: the annealer over matrix products, array-only pair terms included."""

    class OverMatrices(replicas.ForwardModel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            offset = self.grid.pad_px * self.grid.pixel_size_angstrom
            self._sums = MatrixSums(self.band, self.n_orders, offset, np, self.dtype)

    monkeypatch.setattr(replicas, "ForwardModel", OverMatrices)
    monkeypatch.setattr(lcbop, "pair_terms", pair_terms_by_arrays)


def test_matrix_products_and_the_gridded_form_lead_to_the_same_structure(problems, request):
    made, _ = problems
    brief = replace(SETTINGS, schedule=Schedule(2.0, 1, 2, 1, 4, 3))
    gridded = refine_frames(made[:1], OPTICS, GRID, brief)[0][0]
    request.getfixturevalue("over_matrices")
    matrices = refine_frames(made[:1], OPTICS, GRID, brief)[0][0]
    np.testing.assert_allclose(matrices.positions, gridded.positions, atol=0.02)


def test_sampling_ends_where_the_chains_agree(problems):
    """A limit that is always met ends it at the first look, with the bits of a run that was asked for no more; each frame for itself."""
    made, _ = problems
    brief = Schedule(2.0, 1, 2, 1, 20, 3)
    asked, _ = refine_frames(made[:1], OPTICS, GRID, replace(SETTINGS, schedule=brief))
    longer = replace(SETTINGS, schedule=replace(brief, n_samples=60, stop_r_hat=1e9))
    stopped, _ = refine_frames(made[:1], OPTICS, GRID, longer)
    assert stopped[0].n_moves == asked[0].n_moves == 23
    np.testing.assert_array_equal(stopped[0].positions, asked[0].positions)
    np.testing.assert_array_equal(stopped[0].sigma, asked[0].sigma)
    never, _ = refine_frames(made[:1], OPTICS, GRID, replace(longer, schedule=replace(brief, n_samples=40, stop_r_hat=1.0)))
    assert never[0].n_moves == 43


def test_memory_per_frame_is_what_the_array_form_takes(problems, over_matrices):
    """Per chain, as NumPy's allocations show it; the device runs the same arrays."""
    made, _ = problems
    brief = replace(SETTINGS, schedule=Schedule(2.0, 1, 1, 1, 4, 2))
    peaks = {}
    for n_chains in (2, 6):
        tracemalloc.start()
        refine_frames(made[:1], OPTICS, GRID, replace(brief, n_chains=n_chains))
        peaks[n_chains] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    n_atoms = len(made[0].positions)
    said = bytes_per_frame(n_atoms, GRID, 6) - bytes_per_frame(n_atoms, GRID, 2)
    assert 0.5 * said < peaks[6] - peaks[2] < 1.3 * said
    assert frames_that_fit(n_atoms, GRID, 4, 10 * bytes_per_frame(n_atoms, GRID, 4)) == 5
    assert frames_that_fit(n_atoms, GRID, 4, 1) == 1


def test_the_same_call_gives_the_same_bits(problems):
    made, _ = problems
    brief = replace(SETTINGS, schedule=Schedule(2.0, 1, 2, 1, 4, 3))
    first, second = (refine_frames(made[:1], OPTICS, GRID, brief)[0][0] for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)
    np.testing.assert_array_equal(first.sigma, second.sigma)


@pytest.mark.fault("F6")
def test_exhausted_memory_halves_the_batch(problems, monkeypatch):
    made, _ = problems
    whole = refine._refine_batch
    sizes = []

    def tight(batch, *rest):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise MemoryError
        return whole(batch, *rest)

    monkeypatch.setattr(refine, "_refine_batch", tight)
    estimates, _ = refine_frames(made, OPTICS, GRID, replace(SETTINGS, schedule=Schedule(2.0, 1, 1, 0, 4, 2)))
    assert sizes == [2, 1, 1]
    assert [e.frame for e in estimates] == [0, 1]


@pytest.mark.fault("F23")
def test_contrast_of_the_wrong_sign_is_refused_with_the_reason(problems):
    made, _ = problems
    flipped = replace(made[0], counts_e=2 * MEAN_E - made[0].counts_e)
    estimates, failures = refine_frames([flipped, made[1]], OPTICS, GRID, replace(SETTINGS, schedule=Schedule(2.0, 1, 1, 0, 4, 2)))
    assert [e.frame for e in estimates] == [1]
    assert failures[0].frame == 0
    assert failures[0].cause == "correlation"
    assert "wrong sign" in failures[0].remedy


def test_a_shift_and_a_wrong_pixel_size_are_told_apart(problems):
    """The start moved by 0.8 A, or 4 % too small: each is named with its figure; pure noise is blamed on neither."""
    made, _ = problems
    problem, model = made[0], ForwardModel(OPTICS, GRID, made[0].species)
    moved = replace(problem, positions=problem.positions + [0.8, 0, 0])
    assert "shifted by (-0.80, 0.00) A" in likely_reason(moved, model, 0.0, 0.03)
    small = replace(problem, positions=(problem.positions - [10, 10, 0]) * [0.96, 0.96, 1] + [10, 10, 0])
    assert re.search(r"pixel size of 0\.19\d* A instead of 0\.2 A", likely_reason(small, model, 0.0, 0.03))
    noise = replace(problem, counts_e=np.random.default_rng(0).normal(MEAN_E, MEAN_E**0.5, problem.counts_e.shape))
    assert "check the optics" in likely_reason(noise, model, 0.0, 0.03)


def test_optics_are_found_from_15_angstrom_off(problems):
    made, truth = problems
    frames = [CalibrationFrame(p.counts_e.astype(float), p.inverse_variance, t, p.species) for p, t in zip(made, truth)]
    fit = fit_optics(OPTICS.with_values(defocus_angstrom=-60.0, envelope_b_angstrom2=1.0), GRID, frames)
    assert fit.optics.defocus_angstrom == pytest.approx(-45.0, abs=1.5)
    assert abs(fit.optics.astigmatism_x_angstrom) < 1.5
    assert abs(fit.optics.astigmatism_y_angstrom) < 1.5
    assert fit.optics.contrast_scale == pytest.approx(1.0, abs=0.1)
    assert fit.reduced_chi2 == pytest.approx(1.0, abs=0.05)
    assert fit.kl_divergence < 0.01
    assert abs(fit.optics.defocus_angstrom + 45.0) < 5 * fit.sigma["defocus_angstrom"] + 0.5


def test_the_opposite_sign_of_the_defocus_is_told_from_the_right_one(problems):
    """As a newcomer stated it: underfocus for bright atoms at a negative Cs. The right sign passes, and so does one 15 A off."""
    made, _ = problems
    with pytest.raises(CalibrationError, match=r"a defocus of -45 A explains the images better than the stated 45 A.*correct the sign"):
        calibrate_optics(OPTICS.with_values(defocus_angstrom=45.0), made, 0.2, 2.46, 0)
    fit = calibrate_optics(OPTICS.with_values(defocus_angstrom=-58.0), made, 0.2, 2.46, 0)
    assert fit.optics.defocus_angstrom == pytest.approx(-45.0, abs=3.0)


def test_coma_and_threefold_astigmatism_are_found(problems):
    made, truth = problems
    true = {"coma_x_angstrom": 200.0, "coma_y_angstrom": -120.0, "threefold_x_angstrom": -150.0, "threefold_y_angstrom": 180.0}
    frames = []
    for n, (p, t) in enumerate(zip(made, truth)):
        model = ForwardModel(OPTICS.with_values(**true), GRID, p.species, n_orders=5, dtype=np.float64)
        counts = counts_with_noise(model.image(t[None])[0], MEAN_E, 0.5, 1.0, stream(0, "test-coma", n))
        frames.append(CalibrationFrame(counts.astype(float), p.inverse_variance, t, p.species))
    fit = fit_optics(OPTICS, GRID, frames)
    for name, value in true.items():
        assert getattr(fit.optics, name) == pytest.approx(value, abs=4 * fit.sigma[name])
        assert fit.sigma[name] < 30


def test_no_envelope_sharpens_and_the_rest_settles_around_it(problems):
    """Images sharper than the microscope allows: the envelope stays at zero, and the optics are those of a fit that holds it there."""
    made, truth = problems
    sharp, frames = OPTICS.with_values(envelope_b_angstrom2=-1.0), []
    for n, (p, t) in enumerate(zip(made, truth)):
        model = ForwardModel(sharp, GRID, p.species, n_orders=5, dtype=np.float64)
        counts = counts_with_noise(model.image(t[None])[0], MEAN_E, 0.5, 1.0, stream(0, "test-sharp", n))
        frames.append(CalibrationFrame(counts.astype(float), p.inverse_variance, t, p.species))
    fit = fit_optics(OPTICS, GRID, frames)
    assert fit.optics.envelope_b_angstrom2 == 0
    held = {**optics_fit.PRIOR_SD, "envelope_b_angstrom2": 1e-6}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optics_fit, "PRIOR_SD", held)
        around_zero = fit_optics(OPTICS.with_values(envelope_b_angstrom2=0.0), GRID, frames)
    for name in ("contrast_scale", "focal_spread_angstrom", "defocus_angstrom"):
        assert getattr(fit.optics, name) == pytest.approx(getattr(around_zero.optics, name), abs=0.2 * fit.sigma[name])


def test_histogram_divergence_sees_a_wrong_width():
    rng = np.random.default_rng(0)
    measured = rng.normal(100, 10, 50_000)
    assert histogram_kl(measured, rng.normal(100, 10, 50_000)) < 0.005
    assert histogram_kl(measured, rng.normal(100, 13, 50_000)) > 0.02
