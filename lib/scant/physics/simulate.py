"""A movie with known truth: a thermal sheet by molecular dynamics, its images by the forward model, seen by a camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scant.physics.detector import Camera, expose, make_camera, reference
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics
from scant.physics.sheet import SheetSettings, ThermalSheet, thermal_sheet
from scant.rng import stream

# The sheet goes on outside the view as a real one does: atoms nearer than this blur into it.
EDGE_ANGSTROM = 8.0
# Side of the central square that takes the defects, of the view's: it stays in view whatever the rotation.
DEFECT_ZONE = 0.6
REFERENCE_FRAMES = 400


@dataclass(frozen=True)
class View:
    """The square field of view in which a sheet is seen."""

    size_px: int
    pixel_size_angstrom: float
    rotation_rad: float = 0.0
    drift_angstrom_per_frame: float = 0.0

    @property
    def size_angstrom(self) -> float:
        return self.size_px * self.pixel_size_angstrom


@dataclass(frozen=True)
class Specimen:
    """A sheet at a temperature under a potential, with defects in the middle of the view, relaxed and warm like the rest."""

    temperature_k: float = 300.0
    lattice_constant_angstrom: float = 2.46
    potential: str = "lcbop"
    equilibration_ps: float = 2.0
    n_vacancies: int = 0
    n_stone_wales: int = 0


@dataclass(frozen=True)
class TrueFrame:
    """Truth of one frame in its own raw coordinates: positions (N, 3) in angstrom of all atoms imaged, ids (N,), drift (x, y)."""

    positions: np.ndarray
    species: np.ndarray
    ids: np.ndarray
    drift_angstrom: np.ndarray


def true_frames(view: View, n_frames: int, specimen: Specimen, seed: int) -> list[TrueFrame]:
    """Snapshots of a free-standing sheet that drifts and is turned in the view, heights relative to the mean plane."""
    reach = view.size_angstrom * np.sqrt(2) + 2 * EDGE_ANGSTROM + view.drift_angstrom_per_frame * n_frames
    settings = SheetSettings(
        width_angstrom=reach, height_angstrom=reach, n_frames=n_frames, temperature_k=specimen.temperature_k,
        lattice_constant_angstrom=specimen.lattice_constant_angstrom, potential=specimen.potential,
        equilibration_ps=specimen.equilibration_ps,
        vacancies=specimen.n_vacancies, stone_wales=specimen.n_stone_wales, defect_zone_angstrom=DEFECT_ZONE * view.size_angstrom,
    )  # fmt: skip
    sheet = thermal_sheet(settings, seed)
    rng = stream(seed, "simulate-view")
    steps = rng.normal(0, view.drift_angstrom_per_frame, (n_frames, 2)) + view.drift_angstrom_per_frame * rng.normal(0, 0.5, 2)
    drift = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)[:-1]])
    return [_seen(sheet, n, view, drift[n]) for n in range(n_frames)]


def _seen(sheet: ThermalSheet, n: int, view: View, drift: np.ndarray) -> TrueFrame:
    xyz = sheet.positions[n] - np.append(sheet.positions[0][:, :2].mean(axis=0), sheet.positions[n][:, 2].mean())
    c, s = np.cos(view.rotation_rad), np.sin(view.rotation_rad)
    xyz[:, :2] = xyz[:, :2] @ np.array([[c, s], [-s, c]]) + view.size_angstrom / 2 + drift
    near = np.all((xyz[:, :2] > -EDGE_ANGSTROM) & (xyz[:, :2] < view.size_angstrom + EDGE_ANGSTROM), axis=1)
    return TrueFrame(xyz[near], np.asarray(sheet.species)[near], np.asarray(sheet.ids)[near], drift)


def relative_image(frame: TrueFrame, optics: Optics, view: View) -> np.ndarray:
    """Relative intensity (H, W) of one true frame."""
    grid = ImageGrid.padded(view.size_px, view.size_px, view.pixel_size_angstrom, EDGE_ANGSTROM + 2.0)
    model = ForwardModel(optics, grid, frame.species, n_orders=5, dtype=np.float64)
    return model.image(frame.positions[None])[0]


def camera_for(
    view: View,
    *,
    gain_adu_per_electron: float,
    offset_adu: float,
    read_noise_e: float,
    n_bad_pixels: int,
    hits_per_frame: float,
    seed: int,
) -> Camera:
    """The camera of a simulated movie; deterministic for a seed."""
    rng = stream(seed, "simulate-camera")
    camera = make_camera((view.size_px, view.size_px), gain_adu_per_electron, offset_adu, read_noise_e, n_bad_pixels, rng)
    return replace(camera, hits_per_frame=hits_per_frame)


def raw_frames(
    frames: list[TrueFrame], optics: Optics, view: View, camera: Camera, mean_electrons: float, seed: int
) -> Iterator[np.ndarray]:
    """Raw frames (H, W) uint16, one by one."""
    for n, frame in enumerate(frames):
        yield expose(relative_image(frame, optics, view), mean_electrons, camera, stream(seed, "simulate-exposure", n))


def references(camera: Camera, mean_electrons: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark and flat references (H, W) float32 ADU, averaged over 400 exposures."""
    rng = stream(seed, "simulate-references")
    return reference(0.0, REFERENCE_FRAMES, camera, rng), reference(mean_electrons, REFERENCE_FRAMES, camera, rng)
