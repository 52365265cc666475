"""The figures of a report under one name; each takes tables or arrays and returns a matplotlib Figure."""

from scant.report.curves import displacement_figure, dose_figure, ripple_course_figure, ripple_spectrum_figure, validation_figure
from scant.report.diagnostics import (
    bound_figure,
    correlation_figure,
    image_figure,
    photon_transfer_figure,
    profile_figure,
    residual_figure,
    spread_figure,
    transfer_figure,
)
from scant.report.distributions import (
    bond_figure,
    drift_figure,
    energy_figure,
    intensity_figure,
    md_figure,
    quality_figure,
    sigma_figure,
)
from scant.report.maps import (
    atom_maps,
    curvature_figure,
    electronic_figure,
    fluctuation_figure,
    frame_triptych,
    height_figure,
    strain_figure,
)
from scant.report.style import png_bytes, save_figure, vector_bytes

__all__ = [
    "atom_maps",
    "bond_figure",
    "bound_figure",
    "correlation_figure",
    "curvature_figure",
    "displacement_figure",
    "dose_figure",
    "drift_figure",
    "electronic_figure",
    "energy_figure",
    "fluctuation_figure",
    "frame_triptych",
    "height_figure",
    "image_figure",
    "intensity_figure",
    "md_figure",
    "photon_transfer_figure",
    "png_bytes",
    "profile_figure",
    "quality_figure",
    "residual_figure",
    "ripple_course_figure",
    "ripple_spectrum_figure",
    "save_figure",
    "sigma_figure",
    "spread_figure",
    "strain_figure",
    "transfer_figure",
    "validation_figure",
    "vector_bytes",
]
