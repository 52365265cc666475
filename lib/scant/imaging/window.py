"""How many frames the sliding mean takes; apart from the mean itself, because every job's rules ask for it."""

from __future__ import annotations

import math

WINDOW_DOSE_E_PER_ANGSTROM2 = 4e4
SHORTEST_WINDOW, LONGEST_WINDOW = 5, 25


def window_for_dose(dose_e_per_angstrom2: float | None) -> int:
    """Frames (odd) whose doses add up to what single vacancies are found at, 4e4 e/A^2: at least 5, at most 25, beyond which a sheet
    moves more than its noise; 5 where the dose is not known."""
    if dose_e_per_angstrom2 is None:
        return SHORTEST_WINDOW
    frames = 2 * math.ceil((WINDOW_DOSE_E_PER_ANGSTROM2 / dose_e_per_angstrom2 - 1) / 2) + 1
    return min(max(frames, SHORTEST_WINDOW), LONGEST_WINDOW)
