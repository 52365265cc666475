"""Complex electron scattering amplitudes of single atoms beyond the weak-phase approximation.

An atom with projected potential v(r) transmits exp(i s v); what it scatters is f(k) = FT[exp(i s v(r)) - 1] / i
(DESIGN 3). Potentials: Lobato and Van Dyck, Acta Cryst. A70 (2014) 636, eqs 16 and 18; data/lobato2014.json holds
their table of (a_i, b_i) for Z = 1..103.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import j0, kn

from scant.errors import InputError
from scant.units import interaction_constant_rad_per_v_angstrom

TWO_PI_BOHR_E_OVER_4PI_EPS0_V_ANGSTROM2 = 47.87764737
K_TABLE_MAX_PER_ANGSTROM = 3.0
MOST_SCATTERINGS = 0.1


@lru_cache(maxsize=1)
def _table() -> dict[str, list[list[float]]]:
    return json.loads(files("scant.physics").joinpath("data/lobato2014.json").read_text())


def lobato_coefficients(species: str) -> np.ndarray:
    """Coefficients (2, 5) a_i in A, b_i in A^2 of one element; InputError for a symbol not in the table."""
    if species not in _table():
        raise InputError(f"species {species!r} has no scattering factor: give an element symbol from H to Lr, such as 'C'")
    return np.array(_table()[species])


def electron_scattering_factor_angstrom(species: str, k_per_angstrom: np.ndarray) -> np.ndarray:
    """First-Born scattering factor f_e(k) in A (Lobato and Van Dyck, eq. 16)."""
    a, b = lobato_coefficients(species)
    k2 = np.asarray(k_per_angstrom)[..., None] ** 2
    return (a * (2 + b * k2) / (1 + b * k2) ** 2).sum(-1)


def projected_potential_v_angstrom(species: str, r_angstrom: np.ndarray) -> np.ndarray:
    """Projected potential v(r) in V A of one atom at distances r > 0 (Lobato and Van Dyck, eq. 18 integrated along z)."""
    a, b = lobato_coefficients(species)
    amplitude = np.pi**2 * a / b**1.5 * TWO_PI_BOHR_E_OVER_4PI_EPS0_V_ANGSTROM2
    decay = 2 * np.pi / np.sqrt(b)
    x = np.asarray(r_angstrom)[..., None] * decay
    return (2 * amplitude / decay * (2 * kn(0, x) + x * kn(1, x))).sum(-1)


@lru_cache(maxsize=64)
def _amplitude_spline(species: str, voltage_kv: float) -> CubicSpline:
    """f(k) on a table: the Born term in closed form, the rest (short-ranged) by quadrature in sqrt(r)."""
    s = interaction_constant_rad_per_v_angstrom(voltage_kv)
    nodes, weights = np.polynomial.legendre.leggauss(1200)
    root_r = 0.5 * (nodes + 1) * np.sqrt(8.0)
    r = root_r**2
    measure = weights * 0.5 * np.sqrt(8.0) * 2 * root_r * r
    phase = s * projected_potential_v_angstrom(species, r)
    beyond_born = (np.exp(1j * phase) - 1) / 1j - phase
    k = np.linspace(0, K_TABLE_MAX_PER_ANGSTROM, 301)
    rest = 2 * np.pi * (j0(2 * np.pi * k[:, None] * r) * (measure * beyond_born)).sum(-1)
    born = s * TWO_PI_BOHR_E_OVER_4PI_EPS0_V_ANGSTROM2 * electron_scattering_factor_angstrom(species, k)
    return CubicSpline(k, born + rest)


def elastic_cross_section_angstrom2(species: str, voltage_kv: float) -> float:
    """Area in A^2 that one atom scatters elastically, the integral of |f(k)|^2 over the plane: 0.0085 for C at 80 kV."""
    k = np.linspace(0, K_TABLE_MAX_PER_ANGSTROM, 601)
    amplitude = scattering_amplitude_angstrom2(species, voltage_kv, k)
    return float(np.trapezoid(2 * np.pi * k * np.abs(amplitude) ** 2, k))


def check_single_scattering(species: np.ndarray, area_angstrom2: float, voltage_kv: float) -> float:
    """Mean number of elastic scatterings per electron in a specimen of these atoms (N,) over an area; InputError beyond 0.1.

    Half of it is the share of double scattering, which the model leaves out: at the limit 5 % of the contrast, as much as the quadratic
    term is.
    """
    names, counts = np.unique(species, return_counts=True)
    mean = sum(n * elastic_cross_section_angstrom2(str(name), voltage_kv) for name, n in zip(names, counts)) / area_angstrom2
    if mean > MOST_SCATTERINGS:
        raise InputError(
            f"an electron scatters {mean:.2f} times on average in this specimen; the model of single scattering holds up to "
            f"{MOST_SCATTERINGS}: use fewer layers, lighter elements or a higher voltage"
        )
    return float(mean)


def scattering_amplitude_angstrom2(species: str, voltage_kv: float, k_per_angstrom: np.ndarray) -> np.ndarray:
    """Complex amplitude f(k) in A^2 (an integral of a phase over an area) for 0 <= k <= 3 1/A, any shape."""
    k = np.asarray(k_per_angstrom, dtype=float)
    if k.size and k.max() > K_TABLE_MAX_PER_ANGSTROM:
        raise InputError(f"spatial frequency {k.max():.2f} 1/A is beyond the amplitude table (0 .. {K_TABLE_MAX_PER_ANGSTROM} 1/A)")
    return _amplitude_spline(species, float(voltage_kv))(k)
