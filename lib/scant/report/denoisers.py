"""What each denoiser does to the atoms: the section of the report and the page of `compare_denoisers`."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from scant.report.page import Page, Picture, Section, Table
from scant.report.style import BLUE, GREY, RED, row_of_panels, styled

SINGLE = "single frame"
# Column, heading, factor, digits.
COLUMNS = (
    ("gain_db", "gain (dB)", 1, 1), ("gain_at_vacancies_db", "at vacancies (dB)", 1, 1), ("recall", "recall", 1, 4),
    ("precision", "precision", 1, 4), ("rms_angstrom", "rms x, y (Å)", 1, 4), ("lattice_bias", "lattice scale (‰)", 1000, 2),
    ("vacancies_filled", "filled (%)", 100, 0), ("cpu_s_per_mpx", "CPU-s/Mpx", 1, 3), ("peak_mb", "MB", 1, 0),
)  # fmt: skip


def denoisers_section(simulated: pl.DataFrame, real: pl.DataFrame) -> Section:
    """The comparison: a table per dose, one of the real frames, and gains beside the share of vacancies filled in."""
    text = (
        "Each method saw one frame, or five where its name says so. On simulated frames of this movie's crystal, optics and noise the "
        "truth is known: three vacancies in each of four scenes. A filter can gain much over the whole image and yet fill in missing "
        "atoms: look at the gain near vacancies and at the share of vacancies where an atom is found after it (filled). Atoms are located "
        "by the workflow's own stage, as if the image were a frame.",
    )
    tables = []
    for factor in simulated["dose_factor"].unique().sort().to_list():
        columns = [((factor_of * pl.col(name)).round(digits) + 0.0).alias(heading) for name, heading, factor_of, digits in COLUMNS]
        rows = simulated.filter(dose_factor=factor).select("method", *columns)
        tables.append(Table(f"Simulated frames at {factor:g} times the dose of the movie.", rows, f"denoisers_{factor:g}.csv"))
    shown = real.select(
        "method",
        pl.col("residual_correlation").round(4).alias("correlation left in the residual"),
        pl.col("agreement").round(3).alias("agreement of neighbouring frames"),
    )
    caption = (
        "Real frames. The residual (what was taken away) should be white: 0. Two neighbouring frames, denoised apart, should agree; "
        "filters that keep the lattice alone agree best, so this is read together with the vacancies above."
    )
    tables.append(Table(caption, shown, "denoisers_real.csv"))
    pictures: tuple[Picture, ...] = ()
    if simulated.height:
        what = "Gain over the whole image and near vacancies, at the movie's own dose; crosses: share of vacancies filled in."
        seen = "Bars of PSNR gains of each denoiser, with filled vacancies."
        pictures = (Picture("denoisers", partial(denoisers_figure, simulated), what, seen),)
    return Section("denoisers", "Denoisers compared", "gates", text, tuple(tables), pictures)


def denoisers_page(name: str, simulated: pl.DataFrame, real: pl.DataFrame) -> Page:
    """The section as a page of its own."""
    return Page(f"{name}: denoisers compared", "What each denoiser does to the atoms.", (denoisers_section(simulated, real),))


@styled
def denoisers_figure(simulated: pl.DataFrame, narrow: bool = False) -> Figure:
    """Gains in dB over all and near vacancies, and the share of vacancies filled in, at the movie's own dose."""
    factors = simulated["dose_factor"].to_numpy()
    everything = simulated.filter(dose_factor=float(factors[np.abs(factors - 1).argmin()]))
    own, single = everything.filter(pl.col("method") != SINGLE), everything.filter(method=SINGLE)
    figure, (gains, filled) = row_of_panels(2, 3.4, narrow, 2.9, sharey=True, width_ratios=(2, 1))
    place = np.arange(own.height)
    gains.barh(place - 0.19, own["gain_db"], 0.36, color=GREY, label="whole image")
    gains.barh(place + 0.19, own["gain_at_vacancies_db"], 0.36, color=BLUE, label="near vacancies")
    for panel in (gains, filled) if narrow else (gains,):
        panel.set_yticks(place, own["method"].to_list())
        panel.set_ylim(len(place) - 0.5, -0.5)
    gains.set(xlabel="gain in PSNR over one frame (dB)")
    filled.plot(100 * own["vacancies_filled"].to_numpy(), place, "x", color=RED, markersize=6, label="vacancies filled in")
    for share in single["vacancies_filled"]:
        filled.axvline(100 * share, color=GREY, linestyle=":", linewidth=1.0, label="single frame")
    filled.set(xlabel="vacancies filled in (%)", xlim=(-5, 105))
    gains.set_title("a  gain")
    filled.set_title("b  vacancies lost")
    figure.legend(loc="outside upper center", ncols=2 if narrow else 4)
    return figure
