"""Posterior moments from chains: mean, honest standard deviation, R-hat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scant.xp import array_module, to_numpy

SAMPLES_ALIKE = 8
TIE_ERRORS = 2.0


@dataclass
class Moments:
    """Running mean and scatter of positions (B, N, 3), in double precision, with the mean heights and the soft coordinates kept.

    `counts` (B,): samples of each replica. Replicas that have stopped add nothing more.
    """

    counts: Any = 0
    mean: Any = 0.0
    scatter: Any = 0.0
    soft: list[np.ndarray] = field(default_factory=list)
    mean_height: list[np.ndarray] = field(default_factory=list)

    def add(self, positions: Any, mean_height: Any, soft: Any, active: np.ndarray | None = None) -> None:
        """Add one sample (Welford's update) with its mean height (B,), taken out of the positions, and its soft coordinates (B, K).

        active (B,) bool: the replicas that still sample; None: all.
        """
        adding = np.ones(len(positions), bool) if active is None else active
        self.counts = self.counts + adding
        sample = positions.astype(np.float64)
        delta = sample - self.mean
        share = array_module(positions).asarray(adding / np.maximum(self.counts, 1))[:, None, None]
        self.mean = self.mean + delta * share
        self.scatter = self.scatter + delta * (sample - self.mean) * (share > 0)
        self.soft.append(to_numpy(soft))
        self.mean_height.append(to_numpy(mean_height))


def chain_weights(energies: np.ndarray) -> np.ndarray:
    """Weights (F, C) of chains whose energies while sampling are (S, F, C): the basin is chosen by energy.

    Chains whose mean energies lie within two standard errors of the lowest tie and are pooled alike; beyond that a chain sits in a
    wrong basin and its weight falls by e for every further one. The error is the larger of two estimates: from the scatter of a
    chain's quarters, and from one sample in eight, as samples in a row are alike.
    """
    quarters = np.stack([part.mean(axis=0) for part in np.array_split(energies, 4)])
    single = energies.std(axis=0).mean(axis=-1, keepdims=True) / np.sqrt(len(energies) / SAMPLES_ALIKE)
    error = np.maximum(np.maximum(quarters.std(axis=0, ddof=1).mean(axis=-1, keepdims=True) / 2, single), 1.0)
    mean = energies.mean(axis=0)
    weights = np.exp(-np.maximum((mean - mean.min(axis=-1, keepdims=True)) / error - TIE_ERRORS, 0))
    return weights / weights.sum(axis=-1, keepdims=True)


def combine_chains(moments: Moments, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (F, N, 3), standard deviation (F, N, 3) and spread of the chains' means (F, N, 3); weights (F, C).

    Replicas are ordered frame by frame, chains together. The variance is that within chains, plus the unbiased one between their means
    (what a chain of few samples has not seen, or basins that tie), plus the error of the pooled mean itself.
    """
    shape = (*weights.shape, *moments.mean.shape[1:])
    w = weights[:, :, None, None]
    free = np.maximum(moments.counts - 1, 1).reshape(*weights.shape, 1, 1)
    means, within = to_numpy(moments.mean).reshape(shape), to_numpy(moments.scatter).reshape(shape) / free
    mean = (w * means).sum(axis=1)
    share = (weights**2).sum(axis=1)[:, None, None]
    between = (w * (means - mean[:, None]) ** 2).sum(axis=1)
    unbiased = between / np.maximum(1 - share, 0.5)
    return mean, np.sqrt((w * within).sum(axis=1) + unbiased * (1 + share)), np.sqrt(between)


def split_r_hat(samples: np.ndarray) -> np.ndarray:
    """Split R-hat (Gelman et al., Bayesian Data Analysis, 3rd ed., sec. 11.4) of samples (S, C, K): one value per coordinate K.

    Each chain is cut in halves, so that one chain alone can also fail.
    """
    half = samples.shape[0] // 2
    if half < 2:
        return np.full(samples.shape[2], np.nan)
    halves = np.concatenate([samples[:half], samples[half : 2 * half]], axis=1)
    within = halves.var(axis=0, ddof=1).mean(axis=0)
    between = halves.mean(axis=0).var(axis=0, ddof=1)
    return np.sqrt((half - 1) / half + between / np.maximum(within, 1e-30))
