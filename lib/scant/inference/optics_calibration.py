"""Optics and structures of a few frames in turn: fit on the flat lattice, anneal briefly, fit again on what was found.

The second fit takes one posterior sample per frame, not the mean (stochastic EM; Celeux and Diebolt 1985): the mean follows the
noise of its own frame, and optics fitted to it claim too little damping.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scant.errors import CalibrationError
from scant.inference.anneal import Schedule
from scant.inference.optics_fit import CalibrationFrame, OpticsFit, agreement, fit_optics
from scant.inference.prepare import grid_around
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.inference.tiles import middle_of
from scant.physics.forward import ImageGrid
from scant.physics.optics import Optics
from scant.physics.scattering import check_single_scattering

# ASSUME: room temperature is near enough here: heights enter the optics only through their spread about zero.
BRIEF = RefineSettings(
    Schedule(tau_start=8.0, n_temperatures=10, moves_per_temperature=1, burn_in=8, n_samples=8, leapfrog_steps=16),
    n_chains=1, potential="lcbop", temperature_k=300.0, lattice_constant_angstrom=2.46, minimum_correlation=-1.0, seed=0,
)  # fmt: skip
# Six frames of 1,000 atoms at 8e3 e/A^2 tell the defocus to 0.04 A; whole frames of 2048 x 2048 would take an hour.
SIDE_ANGSTROM = 64.0
NOMINAL_ENVELOPE_B_ANGSTROM2 = 1.5
MINIMUM_CORRELATION = 0.02
PAD_ANGSTROM = 8.0
# The opposite defocus must explain the images so much better before the sign is called wrong; no microscope gives more contrast than this.
FRAMES_FOR_THE_SIGN, BETTER_CORRELATION = 2, 1.03
LARGEST_CONTRAST = 2.0
# A lattice laid on noise follows it and seems to have a tenth of the contrast.
CONTRAST_OF_A_LATTICE = 0.3


def calibrate_optics(
    nominal: Optics, problems: list[FrameProblem], pixel_size_angstrom: float, lattice_constant_angstrom: float, seed: int
) -> OpticsFit:
    """Fit defocus, astigmatism, focal spread, envelope and contrast to the frames, whose structures are annealed under a first fit.

    Of views larger than 64 A their middle is looked at.
    Raises CalibrationError when model and data do not match at all (the wrong sign of the contrast, or other optics), InputError where
    the specimen scatters more than once.
    """
    view_angstrom2 = problems[0].counts_e.size * pixel_size_angstrom**2
    check_single_scattering(problems[0].species, view_angstrom2, nominal.voltage_kv)
    problems = [middle_of(p, SIDE_ANGSTROM, pixel_size_angstrom) for p in problems]
    grid = grid_around(problems, pixel_size_angstrom)
    centre = _with_envelope(nominal)
    flat = fit_optics(centre, grid, [_frame(p, p.positions) for p in problems])
    if flat.correlation < MINIMUM_CORRELATION:
        raise CalibrationError(
            f"model and data correlate by {flat.correlation:.3f} at the best optics (defocus {flat.optics.defocus_angstrom:.0f} A), "
            f"at least {MINIMUM_CORRELATION} is needed: check the signs of defocus_angstrom and cs_um, and the pixel size"
        )
    _refuse_the_other_sign(flat, centre, grid, problems)
    settings = replace(BRIEF, lattice_constant_angstrom=lattice_constant_angstrom, seed=seed)
    annealed = []
    for problem in problems:
        estimates, _ = refine_frames([problem], flat.optics, grid, settings)
        annealed += [_frame(problem, estimate.samples[0]) for estimate in estimates]
    return fit_optics(centre, grid, annealed or [_frame(p, p.positions) for p in problems], start=flat.optics)


def optics_for_detection(nominal: Optics, flat: list[CalibrationFrame], pixel_size_angstrom: float) -> Optics:
    """Optics fitted to frames as if each were a flat and perfect lattice; the nominal ones where those do not look like it.

    Detection compares images of defects: 13 A off the defocus, with a focal spread of 20 A, a turned bond looks like two vacancies.
    """
    centre = _with_envelope(nominal)
    if not flat:
        return centre
    height_px, width_px = flat[0].counts_e.shape
    fit = fit_optics(centre, ImageGrid.padded(height_px, width_px, pixel_size_angstrom, PAD_ANGSTROM), flat)
    return fit.optics if CONTRAST_OF_A_LATTICE <= fit.optics.contrast_scale <= LARGEST_CONTRAST else centre


def _with_envelope(nominal: Optics) -> Optics:
    return nominal.with_values(envelope_b_angstrom2=NOMINAL_ENVELOPE_B_ANGSTROM2)


def _refuse_the_other_sign(fit: OpticsFit, centre: Optics, grid: ImageGrid, problems: list[FrameProblem]) -> None:
    """Raises CalibrationError where the opposite sign of the defocus fits better, or the fit asks for an impossible contrast."""
    opposite = centre.with_values(defocus_angstrom=-centre.defocus_angstrom)
    few = [_frame(p, p.positions) for p in problems[:FRAMES_FOR_THE_SIGN]]
    other, stated = fit_optics(opposite, grid, few, max_iterations=6).correlation, agreement(fit.optics, grid, few)[0]
    if other > BETTER_CORRELATION * stated:
        raise CalibrationError(
            f"a defocus of {opposite.defocus_angstrom:g} A explains the images better than the stated {centre.defocus_angstrom:g} A "
            f"(correlation {other:.3f} instead of {stated:.3f}): correct the sign of defocus_angstrom (underfocus is "
            "positive; bright atoms with a negative Cs need overfocus, which is negative), or that of cs_um"
        )
    if fit.optics.contrast_scale > LARGEST_CONTRAST:
        raise CalibrationError(
            f"the images have {fit.optics.contrast_scale:.2f} times the contrast that the stated optics give (allowed: up to "
            f"{LARGEST_CONTRAST:g}): check defocus_angstrom, cs_um and voltage_kV, their signs and units"
        )


def _frame(problem: FrameProblem, positions: np.ndarray) -> CalibrationFrame:
    return CalibrationFrame(problem.counts_e.astype(float), problem.inverse_variance, positions, problem.species)
