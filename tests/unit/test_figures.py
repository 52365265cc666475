"""Figures: every one draws with full, thin and missing data, the same bytes each time, and shows what it was given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from report_tables import HOSTILE, atoms_table, dose_summary, dose_table, frame_atoms, frames_table, images, md_table
from scant.analysis.bonds import bond_table
from scant.analysis.curvature import frame_curvature
from scant.analysis.dynamics import displacement_table, motion_by_atom
from scant.analysis.neighbours import FrameAtoms, iterate_frames
from scant.analysis.ripples import ripple_table, spectrum_of_table
from scant.analysis.strain import frame_strain
from scant.imaging.photon_transfer import photon_transfer
from scant.physics.lattice import pairs_within
from scant.physics.optics import Optics
from scant.report import figures

FULL, FLAT = atoms_table(4), atoms_table(4, flat=True)


def first(table: pl.DataFrame) -> FrameAtoms:
    return next(iterate_frames(table))


def fluctuation(table: pl.DataFrame) -> Figure:
    motion = motion_by_atom(table).cast({"fluctuation_z_angstrom": pl.Float64, "noise_z_angstrom": pl.Float64}).fill_null(np.nan)
    xy = motion.select("mean_x_angstrom", "mean_y_angstrom").to_numpy()
    return figures.fluctuation_figure(xy, motion["fluctuation_z_angstrom"].to_numpy(), motion["noise_z_angstrom"].to_numpy())


def bonds(table: pl.DataFrame) -> Figure:
    found = bond_table(table)
    lengths = (found[name].to_numpy() for name in ("length_angstrom", "sigma_length_angstrom"))
    return figures.bond_figure(*lengths, 115.0 + np.arange(9), 1.42)


def triptych(table: pl.DataFrame) -> Figure:
    stage = images(60)
    model = stage["model"] if first(table).has_heights else None
    return figures.frame_triptych(stage["raw"], stage["corrected"], model, 0.2, first(table))


def residual(table: pl.DataFrame) -> Figure:
    stage = images(60)
    return figures.residual_figure((stage["corrected"] - stage["model"]) / 4.0 if first(table).has_heights else None, 0.2)


def maps(table: pl.DataFrame) -> Figure:
    heights, sigma = first(table).xyz_angstrom[:, 2], first(table).sigma_angstrom[:, 2]
    return figures.atom_maps(first(table), {"height (Å)": (heights, sigma), "without sigma": (heights, None)})


def correlations(r: list[float | None]) -> Figure:
    rows = pl.DataFrame({"response": ["a", "b"], "goes with": ["x", "y"], "r": r, "from": [-0.2, None], "to": [0.4, None]})
    return figures.correlation_figure(rows)


def transfer_of_noise() -> Figure:
    frames = RNG.poisson(200, (6, 64, 64)).astype(np.float32)
    return figures.photon_transfer_figure(photon_transfer(frames), (0.1, 0.3))


BY_ATOMS: dict[str, Callable[[pl.DataFrame], Figure]] = {
    "triptych": triptych,
    "residual": residual,
    "maps": maps,
    "profile": lambda t: figures.profile_figure(first(t), first(t).xyz_angstrom + RNG.normal(0, 0.2, (3, 1, 1))),
    "spread": lambda t: figures.spread_figure({"z (Å)": (first(t).xyz_angstrom[:, 2], first(t).sigma_angstrom[:, 2])}, ideal=0),
    "heights": lambda t: figures.height_figure(first(t), pairs_within(first(t).xyz_angstrom[:, :2], 1.85)),
    "strain": lambda t: figures.strain_figure(first(t), frame_strain(first(t))),
    "curvature": lambda t: figures.curvature_figure(first(t), frame_curvature(first(t))),
    "fluctuation": fluctuation,
    "sigma": lambda t: figures.sigma_figure(first(t).sigma_angstrom),
    "bonds": bonds,
    "ripple course": lambda t: figures.ripple_course_figure(ripple_table(t)),
    "displacement": lambda t: figures.displacement_figure(displacement_table(t, (1, 2)), 1.0),
}
RNG = np.random.default_rng(0)
DOSES = sorted(set(dose_table()["dose_e_per_angstrom2"]))
BOUND = pl.DataFrame({"dose_e_per_angstrom2": DOSES}).with_columns(
    pl.lit(0.1).alias(name) for name in ("bound_x_angstrom", "bound_z_angstrom", "image_alone_z_angstrom")
)
OWN = {"dose_e_per_angstrom2": 8e3, "sigma_x_angstrom": 0.03, "sigma_z_angstrom": 0.3}
BY_TABLE: dict[str, Callable[[], Figure]] = {
    "drift": lambda: figures.drift_figure(frames_table(), 0.2),
    "quality": lambda: figures.quality_figure(frames_table()),
    "md": lambda: figures.md_figure(md_table()),
    "dose": lambda: figures.dose_figure(dose_table(), dose_summary()),
    "spectrum": lambda: figures.ripple_spectrum_figure(spectrum_of_table(FULL)),
    "energy": lambda: figures.energy_figure(np.exp(-np.arange(40) / 9) * np.ones((3, 1)), 10, 10),
    "intensity": lambda: figures.intensity_figure(images(40)["corrected"], images(40)["model"], 0.01),
    "image": lambda: figures.image_figure({"one": images(40)["raw"], "other": images(40)["corrected"]}, 0.2, shared=True),
    "photon transfer": transfer_of_noise,
    "transfer": lambda: figures.transfer_figure(Optics(80.0, -1.3e5, -45.0, 10.0, 52.2), 0.5, 2.46),
    "correlation": lambda: correlations([0.1, None]),
    "no correlation": lambda: correlations([None, None]),
    "bound": lambda: figures.bound_figure(BOUND, dose_table(), OWN),
    "validation": lambda: figures.validation_figure(np.linspace(-1, 1, 300).reshape(-1, 3), np.full((100, 3), 0.5)),
}


@pytest.mark.parametrize("name", BY_ATOMS)
def test_atoms_with_heights_and_without_give_a_figure(name):
    for table in (FULL, FLAT):
        png = figures.png_bytes(BY_ATOMS[name](table), dpi=60)
        assert png.startswith(b"\x89PNG") and len(png) > 1000
    text = " ".join(t.get_text() for t in BY_ATOMS[name](FLAT).findobj(lambda o: hasattr(o, "get_text")))
    assert name in ("strain", "bonds", "triptych") or "not determined" in text or "optics unknown" in text


@pytest.mark.parametrize("name", BY_TABLE)
def test_tables_give_a_figure(name):
    assert figures.png_bytes(BY_TABLE[name](), dpi=60).startswith(b"\x89PNG")


def test_files_are_the_same_bytes_each_time(tmp_path):
    for run in ("one", "two"):
        figures.save_figure(figures.dose_figure(dose_table(), dose_summary()), tmp_path / run, "dose")
    for suffix in ("png", "svg"):
        assert (tmp_path / "one" / f"dose.{suffix}").read_bytes() == (tmp_path / "two" / f"dose.{suffix}").read_bytes()
    assert b"dose per frame" in (tmp_path / "one" / "dose.svg").read_bytes()


def test_columns_of_nulls_are_said_to_be_undetermined():
    empty = frames_table().with_columns(pl.lit(None).alias(name) for name in ("correlation", "r_hat", "drift_x_px", "drift_y_px"))
    quality = figures.quality_figure(empty)
    assert sum(text.get_text() == "not determined" for axes in quality.axes for text in axes.texts) == 2
    drift = figures.drift_figure(empty, 0.2)
    assert any("drift not measured" in text.get_text() for text in drift.axes[0].texts)


def test_a_frame_that_could_not_be_aligned_leaves_a_gap_in_the_drift():
    """Its sigma is infinite: that of a frame which the camera lost, between two that it did not."""
    frames = frames_table().with_columns(drift_sigma_px=pl.Series([np.inf if n == 3 else 0.1 for n in range(frames_table().height)]))
    figure = figures.drift_figure(frames, 0.2)
    assert figures.png_bytes(figure, dpi=60).startswith(b"\x89PNG")
    low, high = figure.axes[0].get_ylim()
    assert high - low < 100


def test_the_search_is_drawn_apart_from_the_sampling():
    energy = np.concatenate([np.full((2, 4), -5e4), np.full((2, 6), -1e3)], axis=1)
    for panel in figures.energy_figure(energy, 4).axes:
        assert all(np.allclose(line.get_ydata(), 0) for line in panel.lines[:2])


def test_a_figure_shows_itself_in_a_notebook():
    png, size = figures.drift_figure(frames_table(), 0.2)._repr_png_()
    assert png.startswith(b"\x89PNG") and size == {"width": 805}


def test_labels_do_not_overlap():
    """Tick labels of one axis stay apart, for every figure at its real size."""
    makers = [*BY_TABLE.values(), *(lambda maker=maker: maker(FULL) for maker in BY_ATOMS.values())]
    for make in makers:
        figure = make()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        for axes in (a for a in figure.axes if a.axison):
            for axis in (axes.xaxis, axes.yaxis):
                boxes = [
                    t.label1.get_window_extent(renderer) for t in axis.get_major_ticks() if t.label1.get_text() and t.label1.get_visible()
                ]
                overlapping = sum(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[k + 1 :])
                assert overlapping == 0, (axes.get_xlabel(), axes.get_ylabel(), [t.get_text() for t in axis.get_ticklabels()])


def test_drawn_heights_are_the_heights_given():
    atoms = frame_atoms(np.array([[0.0, 0, 1.0], [3, 0, -2.0], [0, 3, 4.0]]))
    drawn = figures.height_figure(atoms).axes[0].collections[-1]
    np.testing.assert_allclose(drawn.get_array(), [0, -3, 3])
    np.testing.assert_allclose(drawn.get_offsets(), atoms.xyz_angstrom[:, :2])


def test_images_and_atoms_share_the_origin_at_the_centre_of_the_first_pixel():
    image = np.zeros((20, 30))
    figure = figures.frame_triptych(image, image, image, 0.5, frame_atoms(np.array([[2.0, 3.0, 0.0]])))
    assert tuple(figure.axes[0].images[0].get_extent()) == (-0.25, 14.75, 9.75, -0.25)
    assert figure.axes[2].get_ylim() == figure.axes[1].get_ylim() == (9.75, -0.25)


def test_reasons_from_a_file_are_drawn_as_text():
    hostile = md_table().with_columns(reason=pl.lit(HOSTILE), verdict=pl.lit("stable"))
    assert b"<script>" not in figures.vector_bytes(figures.md_figure(hostile), "svg")
