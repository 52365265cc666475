"""The dose threshold: known crossings, open ends, lucky twins, missing and failed twins."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import dose_table
from scant.analysis.dose_curve import dose_threshold, rmsd_by_dose
from scant.errors import InputError
from scant.rng import stream

DOSE = np.array([100.0, 200.0, 400.0, 1000.0, 4000.0])


def power_law(threshold: float, twins: int = 5, spread: float = 0.0) -> np.ndarray:
    noise = np.exp(spread * np.random.default_rng(2).normal(size=(DOSE.size, twins)))
    return 0.87 * (DOSE[:, None] / threshold) ** -0.5 * noise


def test_a_power_law_crosses_where_it_should_in_any_order():
    order = np.array([3, 0, 4, 2, 1])
    found = dose_threshold(DOSE[order], power_law(270.0)[order], rng=stream(0, "dose"))
    assert found.dose_e_per_angstrom2 == pytest.approx(270.0, rel=1e-9)
    assert found.position == "crossed" and not (found.low_open or found.high_open)
    assert found.low_e_per_angstrom2 == pytest.approx(found.high_e_per_angstrom2)


def test_the_interval_covers_the_truth_and_is_reproducible():
    covered = 0
    for k in range(40):
        rng = np.random.default_rng(k)
        rmsd = power_law(270.0) * np.exp(0.25 * rng.normal(size=(DOSE.size, 5)))
        found = dose_threshold(DOSE, rmsd, n_bootstrap=400, rng=stream(k, "dose"))
        covered += found.low_e_per_angstrom2 <= 270.0 <= found.high_e_per_angstrom2
    assert covered >= 32
    again = dose_threshold(DOSE, rmsd, n_bootstrap=400, rng=stream(39, "dose"))
    assert again == found


def test_ends_that_are_not_crossed_are_said():
    easy, hard = (dose_threshold(DOSE, power_law(t), rng=stream(0, "dose")) for t in (20.0, 9000.0))
    assert easy.position == "below" and easy.low_open and "below the lowest dose tested (100 e/Å²)" in easy.text
    assert hard.position == "above" and hard.high_open and "above the highest dose tested (4000 e/Å²)" in hard.text


def test_a_lucky_low_dose_does_not_lower_the_threshold():
    rmsd = power_law(2000.0)
    rmsd[0] = 0.3
    assert dose_threshold(DOSE, rmsd, rng=stream(0, "dose")).dose_e_per_angstrom2 == pytest.approx(2000.0)


def test_failed_twins_count_as_infinitely_bad_and_missing_ones_do_not_count():
    rmsd = power_law(150.0)
    rmsd[2, :3] = np.inf
    assert dose_threshold(DOSE, rmsd, rng=stream(0, "dose")).dose_e_per_angstrom2 == 1000.0
    rmsd[2, :3] = np.nan
    assert dose_threshold(DOSE, rmsd, rng=stream(0, "dose")).dose_e_per_angstrom2 == pytest.approx(150.0)


def test_the_table_becomes_a_matrix():
    table = dose_table(4)
    dose, rmsd = rmsd_by_dose(table)
    assert rmsd.shape == (7, 4)
    for d, row in zip(dose, rmsd):
        for twin, value in enumerate(row):
            cell = table.filter((pl.col("dose_e_per_angstrom2") == d) & (pl.col("twin") == twin))
            assert value == (cell["rmsd_3d_angstrom"][0] if cell["succeeded"][0] else np.inf)


@pytest.mark.parametrize(
    ("dose", "rmsd", "words"),
    [
        ([100.0, 100.0], np.ones((2, 2)), "distinct"),
        ([-1.0, 100.0], np.ones((2, 2)), "positive"),
        ([1.0, 100.0], np.ones((3, 2)), "do not fit"),
        ([1.0, 100.0], np.array([[1.0], [np.nan]]), "no result at"),
        ([1.0, 100.0], np.array([[1.0], [0.0]]), "not positive"),
    ],
)
def test_faults_are_named(dose, rmsd, words):
    with pytest.raises(InputError, match=words):
        dose_threshold(np.array(dose), rmsd, rng=stream(0, "dose"))
