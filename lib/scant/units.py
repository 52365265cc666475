"""Physical constants and unit conversions (CODATA 2018), named with their units."""

from __future__ import annotations

import math

BOLTZMANN_EV_PER_K = 8.617333262e-5
ELECTRON_REST_ENERGY_EV = 510998.95
PLANCK_TIMES_C_EV_ANGSTROM = 12398.419843320026

ANGSTROM_PER = {
    "m": 1e10, "cm": 1e8, "mm": 1e7, "um": 1e4, "µm": 1e4, "μm": 1e4, "nm": 10.0, "pm": 1e-2,
    "a": 1.0, "å": 1.0, "ang": 1.0, "angstrom": 1.0, "angstroms": 1.0,
}  # fmt: skip


def wavelength_angstrom(voltage_kv: float) -> float:
    """Relativistic electron wavelength: 0.04176 A at 80 kV."""
    energy_ev = voltage_kv * 1e3
    return PLANCK_TIMES_C_EV_ANGSTROM / math.sqrt(energy_ev * (2 * ELECTRON_REST_ENERGY_EV + energy_ev))


def interaction_constant_rad_per_v_angstrom(voltage_kv: float) -> float:
    """Interaction constant sigma of Kirkland, Advanced Computing in Electron Microscopy, eq. 5.6: 1.0087e-3 at 80 kV."""
    energy_ev = voltage_kv * 1e3
    return (
        2 * math.pi / (wavelength_angstrom(voltage_kv) * energy_ev)
        * (ELECTRON_REST_ENERGY_EV + energy_ev) / (2 * ELECTRON_REST_ENERGY_EV + energy_ev)
    )  # fmt: skip


def length_in_angstrom(value: float, unit: str) -> float:
    """A length in angstrom; KeyError names the unit that is no length."""
    return value * ANGSTROM_PER[unit.strip().replace("_", "").lower() if unit.strip() != "Å" else "å"]
