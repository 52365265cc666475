"""Simulated annealing of many replicas at once: Metropolis-corrected Hamiltonian moves on a geometric schedule.

Samples exp(-E / tau) with tau_k = tau_0 alpha^k down to tau = 1, the posterior, and goes on there for its moments
(DESIGN 4). Moves: Hamiltonian dynamics (Duane et al., Phys. Lett. B 195 (1987) 216; Neal, Handbook of MCMC, 2011) in
mode coordinates; acceptance makes every step exact whatever the integrator's error. Each replica adapts its own step
and draws from its own stream, so its result does not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scant.xp import array_module, to_numpy

Energy = Callable[[Any], tuple[Any, Any, Any]]


@dataclass(frozen=True)
class Schedule:
    """tau falls from `tau_start` to 1 in `n_temperatures` steps of `moves_per_temperature`; then `n_samples` moves at 1.

    One move is `leapfrog_steps` evaluations of energy and gradient. The first `burn_in` moves at tau = 1 are not counted. Sampling ends
    before `n_samples` when the chains agree: split R-hat of the soft modes below `stop_r_hat`.
    """

    tau_start: float
    n_temperatures: int
    moves_per_temperature: int
    burn_in: int
    n_samples: int
    leapfrog_steps: int
    target_acceptance: float = 0.8
    stop_r_hat: float = 1.1

    @property
    def n_annealed(self) -> int:
        """Moves before the burn-in."""
        return self.n_temperatures * self.moves_per_temperature

    def n_searched(self, linked: bool) -> int:
        """Moves before the frame's own burn-in: a link to other frames is learned by a burn-in and samples of its own."""
        return self.n_annealed + (self.burn_in + self.n_samples if linked else 0)

    def n_moves(self, linked: bool) -> int:
        """Moves of one chain at most, sampling included."""
        return self.n_searched(linked) + self.burn_in + self.n_samples

    def taus(self) -> np.ndarray:
        """Temperature of every move before sampling, in order."""
        ladder = self.tau_start ** (1 - np.arange(self.n_temperatures) / max(self.n_temperatures, 1))
        return np.concatenate([np.repeat(ladder, self.moves_per_temperature), np.ones(self.burn_in)])


@dataclass
class Chain:
    """State of a batch of replicas in mode coordinates u (B, N, 3), with what the next move needs.

    `held` (B,): the leading coordinates that are atoms; padding is never moved, and takes no random number.
    `flipped` (B,): mirror flips accepted so far.
    """

    u: Any
    held: np.ndarray
    energy: Any
    gradient: Any
    misfit: Any
    step: np.ndarray
    accepted: list[np.ndarray] = field(default_factory=list)
    trace: list[np.ndarray] = field(default_factory=list)
    flipped: Any = 0


def start_chain(energy: Energy, u: Any, step: float = 0.3, held: np.ndarray | None = None) -> Chain:
    """A chain at u (B, N, 3), before its first move; `held` (B,) where replicas are padded."""
    value, gradient, misfit = energy(u)
    return Chain(u, np.full(len(u), u.shape[1]) if held is None else held, value, gradient, misfit, np.full(len(u), step))


def hamiltonian_move(
    chain: Chain, energy: Energy, tau: float, n_steps: int, streams: list[np.random.Generator], active: np.ndarray | None = None
) -> None:
    """One Metropolis move of every replica, or of the `active` ones (B,); the chain is updated in place.

    A replica whose trajectory ends in a non-finite energy rejects it, as Metropolis demands.
    """
    xp = array_module(chain.u)
    dtype = chain.u.dtype
    drawn = np.zeros(chain.u.shape, np.float32)
    for row, held, source in zip(drawn, chain.held, streams, strict=True):
        row[:held] = source.standard_normal((held, 3), dtype=np.float32)
    momentum = xp.asarray(drawn, dtype)
    jitter = np.array([s.uniform(0.8, 1.2) for s in streams])
    log_uniform = np.log([s.uniform() for s in streams])
    step = xp.asarray(chain.step * jitter * math.sqrt(tau), dtype)[:, None, None]
    kick = step / tau
    kinetic = _kinetic(momentum)
    u, gradient = chain.u, chain.gradient
    momentum = momentum - 0.5 * kick * gradient
    # A trajectory that runs away overflows before it is rejected.
    with np.errstate(over="ignore", invalid="ignore"):
        for n in range(n_steps):
            u = u + step * momentum
            value, gradient, misfit = energy(u)
            momentum = momentum - (kick if n < n_steps - 1 else 0.5 * kick) * gradient
        log_ratio = to_numpy((chain.energy - value) / tau + kinetic - _kinetic(momentum))
    log_ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    accept = (log_uniform < log_ratio) & (True if active is None else active)
    _keep(chain, xp.asarray(accept), u, value, gradient, misfit)
    chain.accepted.append(np.exp(np.minimum(log_ratio, 0)))
    chain.trace.append(to_numpy(chain.energy))


def mirror_flip(
    chain: Chain, energy: Energy, tau: float, domes: Any, streams: list[np.random.Generator], active: np.ndarray | None = None
) -> None:
    """Turn a dome of every replica's heights upside down, u_z -> u_z - 2 d (d . u_z) with d (B, N) of unit length, or leave it.

    A reflection is its own inverse and keeps volumes, so Metropolis alone makes it exact. It crosses between ripples that an image
    taken near focus hardly tells apart (DESIGN 4), which trajectories do not.
    """
    xp = array_module(chain.u)
    u = chain.u.copy()
    u[..., 2] -= 2 * domes * (domes * u[..., 2]).sum(axis=-1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        value, gradient, misfit = energy(u)
        log_ratio = to_numpy((chain.energy - value) / tau)
    log_ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    accept = (np.log([s.uniform() for s in streams]) < log_ratio) & (True if active is None else active)
    _keep(chain, xp.asarray(accept), u, value, gradient, misfit)
    chain.flipped += accept


def _keep(chain: Chain, keep: Any, u: Any, value: Any, gradient: Any, misfit: Any) -> None:
    """Take over the new state of the replicas that accepted it."""
    xp = array_module(u)
    chain.u = xp.where(keep[:, None, None], u, chain.u)
    chain.gradient = xp.where(keep[:, None, None], gradient, chain.gradient)
    chain.energy = xp.where(keep, value, chain.energy)
    chain.misfit = xp.where(keep, misfit, chain.misfit)


def _kinetic(momentum: Any) -> Any:
    return 0.5 * (momentum**2).sum(axis=(1, 2), dtype=np.float64)


def adapt_step(chain: Chain, target_acceptance: float, n_moves: int) -> None:
    """Robbins-Monro on log step towards the target acceptance; to be stopped before sampling begins."""
    gain = 0.6 / math.sqrt(1 + n_moves / 10)
    chain.step = np.clip(chain.step * np.exp(gain * (chain.accepted[-1] - target_acceptance)), 1e-3, 2.0)
