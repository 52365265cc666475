"""Is there an atom? Amplitudes of all atoms, probabilities, and the removal of empty sites."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit

from scant.imaging.candidates import FLAG_CONTAMINATED, FLAG_DEFECT, FLAG_UNCERTAIN, Detection, refitted, without
from scant.imaging.fit import BLOCK_REACH, Fit, Observation
from scant.imaging.local_inverse import crystal_inverse
from scant.imaging.missing import AtomKernels, missing_scores
from scant.imaging.normal_equations import block_jacobi, solved
from scant.imaging.separable import responses
from scant.imaging.template import overlaps

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

VACANCY_ODDS = 1e-3
MIN_VISIBLE = 0.3
AMPLITUDE_PRIOR = 0.2
# Systematic spread of the score of occupied and of empty sites (neighbours relax and take up part of the signal), and the latter's mean.
OCCUPIED_SPREAD, EMPTY_SPREAD, EMPTY_SCORE = 0.1, 0.25, 0.8
CERTAIN = 0.95


@dataclass(frozen=True)
class Evidence:
    """Per site (n,): `score` 0 occupied, about 1 empty; `spread` of it over occupied sites; `visible` False where the image cannot tell."""

    score: Array
    spread: float
    visible: Bool


def atom_amplitudes(observation: Observation, fit: Fit, bond_px: float) -> tuple[Array, Array]:
    """Contrast of every atom relative to the mean one, and its standard error; all free together, their own prior taken out."""
    positions, n, prior = fit.positions_px, len(fit.positions_px), 1 / AMPLITUDE_PRIOR**2
    pairs = fit.pattern.pairs
    overlap = overlaps(positions, pairs, fit.visible, fit.template)[:, 0, 0]
    off = pairs[:, 0] != pairs[:, 1]
    first, second = np.concatenate([pairs, pairs[off][:, ::-1]]).T
    coupled = sp.csr_matrix((np.concatenate([overlap, overlap[off]]), (first, second)), shape=(n, n))
    matrix = sp.csr_matrix(coupled + prior * sp.identity(n, format="csr"))
    drive = responses(positions, fit.residual * observation.weight, fit.template.atom)[:, 0]
    change = solved(matrix, drive[:, None], 1e-5, block_jacobi(matrix, 1))[:, 0]
    variance = crystal_inverse(matrix, positions, BLOCK_REACH * bond_px, 1)[:, 0, 0]
    precision = np.maximum(1 / variance - prior, 1e-6)
    return 1 + change / variance / precision, 1 / np.sqrt(precision)


def evidence(observation: Observation, state: Detection, kernels: AtomKernels | None, bond_px: float) -> Evidence:
    """Score of every site, by the simulated kernels if there are any, else by the fitted amplitude; its spread measured on the frame."""
    if kernels is None:
        amplitude, sigma = atom_amplitudes(observation, state.fit, bond_px)
        score, information = 1 - amplitude, 1 / sigma**2
    else:
        score, information = missing_scores(state.fit.residual, observation.weight, state.positions_px, state.index[:, 2], kernels)
    view = state.in_view
    visible = (information > MIN_VISIBLE * np.median(information[view])) & view
    centre = float(np.median(score[visible]))
    spread = 1.4826 * float(np.median(np.abs(score[visible] - centre)))
    return Evidence(score - centre, spread, visible)


def probability_of_atom(e: Evidence) -> Array:
    """Posterior that a site is occupied, from its score under both hypotheses and the prior odds of a vacancy."""
    occupied, empty = e.spread**2 + OCCUPIED_SPREAD**2, e.spread**2 + EMPTY_SPREAD**2
    # a score beyond that of an empty site is no evidence against emptiness
    shortfall = np.minimum(e.score - EMPTY_SCORE, 0)
    log_ratio = 0.5 * (shortfall**2 / empty - np.maximum(e.score, 0) ** 2 / occupied + np.log(empty / occupied))
    return np.asarray(expit(np.where(e.visible, log_ratio, 0.0) - np.log(VACANCY_ODDS)))


def remove_vacancies(observation: Observation, state: Detection, kernels: AtomKernels | None, bond_px: float) -> Detection:
    """Take out empty sites, worst first and far apart, refitting in between, until every site left is better occupied."""
    turned = (state.flag & FLAG_DEFECT) > 0
    tested = {tuple(k) for k in state.index[turned].tolist()}
    while True:
        p = probability_of_atom(evidence(observation, state, kernels, bond_px))
        exempt = (state.flag & FLAG_CONTAMINATED) > 0
        if tested:
            exempt |= np.array([tuple(k) in tested for k in state.index.tolist()])
        p = np.where(exempt, np.maximum(p, 0.5 + 0.5 * (1 - VACANCY_ODDS)), p)
        empty = np.nonzero(p < 0.5)[0]
        chosen: list[int] = []
        for k in empty[np.argsort(p[empty])]:
            if all(np.hypot(*(state.positions_px[k] - state.positions_px[c])) > 4 * bond_px for c in chosen):
                chosen.append(int(k))
        if not chosen:
            flag = state.flag | np.where((p < CERTAIN) & ~exempt, FLAG_UNCERTAIN, 0)
            return replace(state, p_atom=p, flag=flag)
        state = refitted(without(state, np.array(chosen)), observation, bond_px)
