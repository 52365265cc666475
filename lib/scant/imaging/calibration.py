"""Detector and lattice of a movie from sampled frames and references: the calibrate stage as one pure function."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scant.errors import CalibrationError, InputError
from scant.imaging.align import FourierSignal, fourier_signal
from scant.imaging.bad_pixels import bad_pixel_map
from scant.imaging.counts import Detector, correct_frame, flat_gain, make_detector, polynomial_flat
from scant.imaging.photon_transfer import PhotonTransfer, dose_check, photon_transfer, signal_band_per_px
from scant.imaging.reciprocal import Lattice2D, find_lattice
from scant.imaging.temporal import temporal_median_mad

INFORMATION_LIMIT_PER_ANGSTROM = 1.25
LATTICE_FRAMES = 24
PIXEL_SIZE_TOLERANCE = 0.05
MIN_FRAMES_FOR_TRANSFER = 3
MIN_FRAMES_FOR_MAD = 8


@dataclass(frozen=True)
class References:
    """Dark and flat references (H, W) in ADU, and what acquisition.yaml says of the numbers; None = not given."""

    dark_adu: np.ndarray | None
    flat_adu: np.ndarray | None
    gain_adu_per_electron: float | None
    pixel_size_angstrom: float | None
    dose_e_per_angstrom2: float | None
    lattice_constant_angstrom: float


@dataclass(frozen=True)
class Calibration:
    """Detector, lattice, the signal by which frames are aligned (one for all blocks), and the facts for calibration.json."""

    detector: Detector
    lattice: Lattice2D
    signal: FourierSignal
    facts: dict[str, Any]


def calibrate(
    sampled_adu: np.ndarray, consecutive_adu: np.ndarray, references: References, flat_degree: int, hit_threshold_sigma: float
) -> Calibration:
    """Calibrate from frames spread over the movie (t, H, W) and a run of consecutive ones (s, H, W), both raw and without faulty frames.

    Raises InputError for references of another size, CalibrationError when the pixel size given and the lattice disagree.
    """
    shape = sampled_adu.shape[1:]
    for name, image in (("dark", references.dark_adu), ("flat", references.flat_adu)):
        if image is not None and image.shape != shape:
            raise InputError(
                f"{name} reference is {image.shape[0]} x {image.shape[1]} px, the movie {shape[0]} x {shape[1]}; "
                "take one of the same camera and binning"
            )
    statistics = temporal_median_mad(sampled_adu)
    # With a handful of frames a pixel's scatter is chance, and its tails would condemn sound pixels.
    mad_adu = statistics.mad_adu if statistics.n_frames >= MIN_FRAMES_FOR_MAD else np.zeros_like(statistics.mad_adu)
    bad = bad_pixel_map(statistics.median_adu, mad_adu, references.dark_adu, references.flat_adu)
    dark = references.dark_adu if references.dark_adu is not None else np.zeros(shape, np.float32)
    if references.flat_adu is not None:
        flat, mask = flat_gain(references.flat_adu, dark, bad.mask)
    else:
        flat, mask = polynomial_flat(statistics.median_adu, dark, bad.mask, flat_degree)
    transfer = _transfer(consecutive_adu, dark, flat, mask, references)
    gain = references.gain_adu_per_electron or (transfer.gain_adu_per_electron if transfer else 1.0)
    read_noise_e = transfer.read_noise_e if transfer else 0.0
    noise = (transfer.excess_noise_factor, transfer.noise_shape) if transfer else (1.0, None)
    detector = make_detector(dark, flat, mask, gain, read_noise_e, *noise)
    frames = [correct_frame(f, detector, hit_threshold_sigma).image_e for f in sampled_adu[:: max(1, len(sampled_adu) // LATTICE_FRAMES)]]
    lattice = find_lattice(
        np.stack(frames), lattice_constant_angstrom=references.lattice_constant_angstrom, pixel_size_angstrom=references.pixel_size_angstrom
    )
    _check_pixel_size(lattice, references.pixel_size_angstrom)
    detector = replace(detector, signal_noise=_noise_at_reflections(detector, lattice))
    facts = {
        "gain_adu_per_electron": gain,
        "gain_source": "acquisition.yaml"
        if references.gain_adu_per_electron
        else ("photon transfer" if transfer else "none: counts are ADU"),
        "read_noise_e": detector.read_noise_e,
        "excess_noise": detector.excess_noise,
        "noise_shape": detector.noise_shape.tolist(),
        "signal_noise": detector.signal_noise,
        "flat": "reference" if references.flat_adu is not None else f"polynomial of degree {flat_degree}",
        "n_bad_pixels": int(mask.sum()),
        "bad_pixels_by_kind": bad.counts,
        "bad_pixel_clusters": bad.n_clusters,
        "offset_adu": float(np.median(dark[~mask])),
        "n_frames_sampled": len(sampled_adu),
        "lattice": asdict(lattice),
        "pixel_size_angstrom": references.pixel_size_angstrom or lattice.pixel_size_angstrom,
        **_dose_facts(np.stack(frames), lattice, references),
        **_transfer_facts(transfer),
    }
    return Calibration(detector, lattice, fourier_signal(np.stack(frames)), facts)


def _noise_at_reflections(detector: Detector, lattice: Lattice2D) -> float:
    if detector.noise_spectrum is None:
        return 1.0
    first_order = float(np.linalg.norm(lattice.reciprocal_per_px, axis=1).mean())
    return float(np.exp(np.polynomial.polynomial.polyval(first_order**2, detector.noise_shape)))


def _transfer(frames_adu: np.ndarray, dark: np.ndarray, flat: np.ndarray, bad: np.ndarray, references: References) -> PhotonTransfer | None:
    if len(frames_adu) < MIN_FRAMES_FOR_TRANSFER:
        return None
    band = None
    if references.pixel_size_angstrom:
        band = signal_band_per_px(references.pixel_size_angstrom, references.lattice_constant_angstrom, INFORMATION_LIMIT_PER_ANGSTROM)
    return photon_transfer(frames_adu, dark, flat, bad, references.gain_adu_per_electron, band)


def _transfer_facts(transfer: PhotonTransfer | None) -> dict[str, Any]:
    if transfer is None:
        return {"photon_transfer": f"needs at least {MIN_FRAMES_FOR_TRANSFER} frames"}
    keys = (
        "gain_adu_per_electron",
        "gain_sigma_adu_per_electron",
        "gain_source",
        "excess_noise_factor",
        "excess_noise_sigma",
        "read_noise_adu",
    )
    return {"photon_transfer": {key: getattr(transfer, key) for key in keys}}


def _dose_facts(frames_e: np.ndarray, lattice: Lattice2D, references: References) -> dict[str, Any]:
    pixel = references.pixel_size_angstrom or lattice.pixel_size_angstrom
    mean_e = float(frames_e.mean())
    nominal = references.dose_e_per_angstrom2
    ratio = dose_check(mean_e, pixel, nominal).ratio if nominal else None
    return {"mean_electrons_per_px": mean_e, "dose_e_per_angstrom2": mean_e / pixel**2, "dose_ratio_to_nominal": ratio}


def _check_pixel_size(lattice: Lattice2D, given_angstrom: float | None) -> None:
    if given_angstrom and abs(lattice.pixel_size_angstrom / given_angstrom - 1) > PIXEL_SIZE_TOLERANCE:
        raise CalibrationError(
            f"pixel_size_angstrom {given_angstrom:g} in acquisition.yaml, but the lattice gives {lattice.pixel_size_angstrom:.4f} +- "
            f"{lattice.pixel_size_sigma_angstrom:.4f} A; allowed is {PIXEL_SIZE_TOLERANCE:.0%}: mend the value or the material"
        )
