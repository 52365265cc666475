"""The annealer samples the law it claims to sample, on its schedule, and a frame's result does not depend on its batch."""

from __future__ import annotations

import numpy as np
import pytest
from scant.inference.anneal import Schedule, adapt_step, hamiltonian_move, mirror_flip, start_chain
from scant.inference.posterior import Moments, chain_weights, combine_chains, split_r_hat
from scant.rng import stream


def double_well(u):
    """E = 3 (x^2 - 1)^2 + y^2 / 2 + 2 z^2 + x / 2 for every atom: two basins of different depth in x, Gaussians in y and z."""
    x, y, z = u[..., 0], u[..., 1], u[..., 2]
    energy = (3 * (x**2 - 1) ** 2 + y**2 / 2 + 2 * z**2 + x / 2).sum(axis=-1)
    gradient = np.stack([12 * x * (x**2 - 1) + 0.5, y, 4 * z], axis=-1)
    return energy.astype(np.float64), gradient, energy


def run(tau: float, n_moves: int, n_chains: int = 4, n_atoms: int = 3, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    streams = [stream(seed, "test", 0, c) for c in range(n_chains)]
    chain = start_chain(double_well, np.ones((n_chains, n_atoms, 3)), 0.4)
    for n in range(200):
        hamiltonian_move(chain, double_well, tau, 5, streams)
        adapt_step(chain, 0.8, n)
    samples = []
    for _ in range(n_moves):
        hamiltonian_move(chain, double_well, tau, 5, streams)
        samples.append(chain.u.copy())
    return np.stack(samples), np.array(chain.accepted[-n_moves:])


@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_samples_follow_the_boltzmann_law(tau):
    samples, acceptance = run(tau, 6000)
    assert 0.6 < acceptance.mean() < 0.95
    x = np.linspace(-2.5, 2.5, 4001)
    weight = np.exp(-(3 * (x**2 - 1) ** 2 + x / 2) / tau)
    expected_left = weight[x < 0].sum() / weight.sum()
    expected_square = (x**2 * weight).sum() / weight.sum()
    assert (samples[..., 0] < 0).mean() == pytest.approx(expected_left, abs=0.03)
    assert (samples[..., 0] ** 2).mean() == pytest.approx(expected_square, rel=0.03)
    assert samples[..., 1].var() == pytest.approx(tau, rel=0.05)
    assert samples[..., 2].var() == pytest.approx(tau / 4, rel=0.05)


def test_a_wrong_acceptance_would_show():
    """The law above fails for a sampler without Metropolis correction at the same step: the test can fail."""
    rng = np.random.default_rng(0)
    u = np.ones((4, 3, 3))
    squares = []
    for _ in range(4000):
        momentum = rng.standard_normal(u.shape)
        for _ in range(5):
            momentum -= 0.225 * double_well(u)[1]
            u = np.clip(u + 0.45 * momentum, -3, 3)
            momentum -= 0.225 * double_well(u)[1]
        squares.append(u[..., 0] ** 2)
    x = np.linspace(-2.5, 2.5, 4001)
    weight = np.exp(-(3 * (x**2 - 1) ** 2 + x / 2))
    assert np.mean(squares) != pytest.approx((x**2 * weight).sum() / weight.sum(), rel=0.03)


def test_schedule_is_geometric_and_ends_at_the_posterior():
    schedule = Schedule(tau_start=8.0, n_temperatures=3, moves_per_temperature=2, burn_in=2, n_samples=5, leapfrog_steps=4)
    np.testing.assert_allclose(schedule.taus(), [8, 8, 4, 4, 2, 2, 1, 1])
    assert (schedule.n_moves(linked=False), schedule.n_moves(linked=True)) == (13, 20)


def test_a_replica_does_not_depend_on_its_batch():
    def final(chains: list[int]) -> np.ndarray:
        chain = start_chain(double_well, np.ones((len(chains), 2, 3)), 0.4)
        streams = [stream(1, "batch", 7, c) for c in chains]
        for n in range(30):
            hamiltonian_move(chain, double_well, 1.0, 4, streams)
            adapt_step(chain, 0.8, n)
        return chain.u

    np.testing.assert_array_equal(final([0, 1, 2])[2], final([2])[0])


def domes_up_or_down(u):
    """E = 40 (z^2 - 1)^2 + 0.3 z + (x^2 + y^2) / 2: two heights of 40 k_B T between them, the lower one likelier by e^0.6."""
    x, y, z = u[..., 0], u[..., 1], u[..., 2]
    energy = (40 * (z**2 - 1) ** 2 + 0.3 * z + (x**2 + y**2) / 2).sum(axis=-1)
    return energy.astype(np.float64), np.stack([x, y, 160 * z * (z**2 - 1) + 0.3], axis=-1), energy


@pytest.mark.parametrize("flips", [True, False])
def test_mirror_flips_cross_where_trajectories_do_not(flips):
    """With flips the occupation of the two domes is Boltzmann's; without them every chain stays where it began."""
    streams = [stream(7, "flips", 0, c) for c in range(8)]
    chain = start_chain(domes_up_or_down, np.ones((8, 1, 3)), 0.08)
    low = []
    for _ in range(1500):
        hamiltonian_move(chain, domes_up_or_down, 1.0, 4, streams)
        if flips:
            mirror_flip(chain, domes_up_or_down, 1.0, np.ones((8, 1)), streams)
        low.append(chain.u[:, 0, 2] < 0)
    if flips:
        assert np.mean(low) == pytest.approx(1 / (1 + np.exp(-0.6)), abs=0.02)
        assert chain.flipped.min() > 300
    else:
        assert np.mean(low) == 0


def test_a_trajectory_that_runs_away_is_rejected():
    chain = start_chain(double_well, np.ones((1, 1, 3)), 1.9)
    before = chain.u.copy()
    hamiltonian_move(chain, double_well, 1.0, 40, [stream(0, "away")])
    np.testing.assert_array_equal(chain.u, before)
    assert chain.accepted[-1][0] == 0


def test_moments_equal_the_plain_mean_and_variance():
    samples = np.random.default_rng(3).normal(2.0, [0.1, 1.0, 5.0], (500, 2, 4, 3))
    moments = Moments()
    for sample in samples:
        moments.add(sample.astype(np.float32), sample[:, 0, 2], sample[:, :, 2])
    mean, sigma, between = combine_chains(moments, np.array([[1.0], [1.0]]))
    np.testing.assert_allclose(mean, samples.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(sigma, samples.std(axis=0, ddof=1), rtol=1e-5)
    assert np.all(between == 0)


def test_chains_that_disagree_widen_sigma():
    moments = Moments()
    rng = np.random.default_rng(1)
    for _ in range(200):
        moments.add(np.array([[[0.0, 0, 0]], [[1.0, 0, 0]]]) + rng.normal(0, 0.1, (2, 1, 3)), np.zeros(2), np.zeros((2, 1)))
    mean, sigma, between = combine_chains(moments, np.array([[0.5, 0.5]]))
    assert mean[0, 0, 0] == pytest.approx(0.5, abs=0.02)
    # two means at 0 and 1: unbiased variance 0.5, and half of it again for the error of their mean
    assert sigma[0, 0, 0] == pytest.approx(np.sqrt(0.1**2 + 0.5 * 1.5), rel=0.05)
    assert between[0, 0, 0] == pytest.approx(0.5, abs=0.02)
    assert sigma[0, 0, 1] == pytest.approx(0.1, rel=0.1)


def test_the_basin_is_chosen_by_energy_and_ties_are_pooled():
    rng = np.random.default_rng(2)
    energies = np.stack([rng.normal(100, 5, 80), rng.normal(100, 5, 80), rng.normal(160, 5, 80)], axis=-1)[:, None]
    weights = chain_weights(energies)[0]
    assert weights[2] < 1e-6
    assert min(weights[:2]) > 0.02
    assert weights.sum() == pytest.approx(1)


def test_r_hat_sees_a_chain_that_is_elsewhere():
    rng = np.random.default_rng(4)
    same = rng.normal(size=(200, 3, 2))
    assert split_r_hat(same).max() < 1.05
    apart = same + np.array([0, 0, 3.0])[None, :, None]
    assert split_r_hat(apart).min() > 1.5
    drifting = same + np.linspace(0, 4, 200)[:, None, None]
    assert split_r_hat(drifting).min() > 1.2
