"""The comparison of denoisers: its figures on images whose answer is known, and its page."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scant.errors import CalibrationError
from scant.physics.lattice import GRAPHENE
from scant.physics.optics import Optics
from scant.report.denoisers import denoisers_figure, denoisers_page
from scant.report.page import render_page
from scant.rng import stream
from scant.stages.denoisers import REAL, SIMULATED, _against_truth, _autocorrelation, _pooled, compare_real, cost, neighbouring_pairs
from scant.stages.training import PairSettings, scene
from scipy.ndimage import gaussian_filter, uniform_filter

SETTINGS = PairSettings(GRAPHENE, Optics(80.0, -130000.0, -45.0, 10.0, 52.2), 0.2, 320.0, 0.5, 1.0)


def test_pairs_are_neighbours_among_the_usable_frames():
    assert neighbouring_pairs([0, 1, 3, 4, 9], 3) == [(0, 1), (3, 4), (4, 9)]
    assert neighbouring_pairs([2, 5], 4) == [(2, 5)]
    with pytest.raises(CalibrationError, match="1 frame"):
        neighbouring_pairs([2], 4)


def test_white_residuals_have_no_correlation_and_smooth_ones_have():
    white = np.random.default_rng(0).normal(0, 1, (256, 256))
    assert _autocorrelation(white) < 0.005
    assert _autocorrelation(gaussian_filter(white, 1.5)) > 0.3


def test_atoms_are_counted_against_the_truth():
    """All atoms found with 0.1 A too much in x, a vacancy filled in, and one atom where none is."""
    s = scene(SETTINGS, stream(3, "test-denoisers"), 3)
    found = np.concatenate([s.positions[:, :2] + [0.1, 0], s.vacancies[:1], [[12.8, 12.8]]])
    far = np.linalg.norm(s.positions[:, :2] - [12.8, 12.8], axis=1).min() > 0.5
    n = int(((s.positions[:, :2] > 3) & (s.positions[:, :2] < 22.6)).all(axis=1).sum())
    figures = _pooled([_against_truth(found, s, 25.6)])
    assert figures["recall"] == 1.0
    assert figures["precision"] == pytest.approx(n / (n + 1 + far))
    assert figures["rms_angstrom"] == pytest.approx(0.1 / 2**0.5, rel=0.01)
    assert figures["lattice_bias"] == pytest.approx(0, abs=1e-9)
    assert figures["vacancies_filled"] == pytest.approx(1 / 3)
    nothing = _pooled([_against_truth(np.zeros((0, 2)), s, 25.6)])
    assert nothing["recall"] == 0
    assert np.isnan(nothing["rms_angstrom"])


def test_real_frames_agree_when_noise_is_gone():
    rng = np.random.default_rng(1)
    truth = 300 + 20 * np.sin(np.arange(128) / 3)[None, :] * np.ones((128, 1))
    pairs = [tuple(rng.poisson(truth).astype(float) for _ in range(2))]
    filters = {"single frame": np.asarray, "five rows": lambda image: uniform_filter(image, (5, 1))}
    table = compare_real(pairs, filters, {"read_noise_e": 0.0, "excess_noise": 1.0})
    assert table.schema == pl.Schema(REAL)
    single, smooth = table["agreement"].to_list()
    assert smooth > single + 0.2


def test_memory_and_time_of_a_filter_are_its_own():
    spent = cost(_twice_as_much)
    assert 3.0 < spent["peak_mb"] < 12.0
    assert spent["cpu_s_per_mpx"] < 1.0


def _twice_as_much(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image, image, image, image]).copy()[: len(image)]


def test_the_page_holds_tables_and_figure():
    rows = [
        {"method": method, "dose_factor": 1.0, "gain_db": gain, "gain_at_vacancies_db": gain - 1, "recall": 1.0, "vacancies_filled": 0.25}
        for method, gain in (("single frame", 0.0), ("BM3D", 12.0))
    ]
    simulated = pl.DataFrame(rows, schema=SIMULATED)
    real = pl.DataFrame({"method": ["BM3D"], "residual_correlation": [0.01], "agreement": [0.8]}, schema=REAL)
    page = render_page(denoisers_page("film <1>", simulated, real))
    assert "film &lt;1&gt;" in page
    assert page.count("<table") == 2
    assert "25" in page
    left, right = denoisers_figure(simulated).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["BM3D"]
    np.testing.assert_allclose(right.lines[0].get_xdata(), [25.0])
    assert render_page(denoisers_page("film", pl.DataFrame(schema=SIMULATED), real)).count("<table") == 1
