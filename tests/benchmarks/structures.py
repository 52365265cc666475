"""Accuracy of the 3D reconstruction by dose, beside the source and the bound; accuracy by CPU time; speed of the image model.

usage: structures.py [--twins N]     prints the tables of tests/benchmarks/README.md (40 minutes on 2 cores beside other work)
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from scant.config import AnnealSettings, LocaliseSettings
from scant.inference.anneal import Schedule
from scant.inference.bound import position_bound, sheet_in_view
from scant.inference.problem import RefineSettings, refine_settings
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.gridded_sums import GriddedSums
from scant.physics.lattice import honeycomb
from scant.physics.md import MdSettings, judge_structure
from scant.physics.optics import Optics
from scant.physics.simulate import View
from scant.physics.structure_sums import MatrixSums
from scant.stages.twins import TwinTask, twin_truth, twins_table

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, envelope_b_angstrom2=1.0)
VIEW = View(220, 0.2, 0.1)
DOSES = (100.0, 200.0, 400.0, 1000.0, 2300.0, 4600.0, 8000.0, 27000.0)
SOURCE_RMSD_ANGSTROM = {2300.0: 1.50, 4600.0: 0.87, 27000.0: 0.33}
SETTINGS = refine_settings(AnnealSettings().model_dump(), 2.46, 0.0, seed=1, window=5)
GUIDED = refine_settings(AnnealSettings(link_frames=False).model_dump(), 2.46, 0.0, seed=1, window=5)
BUDGETS = {
    "short": (Schedule(8.0, 6, 1, 4, 8, 12), 2),
    "default": (SETTINGS.schedule, SETTINGS.n_chains),
    "long": (Schedule(8.0, 20, 1, 40, 80, 16), 4),
}


def twin_task(twin: int, settings: RefineSettings = SETTINGS) -> TwinTask:
    margin_angstrom = LocaliseSettings().lattice_margin_angstrom
    return TwinTask(twin, twin_truth(VIEW, settings, twin), OPTICS, VIEW, 0.5, 1.0, margin_angstrom, settings)


def by_dose(case: tuple[int, bool]) -> list[dict]:
    """Rows of one twin at all doses: with the window's frames linked and without any, or with the window as a guide alone."""
    twin, guided = case
    task = twin_task(twin, GUIDED if guided else SETTINGS)
    return [row for dose in DOSES for row in task(dose)]


def by_budget(name: str) -> tuple[str, float, float]:
    """Name, CPU seconds and 3D RMSD of twin 0 at 8e3 e/A^2, window 5, localisation included."""
    schedule, chains = BUDGETS[name]
    task = twin_task(0, replace(SETTINGS, schedule=schedule, n_chains=chains))
    start = time.process_time()
    rows = task(8000.0)
    return name, (time.process_time() - start) / 2, next(row["rmsd_3d_angstrom"] for row in rows if row["window"] == 5)


def image_rate(sums: str) -> float:
    """Linear images with gradients per CPU second of a 750-atom view, chains in a batch of four."""
    positions = np.column_stack([honeycomb(44.0, 44.0), np.zeros(len(honeycomb(44.0, 44.0)))])[None].repeat(4, axis=0).astype(np.float32)
    model = ForwardModel(OPTICS, ImageGrid.padded(220, 220, 0.2, 5.0), np.full(positions.shape[1], "C"))
    kinds = {"gridded": GriddedSums, "matrix": partial(MatrixSums, xp=np, dtype=np.dtype(np.float32))}
    model._sums = kinds[sums](model.band, model.n_orders, model.grid.pad_px * 0.2)
    image, waves = model.linear_image(positions)
    model.gradient(image, waves)
    start = time.process_time()
    for _ in range(20):
        image, waves = model.linear_image(positions)
        model.gradient(image, waves)
    return 80 / (time.process_time() - start)


def judging_seconds(n_atoms: int = 750) -> float:
    """CPU seconds of LAMMPS's verdict on a warm sheet of so many atoms, 50 ps."""
    positions = twin_truth(VIEW, SETTINGS, 0)[2].positions
    middle = np.argsort(np.abs(positions[:, :2] - positions[:, :2].mean(axis=0)).max(axis=1))[:n_atoms]
    verdict = judge_structure(positions[middle], ["C"] * n_atoms, settings=MdSettings(), seed=1)
    if verdict.verdict != "stable":
        raise SystemExit(f"the true structure is judged {verdict.verdict}: {verdict.reason}")
    return verdict.cpu_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--twins", type=int, default=4)
    twins = parser.parse_args().twins
    with ProcessPoolExecutor() as pool:
        cases = [(twin, guided) for guided in (False, True) for twin in range(twins)]
        results = list(pool.map(by_dose, cases))
        budgets = list(pool.map(by_budget, BUDGETS))
    table, guided = (twins_table(row for rows in part for row in rows) for part in (results[:twins], results[twins:]))
    sheet = sheet_in_view(VIEW.size_angstrom, VIEW.pixel_size_angstrom, 2.46, 300.0)
    print("| dose (e/A^2) | 3D RMSD (A) | z (A) | alone, window 1 | 5 frames as a guide | claimed sigma z | recall | source | bound, 3D |")
    print("|---|---|---|---|---|---|---|---|---|")
    for dose in DOSES:
        with_window, alone = (table.filter(dose_e_per_angstrom2=dose, window=w) for w in (5, 1))
        bound = float(np.sqrt((position_bound(sheet, OPTICS, dose) ** 2).sum()))
        shown = [with_window[c].median() for c in ("rmsd_3d_angstrom", "sigma_z_angstrom")] + [alone["rmsd_3d_angstrom"].median()]
        shown += [guided.filter(dose_e_per_angstrom2=dose, window=5)["rmsd_3d_angstrom"].median()]
        shown += [with_window["claimed_sigma_z_angstrom"].median()]
        cells = " | ".join("failed" if value is None else f"{value:.2f}" for value in shown)
        source = SOURCE_RMSD_ANGSTROM.get(dose)
        print(f"| {dose:g} | {cells} | {with_window['recall'].mean():.4f} | {source or '-'} | {bound:.2f} |", flush=True)
    print("\n| schedule | CPU-s per frame | 3D RMSD (A) at 8e3 |\n|---|---|---|")
    for name, seconds, rmsd in budgets:
        print(f"| {name} | {seconds:.1f} | {rmsd:.3f} |")
    rates = {sums: image_rate(sums) for sums in ("gridded", "matrix")}
    print("\nimage + gradient per CPU-s: " + ", ".join(f"{sums} {rate:.0f}" for sums, rate in rates.items()))
    print(f"molecular dynamics, 750 atoms, 50 ps: {judging_seconds():.1f} CPU-s")


if __name__ == "__main__":
    main()
