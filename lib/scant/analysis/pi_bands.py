"""Pi bands of carbon atoms where they are: tight binding with hoppings that know the length of a bond and how its orbitals are turned.

One orbital along the pi axis n of each atom (`pyramidalisation.pi_axes`), hoppings between bonded atoms, d the unit vector of the bond
(Slater and Koster, Phys. Rev. 94, 1498 (1954)):
t = V_pi (n_i . n_j - (n_i . d)(n_j . d)) + V_sigma (n_i . d)(n_j . d), both V by exp(-3.37 (L / 1.42 A - 1)) (Pereira, Castro Neto
and Peres, Phys. Rev. B 80, 045401 (2009)), V_pi = -2.7 eV there, V_sigma / V_pi = -5.38 / 2.24 as quoted after Tomanek and Louie,
Phys. Rev. B 37, 8327 (1988), not checked against the paper itself; it enters by (n . d)^2, which is small on a rippled sheet.
Neutral: the Fermi level is the Dirac point, 0. Energies, eigenstates and occupations are sisl's.

A view is a cut out of a larger sheet. For the density of states the sheet goes on as a wide band: every bond lost at the rim adds
-i |V_pi| to its atom's energy, which takes in what arrives; a cut left closed would put edge states at the Fermi level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sisl
from scipy.linalg import inv
from scipy.sparse import coo_matrix

from scant.analysis.pyramidalisation import pi_axes
from scant.units import BOLTZMANN_EV_PER_K

HOPPING_EV, DECAY, BOND_ANGSTROM = 2.7, 3.37, 1.42
SIGMA_OVER_PI = -5.38 / 2.24
BROADENING_EV = 0.3
ELECTRON_TEMPERATURE_K = 300.0


@dataclass(frozen=True)
class PiResponse:
    """Of atoms (n,): density of states at the Fermi level (1/eV, both spins), charge (e, positive where electrons lack).
    Of bonds (m,): pi bond order, 2/3 in benzene and 0.525 in graphene.
    """

    ldos_per_ev: np.ndarray
    charge_e: np.ndarray
    bond_order: np.ndarray


def hopping_ev(bond_angstrom: np.ndarray, axis_a: np.ndarray, axis_b: np.ndarray) -> np.ndarray:
    """Hopping (m,) in eV over bonds (m, 3) in angstrom between orbitals along unit vectors axis_a, axis_b (m, 3): -2.7 in graphene."""
    length = np.linalg.norm(bond_angstrom, axis=-1)
    along = [np.sum(axis * bond_angstrom, axis=-1) / length for axis in (axis_a, axis_b)]
    side_by_side = np.sum(axis_a * axis_b, axis=-1) - along[0] * along[1]
    shape = side_by_side + SIGMA_OVER_PI * along[0] * along[1]
    return -HOPPING_EV * np.exp(-DECAY * (length / BOND_ANGSTROM - 1)) * shape


def pi_hamiltonian(xyz_angstrom: np.ndarray, pairs: np.ndarray) -> sisl.Hamiltonian:
    """Hamiltonian of carbon atoms at positions (n, 3) bonded by pairs (m, 2): an orbital each, on-site energies 0."""
    first, second = pairs.T
    axes = pi_axes(xyz_angstrom, pairs)
    # Two neighbours' orbitals point to the same side of the sheet, on closed shapes too.
    same_side = np.where(np.sum(axes[first] * axes[second], axis=-1) < 0, -1.0, 1.0)[:, None]
    hopping = hopping_ev(xyz_angstrom[second] - xyz_angstrom[first], axes[first], same_side * axes[second])
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    matrix = coo_matrix((np.tile(hopping, 2), (rows, columns)), shape=(len(xyz_angstrom),) * 2).tocsr()
    box = np.ptp(xyz_angstrom, axis=0) + 20.0
    return sisl.Hamiltonian.fromsp(sisl.Geometry(xyz_angstrom, sisl.Atom(6), lattice=box), matrix)


def pi_response(xyz_angstrom: np.ndarray, pairs: np.ndarray, lost_bonds: np.ndarray) -> PiResponse:
    """Response of carbon atoms (n, 3) bonded by pairs (m, 2); lost_bonds (n,): bonds that each has to the sheet beyond the view.

    The density of states is broadened by a Lorentzian of half width 0.3 eV, bond orders and charges are those of the cut sheet at 300 K.
    """
    hamiltonian = pi_hamiltonian(xyz_angstrom, pairs)
    states = hamiltonian.eigenstate()
    fermi = sisl.get_distribution("fermi_dirac", smearing=BOLTZMANN_EV_PER_K * ELECTRON_TEMPERATURE_K)
    amplitude = states.state * np.sqrt(2 * states.occupation(fermi))[:, None]
    order = np.einsum("sm,sm->m", amplitude[:, pairs[:, 0]], amplitude[:, pairs[:, 1]])
    charge = 1 - np.einsum("sn,sn->n", amplitude, amplitude)
    inverse_green = -hamiltonian.Hk(format="array").astype(complex)
    inverse_green[np.diag_indices(len(charge))] += 1j * (BROADENING_EV + HOPPING_EV * lost_bonds)
    green = np.diag(inv(inverse_green, overwrite_a=True, check_finite=False))
    return PiResponse(-2 * green.imag / np.pi, charge, order)
