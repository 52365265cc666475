"""Data of the interactive 3D view: a handful of frames, rounded, small enough to live inside the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from scant.analysis.bonds import frame_bonds
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.strain import GRAPHENE_LATTICE_ANGSTROM, frame_strain

MAX_FRAMES = 60
MAX_ATOMS = 90_000  # about 6 MB of JSON
HEIGHT_EXAGGERATION = 3


def evenly_spread(numbers: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the sorted numbers, evenly spread, first and last among them."""
    if numbers.size <= count:
        return numbers
    return numbers[np.unique(np.round(np.linspace(0, numbers.size - 1, count)).astype(int))]


def viewer_data(
    frames: list[FrameAtoms],
    times_ms: dict[int, float],
    lattice_angstrom: float = GRAPHENE_LATTICE_ANGSTROM,
    most_frames: int = MAX_FRAMES,
) -> dict[str, Any] | None:
    """Frames (at most so many, at most 90,000 atoms together; a larger field of view is cut to its middle) for the 3D view.

    None without atoms. Heights are relative to each frame's mean; without heights the view is flat.
    """
    frames = [frame for frame in frames if frame.ids.size]
    if not frames:
        return None
    frames = [_middle(frame, MAX_ATOMS // 3) for frame in frames]
    fitting = max(MAX_ATOMS // max(frame.ids.size for frame in frames), 3)
    chosen = [frames[k] for k in evenly_spread(np.arange(len(frames)), min(MAX_FRAMES, most_frames, fitting))]
    heights = all(frame.has_heights for frame in chosen)
    payload = [_frame_payload(frame, times_ms.get(frame.frame), heights, lattice_angstrom) for frame in chosen]
    everything = np.concatenate([frame.xyz_angstrom for frame in chosen])
    low, high = everything.min(axis=0), everything.max(axis=0)
    ranges = {axis: [round(float(low[k]) - 1, 2), round(float(high[k]) + 1, 2)] for k, axis in enumerate("xy")}
    if heights:
        top = max(max(abs(z) for z in one["z"]) for one in payload) + 0.5
        ranges["z"] = [round(-top, 2), round(top, 2)]
    return {
        "frames": payload,
        "heights": heights,
        "exaggeration": HEIGHT_EXAGGERATION,
        "range": ranges,
        "colours": _colour_choices(payload, heights),
        "alt": f"Interactive view of {len(payload)} frames of the sheet; slider, lists and buttons above it choose frame, colour and atom.",
    }


def _middle(frame: FrameAtoms, limit: int) -> FrameAtoms:
    if frame.ids.size <= limit:
        return frame
    centre = np.median(frame.xyz_angstrom[:, :2], axis=0)
    nearest = np.argsort(np.abs(frame.xyz_angstrom[:, :2] - centre).max(axis=1), kind="stable")[:limit]
    kept = np.sort(nearest)
    return FrameAtoms(frame.frame, frame.ids[kept], frame.xyz_angstrom[kept], frame.sigma_angstrom[kept])


def _frame_payload(frame: FrameAtoms, time_ms: float | None, heights: bool, lattice_angstrom: float) -> dict[str, Any]:
    strain = frame_strain(frame, lattice_angstrom)
    sigma = frame.sigma_angstrom[:, 2] if heights else np.hypot(frame.sigma_angstrom[:, 0], frame.sigma_angstrom[:, 1])
    payload: dict[str, Any] = {
        "frame": frame.frame,
        "time_ms": None if time_ms is None else round(time_ms, 3),
        "id": frame.ids.tolist(),
        "x": _rounded(frame.xyz_angstrom[:, 0]),
        "y": _rounded(frame.xyz_angstrom[:, 1]),
        "sigma": _rounded(sigma, 3),
        "strain": _rounded(50 * (strain.eps[:, 0] + strain.eps[:, 1])),
        "bonds": frame_bonds(frame).pairs.ravel().tolist(),
    }
    if heights:
        payload["z"] = _rounded(frame.xyz_angstrom[:, 2] - frame.xyz_angstrom[:, 2].mean())
    return payload


def _rounded(values: np.ndarray, digits: int = 2) -> list[float | None]:
    return [round(value, digits) if np.isfinite(value) else None for value in values.tolist()]


def _colour_choices(payload: list[dict[str, Any]], heights: bool) -> list[dict[str, Any]]:
    wanted = [("z", "height z (Å)", "Viridis")] if heights else []
    wanted += [("sigma", "σ of z (Å)" if heights else "σ in the plane (Å)", "Cividis"), ("strain", "mean in-plane strain (%)", "RdBu")]
    choices = []
    for key, label, scale in wanted:
        values = np.array([value for one in payload for value in one[key] if value is not None])
        if values.size == 0:
            continue
        low, high = (float(v) for v in np.percentile(values, [1, 99]))
        if key == "strain":
            low, high = -max(-low, high, 0.1), max(-low, high, 0.1)
        choices.append({"key": key, "label": label, "min": low, "max": high if high > low else low + 0.1, "scale": scale})
    return choices
