"""A movie of any length and size on disk, made in minutes: a few rippled sheets imaged once, exposed anew for every frame.

usage: scale_movie.py FOLDER --frames N --size PX      writes movie.tif, dark.tif, flat.tif and acquisition.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
import yaml
from scant.physics import simulate as sim
from scant.physics.detector import expose, reference
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import honeycomb
from scant.physics.optics import Optics
from scant.rng import stream

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2)
PIXEL_ANGSTROM, DOSE_E_PER_ANGSTROM2, STRUCTURES, REFERENCE_EXPOSURES = 0.2, 8000.0, 2, 40
RIPPLE_ANGSTROM, WAVELENGTH_ANGSTROM, THERMAL_ANGSTROM = 0.6, 40.0, (0.06, 0.06, 0.15)


def rippled_sheet(view: sim.View, number: int) -> sim.TrueFrame:
    """A sheet with one ripple per 40 A and thermal scatter; its phase follows the number."""
    rng = stream(1, "scale", number)
    flat = honeycomb(view.size_angstrom, view.size_angstrom, 2.46, rotation_rad=view.rotation_rad, margin_angstrom=4.0)
    phase = 2 * np.pi * (flat @ [0.8, 0.6] / WAVELENGTH_ANGSTROM + number / STRUCTURES)
    positions = np.column_stack([flat, RIPPLE_ANGSTROM * np.sin(phase)]) + rng.normal(0, THERMAL_ANGSTROM, (len(flat), 3))
    return sim.TrueFrame(positions, np.full(len(flat), "C"), np.arange(len(flat)), np.zeros(2))


def relative_image(sheet: sim.TrueFrame, view: sim.View) -> np.ndarray:
    """Relative intensity (H, W) in single precision: `simulate.relative_image` takes a minute for 2048 x 2048."""
    grid = ImageGrid.padded(view.size_px, view.size_px, view.pixel_size_angstrom, 6.0)
    return ForwardModel(OPTICS, grid, sheet.species).image(sheet.positions[None].astype(np.float32))[0]


def write_movie(folder: Path, n_frames: int, size_px: int) -> Path:
    """Write the movie and return its acquisition.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    view = sim.View(size_px, PIXEL_ANGSTROM, np.radians(7.0))
    mean_electrons = DOSE_E_PER_ANGSTROM2 * PIXEL_ANGSTROM**2
    n_bad = size_px * size_px // 500
    camera = sim.camera_for(
        view, gain_adu_per_electron=6.0, offset_adu=100.0, read_noise_e=0.5, n_bad_pixels=n_bad, hits_per_frame=1.0, seed=1
    )
    images = [relative_image(rippled_sheet(view, n), view) for n in range(min(STRUCTURES, n_frames))]
    with tifffile.TiffWriter(folder / "movie.tif", bigtiff=True) as writer:
        for n in range(n_frames):
            raw = expose(images[n % len(images)], mean_electrons, camera, stream(1, "scale-exposure", n))
            writer.write(raw, contiguous=True, photometric="minisblack")
    rng = stream(1, "scale-references")
    for name, electrons in (("dark", 0.0), ("flat", mean_electrons)):
        tifffile.imwrite(folder / f"{name}.tif", reference(electrons, REFERENCE_EXPOSURES, camera, rng))
    acquisition = {
        "material": "graphene", "movie": "movie.tif", "dark": "dark.tif", "flat": "flat.tif", "voltage_kV": 80.0, "cs_um": -13.0,
        "defocus_angstrom": -45.0, "focal_spread_angstrom": 10.0, "objective_aperture_mrad": 52.2, "frame_time_ms": 1.0,
        "pixel_size_angstrom": PIXEL_ANGSTROM, "dose_e_per_angstrom2": DOSE_E_PER_ANGSTROM2, "gain_adu_per_electron": 6.0,
    }  # fmt: skip
    path = folder / "acquisition.yaml"
    path.write_text(yaml.safe_dump(acquisition, sort_keys=False))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    write_movie(given.folder, given.frames, given.size)
