"""Positions of all atoms of one frame with their uncertainty, and ring centres for images whose hollows are sharper than their atoms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from scant.errors import InputError
from scant.imaging.binning import on_finer_pixels
from scant.imaging.candidates import FLAG_CONTAMINATED, FLAG_DEFECT, FLAG_EDGE, FLAG_OUTSIDE, FLAG_UNCERTAIN, Detection
from scant.imaging.detect import detect_atoms
from scant.imaging.fit import BLOCK_REACH, Fit, Observation, fit_template, observe, refine
from scant.imaging.local_inverse import crystal_inverse
from scant.imaging.missing import Simulator
from scant.imaging.occupancy import atom_amplitudes
from scant.imaging.reciprocal import Lattice2D
from scant.imaging.sites import WEAK_FIELD, hollow_grid
from scant.imaging.smooth import wide_gaussian
from scant.imaging.template import TemplateBasis

__all__ = [
    "FLAG_CONTAMINATED", "FLAG_DEFECT", "FLAG_EDGE", "FLAG_OUTSIDE", "FLAG_UNCERTAIN",
    "Hexagons", "Localised", "hexagon_centres", "localise_frame", "own_variance",
]  # fmt: skip

# Gauss-Newton steps from where the mean has the atoms: a third one changes their errors by less than half a percent.
STEPS = 2

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Localised:
    """Atoms of one frame, in view first and then those modelled up to the margin beyond it (flag bit FLAG_OUTSIDE).

    All (n,): `x_px`, `y_px` with standard errors `sigma_x_px`, `sigma_y_px` from the joint fit of all atoms and springs; `amplitude_e` the
    peak of the atom's template and `background_e` under it; `p_atom`; `flag` bits; `pcd` the contrast relative to the mean atom of the
    frame (varies with local defocus, hence with height) with `sigma_pcd`. `index` (n, 3) = (i, j, sublattice); `bonds` (m, 2);
    `vacancies_px` (k, 2) empty sites in view; `chi2` per degree of freedom.
    """

    x_px: Array
    y_px: Array
    sigma_x_px: Array
    sigma_y_px: Array
    amplitude_e: Array
    background_e: Array
    p_atom: Array
    flag: Ints
    pcd: Array
    sigma_pcd: Array
    index: Ints
    bonds: Ints
    vacancies_px: Array
    chi2: float

    @property
    def positions_px(self) -> Array:
        """(n, 2) columns x, y."""
        return np.stack([self.x_px, self.y_px], axis=1)

    @property
    def in_view(self) -> Bool:
        """(n,) atoms whose centre lies in the field of view."""
        return np.asarray((self.flag & FLAG_OUTSIDE) == 0)

    def enlarged(self, factor: int) -> Localised:
        """The same atoms on pixels `factor` times finer."""
        x_px, y_px, vacancies_px = (on_finer_pixels(positions, factor) for positions in (self.x_px, self.y_px, self.vacancies_px))
        return replace(
            self, x_px=x_px, y_px=y_px, vacancies_px=vacancies_px,
            sigma_x_px=self.sigma_x_px * factor, sigma_y_px=self.sigma_y_px * factor,
        )  # fmt: skip


def localise_frame(
    image_e: NDArray[np.floating],
    variance_e2: NDArray[np.floating] | float | None,
    mask: Bool | None,
    lattice: Lattice2D,
    *,
    detection: Detection | None = None,
    detection_image: NDArray[np.floating] | None = None,
    basis: TemplateBasis | None = None,
    simulate: Simulator | None = None,
) -> Localised:
    """Maximum a posteriori positions of every atom in one (ny, nx) frame of electrons.

    Which atoms there are is taken from `detection`, else found on `detection_image` (for a noisy frame: a window average moved onto this
    frame), else on the frame itself; positions, amplitudes and errors always come from the frame. `variance_e2` None: estimated.
    `basis` is the known transfer of one atom (`template.optical_basis`). Raises InputError for a frame with NaN or a wrong shape.
    """
    _check(image_e, mask, detection_image)
    if detection is None:
        seen, variance_seen = (image_e, variance_e2) if detection_image is None else (detection_image, None)
        detection = detect_atoms(seen, lattice, variance_e2=variance_seen, mask=mask, basis=basis, simulate=simulate)
    bond = lattice.bond_px
    variance = own_variance(image_e, mask) if variance_e2 is None else variance_e2
    observation = observe(image_e, variance, mask, bond, basis)
    present = np.ones(len(detection.positions_px))
    template = fit_template(observation, detection.positions_px, present)
    springs, pattern = detection.springs(bond), detection.fit.pattern
    fit = refine(observation, detection.positions_px, present, springs, template=template, pattern=pattern, iterations=STEPS)
    covariance = crystal_inverse(fit.normal, fit.positions_px, BLOCK_REACH * bond, 2)
    amplitude, sigma = atom_amplitudes(observation, fit, bond)
    return _assemble(image_e, observation, detection, fit, (covariance, amplitude, sigma))


def _assemble(
    image_e: NDArray[np.floating], observation: Observation, detection: Detection, fit: Fit, estimates: tuple[Array, Array, Array]
) -> Localised:
    covariance, amplitude, sigma = estimates
    positions = fit.positions_px
    order = np.argsort(_outside(positions, image_e.shape), kind="stable")
    number = np.argsort(order)
    smooth = wide_gaussian(np.where(observation.mask > 0, image_e, 0.0), observation.width_px) / observation.norm
    background = map_coordinates(smooth, positions[:, ::-1].T, order=1, mode="nearest")
    outside = _outside(positions, image_e.shape)
    flag = np.where(outside, (detection.flag & FLAG_DEFECT) | FLAG_OUTSIDE, detection.flag & ~FLAG_OUTSIDE)
    sigma_px = np.sqrt(np.stack([covariance[:, 0, 0], covariance[:, 1, 1]]))
    pixels, freedom = float((observation.mask > 0).sum()), 2 * float((~outside).sum())
    return Localised(
        x_px=positions[order, 0],
        y_px=positions[order, 1],
        sigma_x_px=sigma_px[0, order],
        sigma_y_px=sigma_px[1, order],
        amplitude_e=(fit.template.atom.peak * amplitude)[order],
        background_e=background[order],
        p_atom=detection.p_atom[order],
        flag=flag[order],
        pcd=amplitude[order],
        sigma_pcd=sigma[order],
        index=detection.index[order],
        bonds=np.sort(number[detection.bonds], axis=1),
        vacancies_px=detection.vacancies_px[~_outside(detection.vacancies_px, image_e.shape)],
        chi2=float((fit.residual**2 * observation.weight).sum() / max(pixels - freedom, 1.0)),
    )


def _outside(positions: Array, shape: tuple[int, ...]) -> Bool:
    limits = np.array(shape[::-1]) - 0.5
    beyond: Bool = (positions < -0.5) | (positions >= limits)
    return np.asarray(beyond.any(axis=1), dtype=np.bool_)


def own_variance(image_e: NDArray[np.floating], mask: Bool | None = None) -> float:
    """Noise variance from pixel-to-pixel second differences, in which the atoms (several pixels wide) hardly show."""
    image = np.asarray(image_e, dtype=float)
    second = image[1:-1, 1:-1] - 0.25 * (image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:])
    valid = np.ones(second.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)[1:-1, 1:-1]
    return max(float((1.4826 * np.median(np.abs(second[valid]))) ** 2 / 1.25), 1e-12)


def _check(image_e: NDArray[np.floating], mask: Bool | None, detection_image: NDArray[np.floating] | None) -> None:
    for name, other in (("mask", mask), ("detection image", detection_image)):
        if other is not None and other.shape != image_e.shape:
            raise InputError(f"localise: the {name} has shape {other.shape}, the frame {image_e.shape}; give both on the same pixels")
    if image_e.ndim != 2 or not np.isfinite(image_e).all():
        raise InputError(f"localise: frame of shape {image_e.shape} must be two-dimensional and finite; fill bad pixels and mask them")


@dataclass(frozen=True)
class Hexagons:
    """Ring centres: `centres_px` (n, 2); `corners` (n, 6) atom numbers around each, anticlockwise on screen or -1 where there is none;
    `contaminated` (n,)."""

    centres_px: Array
    corners: Ints
    contaminated: Bool


def hexagon_centres(image: NDArray[np.floating], lattice: Lattice2D, localised: Localised, mask: Bool | None = None) -> Hexagons:
    """Centres of the hexagons in view: the hollow from the local phase, averaged with the centroid of its six atoms if they are there."""
    grid = hollow_grid(image, lattice, mask)
    lookup = {tuple(k): n for n, k in enumerate(localised.index.tolist())}
    nodes = np.argwhere(np.isfinite(grid.positions_px[..., 0]))
    around = [(0, 0, 0), (-1, 0, 1), (-1, 0, 0), (-1, -1, 1), (0, -1, 0), (0, -1, 1)]
    corners = np.array(
        [[lookup.get((i - grid.centre + a, j - grid.centre + b, s), -1) for a, b, s in around] for i, j in nodes.tolist()], dtype=np.int64
    )
    hollow = grid.positions_px[nodes[:, 0], nodes[:, 1]]
    complete: Bool = np.all(corners >= 0, axis=1)
    centroid = localised.positions_px[corners].mean(axis=1)
    centres = np.where(complete[:, None], 0.5 * (hollow + centroid), hollow)
    touched = (corners >= 0) & ((localised.flag[corners] & FLAG_CONTAMINATED) > 0)
    contaminated: Bool = np.array((touched.sum(axis=1) >= 3) | (grid.strength[nodes[:, 0], nodes[:, 1]] < WEAK_FIELD), dtype=np.bool_)
    inside = np.asarray(~_outside(centres, image.shape))
    return Hexagons(centres[inside], corners[inside], contaminated[inside])
