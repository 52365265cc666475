"""Runs for the report, of synthetic tables: a usual one, and one that has everything a page can show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from report_tables import (
    atoms_table,
    calibration,
    dose_summary,
    dose_table,
    failures_table,
    frames_table,
    images,
    md_table,
)  # fmt: skip
from scant.analysis.defect_events import EVENTS, TRACKED
from scant.config import AnnealSettings
from scant.report.findings import Defects, ExampleImages, ReportInputs, Response
from scant.stages.denoisers import REAL, SIMULATED
from scant.stages.products import ELECTRONS, RESPONSES, SUMS

N_RESPONSES = 6


def full_inputs() -> ReportInputs:
    stage, rng = images(64), np.random.default_rng(0)
    sigma = rng.uniform(0.02, 0.3, (300, 3))
    error = sigma * rng.normal(size=sigma.shape)
    truth = {f"error_{a}_angstrom": error[:, k] for k, a in enumerate("xyz")} | {
        f"sigma_{a}_angstrom": sigma[:, k] for k, a in enumerate("xyz")
    }
    return ReportInputs(
        name="demo",
        atoms=atoms_table(8).lazy(),
        frames=frames_table(8),
        calibration=calibration(),
        parameters={"anneal": {"chains": 4, "prior": "tersoff"}, "denoise": {"sigma_adu": None}},
        provenance={"versions": {"scant": "0.1.0"}, "config_hash": "4f1c", "seed": 7},
        md=md_table(8),
        dose=dose_table(),
        dose_summary=dose_summary(),
        failures=failures_table(),
        example=ExampleImages(1, stage["raw"], stage["corrected"], stage["model"], stage["corrected"] - stage["model"], 0.2),
        truth=pl.DataFrame(truth),
        histograms=(stage["corrected"], stage["model"]),
    )


def response(known: bool = True) -> Response:
    """Densities of states by height, and sums of responses that go with it."""
    rng = np.random.default_rng(1)
    atoms = atoms_table(N_RESPONSES)
    columns = dict.fromkeys(RESPONSES, 0.03 + 0.001 * atoms["z_angstrom"])
    columns |= {f"sigma_{name}": pl.Series([0.002] * len(atoms)) for name in RESPONSES}
    electronic = atoms.select("frame", "id").with_columns(**columns).select(pl.col(name).cast(kind) for name, kind in ELECTRONS.items())
    rows = []
    for frame in range(N_RESPONSES):
        x = rng.normal(size=300)
        for pair, slope in ((("density of states", "strain trace"), 1.0), (("bond order", "bond length"), -0.1)):
            y = slope * x + 0.1 * rng.normal(size=300)
            rows.append((frame, *pair, 300.0, x.sum(), y.sum(), x @ x, y @ y, x @ y))
    if not known:
        electronic, rows = electronic.with_columns(pl.lit(None, pl.Float64).alias(name) for name in electronic.columns[2:]), []
    return Response(electronic.lazy(), pl.DataFrame(rows, schema=SUMS, orient="row"))


def denoisers() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Made-up figures of four methods at two doses."""
    rows = [
        (method, factor, *(0.9 for _ in list(SIMULATED)[2:]))
        for factor in (0.3, 1.0)
        for method in ("single frame", "Gaussian", "radial Wiener", "BM3D")
    ]
    simulated = pl.DataFrame(rows, schema=SIMULATED, orient="row")
    return simulated, pl.DataFrame([("BM3D", 0.01, 0.9)], schema=REAL, orient="row")


def defects() -> Defects:
    """A bond that turns between two frames, and a vacancy that stays."""
    seen = [(frame, "12", 0) for frame in range(N_RESPONSES)] + [(frame, "5-5-7-7", 1) for frame in range(3, N_RESPONSES)]
    tracked = pl.DataFrame([{"frame": frame, "rings": rings, "defect": defect} for frame, rings, defect in seen], schema=TRACKED)
    turned = {"defect": 1, "event": "bond rotation", "frame_before": 2, "frame_after": 3, "time_before_ms": 2.0, "time_after_ms": 3.0,
              "rings_before": "", "rings_after": "5-5-7-7", "n_before": 3, "n_after": 3}  # fmt: skip
    return Defects(tracked, pl.DataFrame([turned], schema=EVENTS), 400.0)


def everything() -> ReportInputs:
    """A run that has everything."""
    dose = dose_table()
    levels = dose["dose_e_per_angstrom2"].unique().sort()
    bound = pl.DataFrame({"dose_e_per_angstrom2": levels, "bound_3d_angstrom": 0.2, "image_alone_z_angstrom": 3.0})
    return replace(
        full_inputs(),
        atoms=atoms_table(N_RESPONSES),
        dose=pl.concat([dose, dose.with_columns(window=pl.lit(1, pl.Int64))]),
        dose_bound=bound,
        denoisers=denoisers(),
        energy=np.random.default_rng(0).normal(size=(4, 40)),
        response=response(),
        defects=defects(),
        parameters={"average": {"window": 5}, "anneal": AnnealSettings().model_dump()},
    )
