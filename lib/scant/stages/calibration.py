"""Calibration on disk: the detector as an .npz without pickles, facts and optics as JSON."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from scant.errors import DataIntegrityError
from scant.imaging.align import FourierSignal
from scant.imaging.counts import Detector
from scant.physics.optics import Optics


def write_json(path: str, values: Mapping[str, Any]) -> None:
    """Write JSON at once or not at all; NaN becomes null."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".partial")
    beside.write_text(json.dumps(_plain(values), indent=1, allow_nan=False) + "\n")
    beside.replace(target)


def read_json(path: str) -> dict[str, Any]:
    """A JSON object; DataIntegrityError when the file is missing or damaged."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DataIntegrityError(f"{path}: cannot be read ({error}); delete it and run again") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_record(path: str, record: Detector | FourierSignal) -> None:
    """Detector or alignment signal as .npz: see `write_arrays`."""
    write_arrays(path, {field.name: getattr(record, field.name) for field in fields(record)})


def write_arrays(path: str, arrays: Mapping[str, Any]) -> None:
    """Arrays as .npz, written beside its place and renamed; the same arrays give the same bytes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".partial")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A fixed date: numpy.savez stamps the current time, and a rerun would differ.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    beside.replace(target)


def read_detector(path: str) -> Detector:
    """Detector from .npz; DataIntegrityError when the file is missing or damaged."""
    return Detector(**_read_record(path, Detector))


def read_signal(path: str) -> FourierSignal:
    """Alignment signal from .npz; DataIntegrityError when the file is missing or damaged."""
    return FourierSignal(**_read_record(path, FourierSignal))


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz; DataIntegrityError when the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataIntegrityError(f"{path}: cannot be read ({error}); delete it and run again") from error


def _read_record(path: str, kind: type[Detector] | type[FourierSignal]) -> dict[str, Any]:
    arrays = read_arrays(path)
    missing = [field.name for field in fields(kind) if field.name not in arrays]
    if missing:
        raise DataIntegrityError(f"{path}: holds no {', '.join(missing)}; delete it and run again")
    return {field.name: array if (array := arrays[field.name]).ndim else array.item() for field in fields(kind)}


def optics_values(optics: Optics) -> dict[str, Any]:
    """Optics as plain values for JSON."""
    return asdict(optics)


def optics_from(values: Mapping[str, Any]) -> Optics:
    """Optics from what `optics_values` gave."""
    return Optics(**{field.name: values[field.name] for field in fields(Optics)})


def white_equivalent(detector: Mapping[str, Any]) -> tuple[float, float]:
    """Read noise in electrons and excess noise of white noise as strong as the camera's is at the lattice's reflections."""
    return detector["read_noise_e"] * detector["signal_noise"] ** 0.5, detector["excess_noise"] * detector["signal_noise"]


def variance_over_noise(calibration: Mapping[str, Any]) -> float:
    """Variance of the residuals over the noise's. Weights are for the noise at the reflections, residuals hold all of a coloured one."""
    return float(calibration["reduced_chi2"] * calibration["detector"]["signal_noise"])


def quality_gates(calibration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a reader should look at before trusting the numbers: each gate with its value, unit, limit and whether it was passed."""
    pixel = calibration["pixel_size_angstrom"]
    lattice = calibration["lattice"]
    found = [
        _gate("pixel size against the lattice", abs(lattice["pixel_size_angstrom"] / pixel - 1) * 100, "%", 1.0),
        _gate("highest noise over the weakest reflection", lattice["noise_snr"] / lattice["reflection_snr"], "", 1.0),
        _gate("anisotropy of the lattice", abs(lattice["anisotropy"]) * 100, "%", 3.0),
    ]
    if calibration["detector"]["dose_ratio_to_nominal"] is not None:
        found.append(_gate("dose against nominal", abs(calibration["detector"]["dose_ratio_to_nominal"] - 1) * 100, "%", 20.0))
    if calibration["optics"]:
        drift = abs(calibration["optics"]["defocus_angstrom"] - calibration["optics_nominal"]["defocus_angstrom"])
        found += [
            _gate("defocus against nominal", drift, "\u00c5", 20.0),
            _gate("contrast scale less 1, absolute", abs(calibration["optics"]["contrast_scale"] - 1), "", 0.3),
            _gate("reduced χ² less 1, absolute", abs(variance_over_noise(calibration) - 1), "", 0.15),
            _gate("KL divergence of intensities", calibration["kl_divergence"], "nats", 0.02),
        ]
    return found


def _gate(name: str, value: float, unit: str, limit: float) -> dict[str, Any]:
    return {"name": name, "passed": bool(value <= limit), "value": value, "unit": unit, "limit": limit}
