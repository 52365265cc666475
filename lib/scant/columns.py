"""Every column of every product table, with unit and meaning: generates workflow/COLUMNS.md, and tests compare it with a real run.

A new column is one line here. usage: python -m scant.columns [--fix] FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

FILE = "COLUMNS.md"
FRAME = {"frame": ("", "number of the frame in the movie, from 0")}
ATOM = FRAME | {"id": ("", "identity of the atom, the same in every frame")}


@dataclass(frozen=True)
class Table:
    """A product table: what a row is, and (unit, meaning) by column. `on_request`: a run alone does not make it."""

    row: str
    columns: dict[str, tuple[str, str]]
    on_request: bool = False


def _components(name: str, meaning: str) -> dict[str, tuple[str, str]]:
    """xx, yy, xy of a strain and of its sigma."""
    values = {f"{name}_{c}": ("", f"{meaning}, component {c}" + (" (tensor shear)" if c == "xy" else "")) for c in ("xx", "yy", "xy")}
    return values | {f"sigma_{key}": ("", f"standard deviation of `{key}`") for key in values}


TABLES = {
    "atoms.parquet": Table(
        "an atom of a frame",
        ATOM
        | {
            "species": ("", "element symbol"),
            "x_angstrom": ("A", "position along columns; 0 is the centre of pixel (0, 0) of the raw frame"),
            "y_angstrom": ("A", "position along rows, downwards"),
            "z_angstrom": ("A", "height along the beam, relative to the mean of the frame's atoms; null without optics"),
            "sigma_x_angstrom": (
                "A",
                "standard deviation of x: the posterior's, disagreement of the chains included; without optics that of a local fit",
            ),
            "sigma_y_angstrom": ("A", "the same of y"),
            "sigma_z_angstrom": ("A", "the same of z; errors of neighbours are correlated"),
            "flag": (
                "bits",
                "1 contaminated, 2 edge of the view, 4 defect, 8 occupancy uncertain, 16 outside the view, 256 the frame's chains did not "
                "agree; 0 none of these",
            ),
        },
    ),
    "bonds.parquet": Table(
        "a bond of a frame",
        FRAME
        | {
            "id_a": ("", "one atom, as `id` in atoms.parquet"),
            "id_b": ("", "the other"),
            "length_angstrom": ("A", "distance between the two estimates; in the plane where heights are unknown"),
            "sigma_length_angstrom": (
                "A",
                "its standard deviation over samples of the posterior; without heights, of independent atoms",
            ),
            "length_corrected_angstrom": ("A", "freed of the bias that noise or a posterior's spread gives a length"),
            "pi_bond_order": ("", "pi bond order of the tight-binding ground state; null without heights or for other elements than C"),
            "sigma_pi_bond_order": ("", "its standard deviation over samples of the posterior"),
        },
    ),
    "surface.parquet": Table(
        "an atom of a frame; NaN where its surroundings are incomplete",
        ATOM
        | _components("eps", "in-plane strain against the material's ideal lattice")
        | _components("green", "Green-Lagrange strain, out-of-plane bending included")
        | {
            "rotation_rad": ("rad", "local rotation against the frame's mean lattice"),
            "sigma_rotation_rad": ("rad", "its standard deviation"),
            "mean_per_angstrom": ("1/A", "mean curvature; negative at the top of a dome"),
            "sigma_mean_per_angstrom": ("1/A", "its standard deviation"),
            "gaussian_per_angstrom2": ("1/A^2", "Gaussian curvature; negative at a saddle"),
            "sigma_gaussian_per_angstrom2": ("1/A^2", "its standard deviation"),
            "normal_x": ("", "x of the local unit normal"),
            "normal_y": ("", "y of it"),
            "normal_z": ("", "z of it, always positive"),
            "pyramidalisation_deg": ("deg", "POAV: angle between pi axis and sigma bonds less 90; positive for a bump towards +z"),
            "sigma_pyramidalisation_deg": ("deg", "its standard deviation"),
        },
    ),
    "electronic.parquet": Table(
        "an atom of a frame; null without heights, for other elements than C, and where its surroundings are incomplete",
        ATOM
        | {
            "ldos_per_ev": ("1/eV", "local density of pi states at the Fermi level, broadened"),
            "sigma_ldos_per_ev": ("1/eV", "its standard deviation over samples of the posterior"),
            "charge_e": ("e", "one less the pi electrons of the atom: positive where electrons lack"),
            "sigma_charge_e": ("e", "its standard deviation"),
            "free_valence": ("", "the root of 3 less the sum of the pi bond orders of its bonds"),
            "sigma_free_valence": ("", "its standard deviation"),
            "pseudo_field_tesla": (
                "T",
                "pseudo-magnetic field of the strain along +z, of the valley next to the lattice's reference direction",
            ),
            "sigma_pseudo_field_tesla": ("T", "its standard deviation"),
        },
    ),
    "ripples.parquet": Table(
        "a ring of wave vectors of a frame",
        FRAME
        | {
            "q_per_angstrom": ("1/A", "wave vector, 2 pi over the wavelength"),
            "n_waves": ("", "waves in the ring"),
            "power_angstrom4": ("A^4", "mean power of their heights over samples of the posterior"),
            "harmonic_angstrom4": ("A^4", "the same of a harmonic sheet seen through the same window, for k_B T / kappa = 1"),
            "mean_power_angstrom4": ("A^4", "power of the posterior mean, smoother than the sheet"),
            "next_power_angstrom4": ("A^4", "its product with the next frame's; null where that does not follow in the block"),
        },
    ),
    "defects.parquet": Table(
        "a defect of a frame: rings of bonds that are no hexagons, away from the edge of the view",
        FRAME
        | {
            "x_angstrom": ("A", "centre of its atoms along columns, in the raw frame"),
            "y_angstrom": ("A", "the same along rows, downwards"),
            "rings": ("", "number of bonds of each ring: 5-5-7-7 is a turned bond, 12 (or 5-9) a vacancy"),
            "n_missing": ("", "atoms that the area lacks against the perfect lattice"),
            "n_atoms": ("", "atoms of the rings"),
            "defect": ("", "identity of the defect, the same in every frame"),
        },
    ),
    "defect_events.parquet": Table(
        "a change of a defect between two frames",
        {
            "defect": ("", "as `defect` in defects.parquet"),
            "event": ("", "`bond rotation`, `atoms lost`, `atoms gained`, or `jump` (the same rings at another place)"),
            "frame_before": ("", "last frame of the state before"),
            "frame_after": ("", "first frame of the state after; frames without a structure may lie between"),
            "time_before_ms": ("ms", "time of `frame_before`"),
            "time_after_ms": ("ms", "time of `frame_after`"),
            "x_angstrom": ("A", "centre of the defect after the event (before, where none is left), in that raw frame"),
            "y_angstrom": ("A", "the same along rows"),
            "jump_angstrom": ("A", "how far its centre moved; null where there is a defect on one side alone"),
            "rings_before": ("", "its rings before; empty: hexagons"),
            "rings_after": ("", "its rings after"),
            "missing_before": ("", "atoms lacking before"),
            "missing_after": ("", "atoms lacking after"),
            "n_before": ("", "frames for which the state before was seen; few: it may be an error of those frames"),
            "n_after": ("", "frames for which the state after was seen"),
        },
    ),
    "frames.parquet": Table(
        "a frame of the movie; what needs a structure is null where there is none",
        FRAME
        | {
            "time_ms": ("ms", "frame number times frame time; null where that is not known"),
            "status": ("", "`ok`: has a structure; `failed`: has none, failures.parquet says why"),
            "fault": ("", "why the frame was left out from the start: empty, dim, bright, saturated, nan; null: nothing found"),
            "drift_y_px": ("px", "displacement of the sample against frame 0, downwards"),
            "drift_x_px": ("px", "the same along columns"),
            "drift_sigma_px": ("px", "the larger standard deviation of the two"),
            "n_hits": ("", "X-ray hits masked"),
            "mean_e": ("e/px", "mean of the corrected frame over its good pixels"),
            "dose_e_per_angstrom2": ("e/A^2", "`mean_e` over the area of a pixel"),
            "variance_cut_total": ("", "share of the relative variance of all pixels that correction removes"),
            "variance_cut": ("", "the same number, under an older name"),
            "variance_cut_background": ("", "the same of means over blocks larger than the lattice: uneven illumination and gain"),
            "n_atoms": ("", "atoms of the frame in atoms.parquet"),
            "energy": ("", "minus the logarithm of the frame's own posterior up to a constant, mean over the samples"),
            "chains_in_basin": ("", "chains that reached the lowest basin; the others are left out"),
            "reduced_chi2": ("", "misfit of model and counts per pixel; 1 where the noise explains it"),
            "correlation": ("", "correlation of model image and counts over the view"),
            "intensity_e": ("e/px", "fitted intensity of the beam"),
            "acceptance": ("", "share of moves accepted at temperature 1"),
            "r_hat": ("", "split R-hat of the softest height modes; near 1 when each chain has seen the whole posterior"),
            "chain_spread_z_angstrom": ("A", "rms disagreement of the chains' mean heights"),
            "defocus_angstrom": ("A", "the frame's own: the movie's plus the sheet's mean height"),
            "sigma_defocus_angstrom": ("A", "its standard deviation"),
            "converged": ("", "the chains' heights agree to 0.3 A and moves were accepted"),
            "n_moves": ("", "moves of each chain"),
            "n_rebonded": ("", "atoms whose bonds were found to be others than detection gave"),
            "motion_angstrom": (
                "A",
                "rms motion of the heights against the linked frames, as far as the image asks for; null without a link",
            ),
        },
    ),
    "md.parquet": Table(
        "a frame with a structure; figures are over the atoms inside the rim, null where the run did not get that far",
        FRAME
        | {
            "verdict": ("", "`stable`, `unstable` (the structure cannot be so) or `failed` (it could not be simulated)"),
            "reason": ("", "what decided"),
            "n_atoms": ("", "atoms judged"),
            "bonds_broken": ("", "bonds of the input that the end of the MD lacks"),
            "bonds_formed": ("", "bonds of the end that the input lacks"),
            "rms_displacement_angstrom": ("A", "of the quench, in x and y, without rigid motion"),
            "max_displacement_angstrom": ("A", "the largest of them"),
            "energy_per_atom_ev": ("eV", "potential energy as given"),
            "relaxed_energy_per_atom_ev": ("eV", "after the quench"),
            "md_temperature_k": ("K", "mean over the second half of the MD"),
            "md_energy_per_atom_ev": ("eV", "potential energy, mean over the second half of the MD"),
            "mean_bond_angstrom": ("A", "mean bond length of the input"),
            "sd_bond_angstrom": ("A", "its spread"),
        },
    ),
    "dose.parquet": Table(
        "a simulated twin of the dataset at one dose and window",
        {
            "dose_e_per_angstrom2": ("e/A^2", "dose per frame"),
            "window": ("", "frames seen: 1 alone, more with its neighbours' help in the search"),
            "twin": ("", "number of the twin"),
            "frame": ("", "the twin's frame that is reconstructed"),
            "rmsd_3d_angstrom": ("A", "3D root mean square error against the truth"),
            "sigma_x_angstrom": ("A", "standard deviation of the error in x"),
            "sigma_y_angstrom": ("A", "in y"),
            "sigma_z_angstrom": ("A", "in z"),
            "claimed_sigma_z_angstrom": ("A", "rms of the sigma that scant states for z"),
            "recall": ("", "share of the true atoms that were found"),
            "precision": ("", "share of the found atoms that are true"),
            "succeeded": ("", "recall of 0.9 or more and a finite error"),
        },
    ),
    "dose/bound.parquet": Table(
        "a dose: what no unbiased estimate can beat",
        {
            "dose_e_per_angstrom2": ("e/A^2", "dose per frame"),
            "bound_x_angstrom": ("A", "bound on the standard deviation in x, prior included"),
            "bound_y_angstrom": ("A", "in y"),
            "bound_z_angstrom": ("A", "in z"),
            "bound_3d_angstrom": ("A", "root of the sum of their squares"),
            "image_alone_z_angstrom": ("A", "bound in z without the prior"),
        },
    ),
    "dose/defocus.parquet": Table(
        "a defocus around the dataset's own",
        {
            "defocus_angstrom": ("A", "defocus, underfocus positive"),
            "bound_z_angstrom": ("A", "bound in z at the dataset's dose"),
            "bound_xy_angstrom": ("A", "rms of the bounds in x and y"),
        },
    ),
    "failures.parquet": Table(
        "a frame that a stage could not finish",
        FRAME
        | {
            "stage": ("", "the stage"),
            "cause": ("", "what kind of failure"),
            "message": ("", "what was found"),
            "remedy": ("", "what to do"),
        },
    ),
    "denoisers.parquet": Table(
        "a denoiser at one dose, on simulated frames",
        {
            "method": ("", "the denoiser"),
            "dose_factor": ("", "dose over the movie's"),
            "gain_db": ("dB", "gain over the noisy frame"),
            "gain_at_vacancies_db": ("dB", "the same within 2.5 A of a vacancy"),
            "recall": ("", "share of the true atoms that are located"),
            "precision": ("", "share of the located atoms that are true"),
            "rms_angstrom": ("A", "rms error of x and y"),
            "lattice_bias": ("", "relative error of the lattice's scale"),
            "vacancies_filled": ("", "share of the vacancies in which an atom is located"),
            "cpu_s_per_mpx": ("s", "CPU time per megapixel"),
            "peak_mb": ("MB", "memory for 512 x 512 px"),
        },
        on_request=True,
    ),
    "denoisers_real.parquet": Table(
        "a denoiser, on the movie's own frames",
        {
            "method": ("", "the denoiser"),
            "residual_correlation": ("", "rms autocorrelation of what was taken away, at lags up to 3 px; 0 for white noise"),
            "agreement": ("", "correlation of two neighbouring frames denoised apart; lowered by noise, raised by detail that both keep"),
        },
        on_request=True,
    ),
}


def rendered() -> str:
    """Text of COLUMNS.md."""
    lines = [
        "# The columns of every table",
        "",
        "Generated from `lib/scant/columns.py` by `make config`. Tables are Parquet under `results/NAME/`; `python -m scant export "
        "results/NAME --format csv` writes them as CSV.",
        "",
    ]
    for name, table in TABLES.items():
        made = "; made by `snakemake compare_denoisers`" if table.on_request else ""
        lines += [f"## {name}", "", f"A row: {table.row}{made}.", "", "| column | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{column}` | {unit} | {meaning} |" for column, (unit, meaning) in table.columns.items()]
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """0 when COLUMNS.md in the folder is in step, 1 when not; `--fix` writes it."""
    file = Path(next(a for a in arguments if a != "--fix")) / FILE
    if file.exists() and file.read_text() == rendered():
        return 0
    if "--fix" in arguments:
        file.write_text(rendered())
        return 0
    print(f"{file}: out of step with lib/scant/columns.py; run `make config`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
