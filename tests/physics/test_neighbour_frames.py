"""The link to neighbouring frames: exact on Gaussian processes, its gradient true, and heights better and honest with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scant.inference.anneal import Schedule
from scant.inference.neighbour_frames import NeighbourLink, ThermalMotion, blurred, link_terms, motion_seen, without_first
from scant.inference.prepare import grid_around
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.inference.scoring import score
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import pairs_within
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.rng import stream

OFFSETS = (-2, -1, 1, 2)


@pytest.mark.parametrize("relaxation_frames", [0.0, 3.0])
@pytest.mark.parametrize("shared_variance", [0.0, 25.0])
def test_the_link_makes_the_posterior_of_an_ornstein_uhlenbeck_process(relaxation_frames, shared_variance):
    """Prior N(0, S + C) times the link against the exact conditional of the joint Gaussian of the frame and the others' mean."""
    thermal, error = 1.0, 0.1
    motion = ThermalMotion(1.0, relaxation_frames)
    times = np.array([0, *OFFSETS], float)
    covariance = shared_variance + thermal * motion.correlation(times[:, None] - times)
    others = covariance[1:, 1:].mean() + error
    # the mean whose square is what its variance says, so that S comes out as it is
    mean = np.array([np.sqrt(others)])
    slope, variance = link_terms(mean, np.array([error]), np.array([thermal]), OFFSETS, motion)
    precision, pull = blurred(np.array([[1 / error]]), mean / error, variance)
    prior = 1 / (shared_variance + thermal)
    posterior_variance = 1 / (prior + slope[0] ** 2 * precision[0, 0])
    cross = covariance[0, 1:].mean()
    assert posterior_variance == pytest.approx(covariance[0, 0] - cross**2 / others, rel=1e-9)
    assert posterior_variance * slope[0] * pull[0] == pytest.approx(cross / others * mean[0], rel=1e-9, abs=1e-12)


def test_a_likelihood_seen_through_noise_and_without_its_first_coordinate():
    """Against the dense Gaussian algebra; information that is singular is no obstacle."""
    rng = np.random.default_rng(0)
    root, pull, variance = rng.normal(size=(6, 9)), rng.normal(size=6), rng.uniform(0.1, 2.0, 6)
    information = root @ root.T
    wide, moved = blurred(information, pull, variance)
    covariance = np.linalg.inv(information)
    np.testing.assert_allclose(wide, np.linalg.inv(covariance + np.diag(variance)), rtol=1e-9)
    np.testing.assert_allclose(moved, wide @ covariance @ pull, rtol=1e-9)
    rest, rest_pull = without_first(information, pull)
    np.testing.assert_allclose(np.linalg.inv(rest), covariance[1:, 1:], rtol=1e-9)
    np.testing.assert_allclose(np.linalg.solve(rest, rest_pull), (covariance @ pull)[1:], rtol=1e-9)
    nothing = blurred(np.zeros((6, 6)), np.zeros(6), variance)
    assert not nothing[0].any() and not nothing[1].any()


def test_the_links_gradient_is_its_slope():
    """Two frames of three chains each, four of whose six coordinates are linked."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 4, 4))
    link = NeighbourLink(rng.normal(size=(2, 4)), root @ root.swapaxes(1, 2), rng.normal(size=(2, 4)))
    u = rng.normal(size=(6, 6))
    energy, gradient = link.energy_and_gradient(u)
    assert gradient.shape == (6, 4)
    step = np.zeros_like(u)
    step[4, 3] = 1e-6
    rise = (link.energy_and_gradient(u + step)[0] - energy) / 1e-6
    assert gradient[4, 3] == pytest.approx(rise[4], rel=1e-5)
    assert not rise[[0, 1, 2, 3, 5]].any()


def test_capped_modes_have_the_motion_asked_for():
    free = np.array([np.inf, 300.0, 40.0, 5.0, 1.0, 0.2, 0.01])
    variance = ThermalMotion(0.6, 0.0).variance(free)
    assert variance[1:].sum() == pytest.approx(0.36 * len(free))
    assert np.all(variance < free)
    np.testing.assert_array_equal(ThermalMotion(50.0, 0.0).variance(free), free)


@pytest.mark.parametrize(("true_rms", "expected"), [(0.26, 0.26), (1.0, 1.0)])
def test_the_motion_is_the_least_one_or_the_larger_one_that_the_frame_shows(true_rms, expected):
    """Slopes drawn from the Gaussian that they have: motion of the given rms, noise of the frame and of four others, modes coupled."""
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(40, 40))
    information = 20 * (np.eye(40) + 0.02 * mixing @ mixing.T / 6)
    free, noise = np.full(40, 100.0), 1.25
    variance_of = lambda motion: motion.variance(free)  # noqa: E731
    least = ThermalMotion(0.26, 0.0)
    apart = 1.25 * variance_of(ThermalMotion(true_rms, 0.0))
    covariance = noise * information + information @ np.diag(apart) @ information
    slopes = rng.multivariate_normal(np.zeros(40), covariance, size=200)
    seen = [motion_seen(least, slope, information, noise, variance_of, OFFSETS).rms_angstrom for slope in slopes]
    assert min(seen) >= 0.26
    assert np.median(seen) == pytest.approx(expected, rel=0.06)
    believed = np.mean([rms > 0.26 for rms in seen])
    assert believed > 0.99 if true_rms > 0.26 else believed < 0.02


def test_noise_is_not_taken_for_motion():
    """At little information motion of 5 A would look the same as none: nothing is seen but by chance."""
    rng = np.random.default_rng(4)
    information, free = 0.02 * np.eye(40), np.full(40, 100.0)
    variance_of = lambda motion: motion.variance(free)  # noqa: E731
    least = ThermalMotion(0.26, 0.0)
    slopes = rng.normal(scale=np.sqrt(1.25 * 0.02), size=(1000, 40))
    seen = [motion_seen(least, slope, information, 1.25, variance_of, OFFSETS) for slope in slopes]
    assert np.mean([motion == least for motion in seen]) > 0.98


def five_frames(
    truth: list[np.ndarray], size_px: int, dose_e_per_angstrom2: float, seed: int
) -> tuple[FrameProblem, np.ndarray, Optics, ImageGrid]:
    """The middle one of five frames, with the mean of the other four as its guide, and its true positions."""
    optics, (_, _, true, _, _) = Optics(80.0, -130000.0, -45.0, 10.0, 52.2), truth
    mean_e = dose_e_per_angstrom2 * 0.04
    shots = []
    for n, positions in enumerate(truth):
        grid = ImageGrid.padded(size_px, size_px, 0.2, 6.0)
        model = ForwardModel(optics, grid, np.full(len(positions), "C"), n_orders=5, dtype=np.float64)
        shots.append(counts_with_noise(model.image(positions[None])[0], mean_e, 0.5, 1.0, stream(seed, "test-link", n)))
    start = true * [1, 1, 0]
    weight = np.full((size_px, size_px), 1 / (mean_e + 0.25), np.float32)
    others = np.mean([shots[n] for n in (0, 1, 3, 4)], axis=0)
    bonds = pairs_within(start[:, :2], 1.85)
    problem = FrameProblem(0, shots[2], weight, start, np.full(len(start), "C"), bonds, np.full(len(start), 3), others, 4 * weight, OFFSETS)
    return problem, true, optics, grid_around([problem], 0.2)


def test_linked_neighbours_make_heights_better_and_stay_honest():
    """Over three sheets: a few soft modes carry a frame's error, whose ratio to sigma is 0.6 to 1.4 of a single sheet."""
    alone = RefineSettings(Schedule(8.0, 10, 1, 5, 10, 16), 4, "lcbop", 300.0, 2.46, 0.0, 1)
    linked = replace(alone, motion=ThermalMotion(0.26, 1.6))
    errors, sigmas = {"alone": [], "linked": []}, {"alone": [], "linked": []}
    for sheet in range(11, 14):
        truth = [f.positions for f in true_frames(View(200, 0.2, 0.1), 5, Specimen(), seed=sheet)]
        problem, true, optics, grid = five_frames(truth, 200, 500.0, sheet)
        for name, settings in (("alone", alone), ("linked", linked)):
            estimate = refine_frames([problem], optics, grid, settings)[0][0]
            result = score(estimate.positions, true, (40.0, 40.0))
            errors[name].append(result.error_angstrom[:, 2])
            sigmas[name].append(estimate.sigma[result.found, 2])
    rms = {name: np.sqrt(np.mean(np.concatenate(error) ** 2)) for name, error in errors.items()}
    assert rms["linked"] < 0.9 * rms["alone"]
    for name, sigma in sigmas.items():
        assert 0.7 < rms[name] / np.sqrt(np.mean(np.concatenate(sigma) ** 2)) < 1.4


def test_ripples_that_turned_over_are_hardly_linked(monkeypatch):
    """The middle frame of three movies mirrored in height against its neighbours: as good as alone. With the least motion taken at its word
    it is not."""
    alone = RefineSettings(Schedule(8.0, 10, 1, 5, 10, 16), 4, "lcbop", 300.0, 2.46, 0.0, 1)
    linked = replace(alone, motion=ThermalMotion(0.26, 1.6))
    turned = []
    for sheet in range(21, 24):
        frames = [f.positions for f in true_frames(View(200, 0.2, 0.1), 5, Specimen(), seed=sheet)]
        turned.append(five_frames([positions * [1, 1, 1 if n == 2 else -1] for n, positions in enumerate(frames)], 200, 8000.0, sheet))

    def error_and_sigma(settings):
        errors, sigmas = [], []
        for problem, true, optics, grid in turned:
            estimate = refine_frames([problem], optics, grid, settings)[0][0]
            result = score(estimate.positions, true, (40.0, 40.0))
            errors.append(result.error_angstrom[:, 2].std())
            sigmas.append(estimate.sigma[result.found, 2])
        return np.sqrt(np.mean(np.square(errors))), np.sqrt((np.concatenate(sigmas) ** 2).mean())

    (error_alone, _), (error_linked, sigma_linked) = error_and_sigma(alone), error_and_sigma(linked)
    monkeypatch.setattr("scant.inference.replicas.motion_seen", lambda motion, *_: motion)
    error_at_its_word, _ = error_and_sigma(linked)
    assert error_linked < 1.2 * error_alone
    assert error_linked / sigma_linked < 1.3
    assert error_at_its_word > 1.4 * error_alone
