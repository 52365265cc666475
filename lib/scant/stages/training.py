"""Pairs of noisy and clean images of the dataset's own crystal, optics and noise: what a U-Net is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scant.imaging.denoise.anscombe import destabilise, stabilise
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import Material, crystal_patch, pairs_within, stone_wales
from scant.physics.optics import Optics
from scant.rng import stream
from scant.stages.materials import load_material

PATCH_PX, BATCH = 64, 16
IMAGE_PX, CROPS = 128, 8
MARGIN_ANGSTROM = 5.0
DEFOCUS_SD_ANGSTROM, LARGEST_ENVELOPE_B_ANGSTROM2 = 6.0, 3.0
STRAIN_SD, RIPPLE_SD_ANGSTROM, SHORTEST_RIPPLE_ANGSTROM, LONGEST_RIPPLE_ANGSTROM = 0.005, 0.3, 12.0, 60.0
THERMAL_SD_ANGSTROM = (0.06, 0.06, 0.15)
VACANCIES_MEAN, TURNED_SHARE = 2.0, 0.3
EXPOSURES = (0.25, 8.0)


@dataclass(frozen=True)
class PairSettings:
    """The dataset: its crystal, nominal optics, pixel size, mean electrons per pixel and frame, and noise figures of a single frame."""

    material: Material
    optics: Optics
    pixel_size_angstrom: float
    mean_e: float
    read_noise_e: float
    excess_noise: float


def pair_settings(facts: Mapping[str, Any], detector: Mapping[str, Any]) -> PairSettings:
    """Settings from what ingest and calibrate found of a dataset whose optics are known."""
    return PairSettings(
        load_material(facts["material"]), Optics(**facts["optics"]), detector["pixel_size_angstrom"],
        detector["mean_electrons_per_px"], detector["read_noise_e"], detector["excess_noise"],
    )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A crystal patch of known structure: mean positions (n, 3) and empty sites (k, 2) in angstrom, species (n,), and its optics."""

    positions: np.ndarray
    species: np.ndarray
    vacancies: np.ndarray
    bond_angstrom: float
    optics: Optics


def training_batches(settings: PairSettings, n_pairs: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches (16, 64, 64) of stabilised noisy and clean crops, without end; `n_pairs` simulated images are used over and over.

    Each use takes other noise (of a quarter to eight times the frame's dose), other crops, and one of the eight orientations.
    """
    images = []
    for n in range(n_pairs):
        rng = stream(seed, "unet-image", n)
        images.append(scene_image(scene(settings, rng, int(rng.poisson(VACANCIES_MEAN))), settings, rng))
    rng = stream(seed, "unet-crops")
    while True:
        noisy: list[np.ndarray] = []
        clean: list[np.ndarray] = []
        while len(noisy) < BATCH:
            exposure = float(np.exp(rng.uniform(*np.log(EXPOSURES))))
            pair = noisy_and_clean(images[rng.integers(n_pairs)], settings, exposure, rng)
            for _ in range(CROPS):
                y, x = rng.integers(0, IMAGE_PX - PATCH_PX + 1, 2)
                turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
                crops = [np.rot90(part[y : y + PATCH_PX, x : x + PATCH_PX], turns) for part in pair]
                for target, crop in zip((noisy, clean), crops):
                    target.append(crop.T if mirrored else crop)
        yield np.stack(noisy), np.stack(clean)


def scene(settings: PairSettings, rng: np.random.Generator, n_vacancies: int) -> Scene:
    """A strained, rippled patch with vacancies and now and then a turned bond, optics a little off nominal."""
    side = IMAGE_PX * settings.pixel_size_angstrom
    flat, species = crystal_patch(
        settings.material, side, side, rotation_rad=rng.uniform(0, 2 * np.pi), origin=tuple(rng.uniform(0, 3, 2)),
        margin_angstrom=MARGIN_ANGSTROM,
    )  # fmt: skip
    if rng.uniform() < TURNED_SHARE:
        flat = _with_turned_bond(flat, settings.material, rng)
    centred = flat - side / 2
    positions = np.column_stack([centred @ (np.eye(2) + rng.normal(0, STRAIN_SD, (2, 2))) + side / 2, _ripples(centred, rng)])
    well_inside = np.flatnonzero((np.abs(centred) < side / 2 - MARGIN_ANGSTROM).all(axis=1))
    gone = rng.choice(well_inside, min(n_vacancies, len(well_inside)), replace=False)
    optics = settings.optics.with_values(
        defocus_angstrom=settings.optics.defocus_angstrom + rng.normal(0, DEFOCUS_SD_ANGSTROM),
        envelope_b_angstrom2=rng.uniform(0, LARGEST_ENVELOPE_B_ANGSTROM2),
    )
    bond = settings.material.lattice_constant_angstrom / np.sqrt(3)
    return Scene(np.delete(positions, gone, axis=0), np.delete(species, gone), positions[gone, :2], bond, optics)


def scene_image(s: Scene, settings: PairSettings, rng: np.random.Generator | None) -> np.ndarray:
    """Relative intensity (128, 128) of a scene; its atoms displaced by thermal motion where a stream is given."""
    positions = s.positions if rng is None else s.positions + rng.normal(0, THERMAL_SD_ANGSTROM, s.positions.shape)
    grid = ImageGrid.padded(IMAGE_PX, IMAGE_PX, settings.pixel_size_angstrom, MARGIN_ANGSTROM + 2.0)
    return ForwardModel(s.optics, grid, s.species).image(positions[None].astype(np.float32))[0]


def noisy_and_clean(
    relative: np.ndarray, settings: PairSettings, exposure: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Stabilised image of `exposure` times a frame's dose, and the stabilised value whose unbiased inverse is the noise-free image."""
    noise = {"read_noise_e": settings.read_noise_e, "excess_noise": settings.excess_noise}
    truth = relative * (exposure * settings.mean_e)
    noisy = stabilise(counts_with_noise(relative, exposure * settings.mean_e, rng=rng, **noise), **noise)
    clean = stabilise(truth, **noise)
    # One Newton step: the inverse takes the mean of stabilised values, not the stabilised mean, and these differ a little.
    slope = np.sqrt(np.maximum(truth, 1.0) * settings.excess_noise)
    return noisy, clean - ((destabilise(clean, **noise) - truth) / slope).astype(np.float32)


def _with_turned_bond(flat: np.ndarray, material: Material, rng: np.random.Generator) -> np.ndarray:
    bonds = pairs_within(flat, 0.7 * material.lattice_constant_angstrom)
    degree = np.bincount(bonds.ravel(), minlength=len(flat))
    whole = np.flatnonzero((degree[bonds] == 3).all(axis=1))
    return stone_wales(flat, bonds, int(rng.choice(whole)))[0] if len(whole) else flat


def _ripples(xy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Heights (n,) of three waves of random length, direction and phase."""
    heights = np.zeros(len(xy))
    for _ in range(3):
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(SHORTEST_RIPPLE_ANGSTROM, LONGEST_RIPPLE_ANGSTROM)
        along = xy @ [np.cos(angle), np.sin(angle)]
        heights += rng.normal(0, RIPPLE_SD_ANGSTROM) * np.cos(2 * np.pi * along / length + rng.uniform(0, 2 * np.pi))
    return heights
