"""From counts and a flat start to 3D atoms: frames annealed in batches, refused where model and data do not match."""

from __future__ import annotations

from dataclasses import replace

from scant.errors import FrameFailure
from scant.inference import tiles
from scant.inference.bond_moves import move_bonds
from scant.inference.estimates import estimates_of
from scant.inference.gate import gate_failure
from scant.inference.neighbour_frames import LONG_MODES
from scant.inference.problem import FrameEstimate, FrameProblem, RefineSettings
from scant.inference.replicas import Replicas
from scant.physics.forward import ImageGrid
from scant.physics.optics import Optics
from scant.xp import module_for, to_numpy

# Peak of the array form, measured: so many arrays of atoms by the longer padded side for every chain, single precision.
ARRAYS_PER_CHAIN = 16
MEMORY_SHARE = 0.5
# A frame whose heights move by more than ripples are high has none in common with its neighbours.
TURNED_OVER_ANGSTROM = 1.0
# A right link moves the own energy by up to half a unit for each of the forty long modes that an image can tell.
LINK_MAY_COST = 0.5 * LONG_MODES


def bytes_per_frame(n_atoms: int, grid: ImageGrid, n_chains: int) -> int:
    """Memory that annealing one frame of a batch takes on a device: its modes, and the structure sums of its chains."""
    return 4 * (2 * n_atoms**2 + n_chains * ARRAYS_PER_CHAIN * n_atoms * max(grid.padded_shape))


def frames_that_fit(n_atoms: int, grid: ImageGrid, n_chains: int, free_bytes: int) -> int:
    """Frames of one batch in half of the free memory, at least one: the rest is for the FFT's plans and the pool's gaps."""
    return max(1, int(MEMORY_SHARE * free_bytes / bytes_per_frame(n_atoms, grid, n_chains)))


def refine_frames(
    problems: list[FrameProblem], optics: Optics, grid: ImageGrid, settings: RefineSettings, device: str = "cpu"
) -> tuple[list[FrameEstimate], list[FrameFailure]]:
    """Anneal the frames as one batch on a resolved device; on exhausted memory the batch is halved. Large frames go in tiles.

    Frames that fail the gate or leave the finite numbers come back as failures, the others as estimates.
    """
    large = [p for p in problems if len(p.positions) > tiles.MOST_ATOMS]
    if large:
        small = [p for p in problems if len(p.positions) <= tiles.MOST_ATOMS]
        parts = [refine_frames(small, optics, grid, settings, device)] if small else []
        parts += [tiles.refine_in_tiles(p, optics, grid.pixel_size_angstrom, settings, refine_frames, device) for p in large]
        return [e for found, _ in parts for e in found], [f for _, failures in parts for f in failures]
    try:
        estimates, failures = _annealed(problems, optics, grid, settings, device)
        return _with_bonds_moved(problems, estimates, optics, grid, settings, device), failures
    except MemoryError:
        if len(problems) == 1:
            raise
    middle = len(problems) // 2
    halves = [refine_frames(part, optics, grid, settings, device) for part in (problems[:middle], problems[middle:])]
    return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]


def _with_bonds_moved(
    problems: list[FrameProblem], estimates: list[FrameEstimate], optics: Optics, grid: ImageGrid, settings: RefineSettings, device: str
) -> list[FrameEstimate]:
    """The estimates, frames annealed again whose bonds turn out otherwise at the structure found; one that fails then stays as it was."""
    by_frame = {p.frame: p for p in problems}
    moved = {}
    for e in estimates:
        # The mean height, which an estimate does not hold, is the frame's own part of the defocus.
        positions = e.positions + [0, 0, e.defocus_angstrom - optics.defocus_angstrom]
        moved[e.frame] = move_bonds(by_frame[e.frame], positions, optics, grid, settings, module_for(device))
    again = [problem for problem, touched in moved.values() if touched.any()]
    if not again:
        return estimates
    better = {e.frame: replace(e, rebonded=moved[e.frame][1]) for e in _annealed(again, optics, grid, settings, device)[0]}
    return [better.get(e.frame, e) for e in estimates]


def _annealed(
    problems: list[FrameProblem], optics: Optics, grid: ImageGrid, settings: RefineSettings, device: str
) -> tuple[list[FrameEstimate], list[FrameFailure]]:
    """One batch; frames whose ripples seem not to be their neighbours' also from their own image alone, which is kept where it suits that
    image clearly better."""
    estimates, failures = _refine_batch(problems, optics, grid, settings, device)
    linked = {e.frame: e for e in estimates if e.motion_angstrom > TURNED_OVER_ANGSTROM}
    alone = [replace(p, guide_e=None, guide_inverse_variance=None, guide_offsets=()) for p in problems if p.frame in linked]
    if not alone:
        return estimates, failures
    again = _refine_batch(alone, optics, grid, replace(settings, motion=None), device)[0]
    clear = [e for e in again if e.energy < linked[e.frame].energy - LINK_MAY_COST]
    better = {e.frame: replace(e, motion_angstrom=linked[e.frame].motion_angstrom) for e in clear}
    return [better.get(e.frame, e) for e in estimates], failures


def _refine_batch(
    problems: list[FrameProblem], optics: Optics, grid: ImageGrid, settings: RefineSettings, device: str
) -> tuple[list[FrameEstimate], list[FrameFailure]]:
    batch = Replicas(problems, optics, grid, settings, module_for(device))
    correlation = to_numpy(batch.energy.correlation(batch.coordinates.origin))[:: settings.n_chains]
    refused = correlation < settings.minimum_correlation
    if refused.any():
        failures = [
            gate_failure(p, batch.model, float(c), settings.minimum_correlation) for p, c, r in zip(problems, correlation, refused) if r
        ]
        rest = [p for p, r in zip(problems, refused) if not r]
        estimates, more = _refine_batch(rest, optics, grid, settings, device) if rest else ([], [])
        return estimates, failures + more
    chain, moments = batch.anneal()
    return estimates_of(batch, chain, moments)
