"""The figures of a report under one name; each takes tables or arrays and returns a matplotlib Figure."""

from scant.report.curves import displacement_figure, dose_figure, ripple_course_figure, ripple_spectrum_figure, validation_figure
from scant.report.distributions import (
    bond_figure,
    drift_figure,
    energy_figure,
    intensity_figure,
    md_figure,
    quality_figure,
    sigma_figure,
)
from scant.report.maps import curvature_figure, electronic_figure, fluctuation_figure, frame_triptych, height_figure, strain_figure
from scant.report.style import png_bytes, save_figure, vector_bytes

__all__ = [
    "bond_figure",
    "curvature_figure",
    "displacement_figure",
    "dose_figure",
    "drift_figure",
    "electronic_figure",
    "energy_figure",
    "fluctuation_figure",
    "frame_triptych",
    "height_figure",
    "intensity_figure",
    "md_figure",
    "png_bytes",
    "quality_figure",
    "ripple_course_figure",
    "ripple_spectrum_figure",
    "save_figure",
    "sigma_figure",
    "strain_figure",
    "validation_figure",
    "vector_bytes",
]
