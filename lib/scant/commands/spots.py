"""Bright atoms of an image that shows no crystal scant knows, as a table: scanning dark-field images, projections of a tilt series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from scant.errors import InputError
from scant.imaging.localise import own_variance
from scant.imaging.spot_search import FoundSpots, find_spots
from scant.imaging.spots import Counts
from scant.io.readers import open_movie, read_frames
from scant.report.spots import spots_figure
from scant.report.style import png_bytes
from scant.xp import resolve_device

SURE = 0.95


def run(
    image: str, frame: int, gain_adu_per_electron: float | None, offset_adu: float, read_noise_e: float, device: str, out: str | None
) -> int:
    """Find the atoms of one frame; writes STEM.csv and STEM.png (default: NAME-frame-N beside neither of which may be there).

    The gain is taken from the image's own noise when absent. Raises InputError for an image that cannot be read, a frame that it has not,
    numbers out of range and an image without atoms, DeviceError for a `device` that is not there.
    """
    resolved = resolve_device(device)
    stem = Path(out or f"{Path(image).stem}-frame-{frame}")
    targets = [stem.with_name(f"{stem.name}{ending}") for ending in (".csv", ".png")]
    if there := [str(target) for target in targets if target.exists()]:
        raise InputError(f"{there[0]}: already there and not overwritten; give another --out")
    source = open_movie(image)
    if not 0 <= frame < source.n_frames:
        raise InputError(f"{image}: there is no frame {frame}; allowed are 0 to {source.n_frames - 1}")
    counts_adu = read_frames(source, frame, frame + 1)[0].astype(float) - offset_adu
    gain = gain_adu_per_electron or _gain(counts_adu, image)
    print(f"{image}, frame {frame}: {source.width_px} x {source.height_px} px, {gain:.4g} ADU per electron", end="")
    print("" if gain_adu_per_electron else " by the image's own noise (--gain-adu-per-electron, --offset-adu if you know better)")
    image_e = counts_adu / gain
    found = find_spots(Counts.of(image_e, read_noise_e**2), device=resolved)
    table = spots_table(found)
    sigma, unsure = table["sigma_x_px"].to_numpy(), int((table["p_atom"] < SURE).sum())
    print(f"{len(table)} atoms of width {found.spots.width_px:.3f} px, {unsure} of them less than {SURE:.0%} sure to be there;")
    print(f"sigma of x: median {np.median(sigma):.3f}, largest {sigma.max():.3f} px")
    try:
        table.write_csv(targets[0])
        targets[1].write_bytes(png_bytes(spots_figure(image_e, found, read_noise_e**2)))
    except OSError as error:
        raise InputError(f"{stem}: cannot be written ({error.strerror}); give another --out") from error
    print(f"{targets[0]}: an atom a row, pixels from the centre of the first one, heights of the fitted Gaussians in electrons, sigma 1 sd")
    print(f"{targets[1]}: the atoms on the image, and what the fit leaves: look for structure in it")
    return 0


def spots_table(found: FoundSpots) -> pl.DataFrame:
    """Row by row from the top: x_px, y_px, height_e with their sigma, p_atom."""
    spots = found.spots
    sigma = np.sqrt(np.diagonal(spots.covariance, axis1=1, axis2=2))
    columns = {
        "x_px": spots.positions_px[:, 0], "y_px": spots.positions_px[:, 1], "sigma_x_px": sigma[:, 0], "sigma_y_px": sigma[:, 1],
        "height_e": spots.height_e, "sigma_height_e": sigma[:, 2], "p_atom": found.p_atom,
    }  # fmt: skip
    return pl.DataFrame(columns).sort("y_px", "x_px")


def _gain(counts_adu: np.ndarray, image: str) -> float:
    """ADU per electron, were all of the noise between pixels that of counting."""
    mean = float(counts_adu.mean())
    gain = own_variance(counts_adu) / mean if mean > 0 else 0.0
    if not gain > 1e-9:
        raise InputError(
            f"{image}: mean {mean:.3g} ADU less the offset, without noise to tell a gain; give --gain-adu-per-electron, --offset-adu"
        )
    return gain
