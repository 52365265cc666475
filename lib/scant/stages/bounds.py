"""What the bound says of a dataset: the best accuracy at each dose, with the prior and without, and the defocus to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.inference.bound import SheetInView, image_bound, position_bound
from scant.physics.optics import Optics

DEFOCUS_STEPS_ANGSTROM = (-60.0, -45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0, 60.0)


@dataclass(frozen=True)
class Noise:
    """A camera's excess noise factor and read noise in electrons."""

    excess: float
    read_e: float

    def per_electron(self, mean_e: float) -> float:
        """Variance of a pixel over its mean; no camera beats shot noise."""
        return max(self.excess, 1.0) + self.read_e**2 / mean_e


def bound_by_dose(sheet: SheetInView, optics: Optics, doses: Sequence[float], noise: Noise) -> pl.DataFrame:
    """dose_e_per_angstrom2, bound_{x,y,z}_angstrom, bound_3d_angstrom and, without the prior, image_alone_z_angstrom."""
    rows = []
    for dose in doses:
        per_electron = noise.per_electron(dose * sheet.pixel_size_angstrom**2)
        bound = position_bound(sheet, optics, dose, per_electron)
        alone = image_bound(sheet, optics, dose, per_electron)
        rows.append((float(dose), *map(float, bound), float(np.sqrt((bound**2).sum())), float(alone[2])))
    names = ("dose_e_per_angstrom2", *(f"bound_{axis}_angstrom" for axis in "xyz"), "bound_3d_angstrom", "image_alone_z_angstrom")
    return pl.DataFrame(rows, schema=names, orient="row")


def bound_by_defocus(sheet: SheetInView, optics: Optics, dose_e_per_angstrom2: float, noise: Noise) -> pl.DataFrame:
    """defocus_angstrom around the dataset's own, bound_z_angstrom and bound_xy_angstrom (rms of x and y) at its dose."""
    rows = []
    per_electron = noise.per_electron(dose_e_per_angstrom2 * sheet.pixel_size_angstrom**2)
    for step in DEFOCUS_STEPS_ANGSTROM:
        other = optics.with_values(defocus_angstrom=optics.defocus_angstrom + step)
        x, y, z = position_bound(sheet, other, dose_e_per_angstrom2, per_electron)
        rows.append((other.defocus_angstrom, float(z), float(np.sqrt((x**2 + y**2) / 2))))
    return pl.DataFrame(rows, schema=("defocus_angstrom", "bound_z_angstrom", "bound_xy_angstrom"), orient="row")
