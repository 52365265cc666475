"""Commands beside `snakemake`; each prints to the terminal and ends with 0 when all is well, 1 when something is wrong."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from scant.errors import ScantError

FOLDER_COMMANDS = {
    "verify": "read every product and chunk again, name what is damaged and set it aside, so that it is made again",
    "failures": "which frames failed, why, and what to do about it",
}
ACQUISITION_KEYS = (
    "material", "dark", "flat", "voltage_kV", "cs_um", "defocus_angstrom", "focal_spread_angstrom", "objective_aperture_mrad",
    "pixel_size_angstrom", "dose_e_per_angstrom2", "frame_time_ms", "gain_adu_per_electron",
)  # fmt: skip
CORES = len(os.sched_getaffinity(0))


def main(arguments: list[str]) -> int:
    """0 when all is well, 1 when something is wrong, 2 for an unknown command, 130 when stopped at a question."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return _run(given)
    except ScantError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what is installed, which device will be used, what is missing and how to mend it")
    _add_init(
        commands.add_parser("init", help="from a movie to a run: ask for what its metadata lack, look for the lattice, write the files")
    )
    planner = commands.add_parser("plan", help="how long a run will take, how much memory, how much disk")
    planner.add_argument("--config", required=True, help="the configuration, as for snakemake --configfile")
    planner.add_argument("--cores", type=int, default=CORES, help="cores of the run; default: all of this machine")
    for command, help_text in FOLDER_COMMANDS.items():
        commands.add_parser(command, help=help_text).add_argument("folder", help="a dataset's results, such as results/demo")
    _add_export(
        commands.add_parser("export", help="results for other programs: a frame as LAMMPS data, CIF or extended XYZ, tables as CSV")
    )
    _add_spots(commands.add_parser("spots", help="bright atoms of any image, without lattice or optics: positions, sigma, probability"))
    crate = commands.add_parser("crate", help="the finished run as a Workflow Run RO-Crate, with Snakemake's report and the source")
    crate.add_argument("--config", help="the configuration, as for snakemake --configfile; default: the demo's")
    return parser


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", help="the dataset's folder of results, such as results/demo")
    parser.add_argument("--format", required=True, choices=("lammps-data", "cif", "extxyz", "csv"))
    parser.add_argument("--frame", type=int, help="number of the frame; needed but for csv, where it leaves out the others")
    parser.add_argument("--out", help="file to write (csv: folder); default: NAME-frame-N.ENDING or NAME-csv here")


def _add_spots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", help="an image or movie of any format that scant reads")
    parser.add_argument("--frame", type=int, default=0, help="number of the frame; default: 0")
    parser.add_argument("--gain-adu-per-electron", type=_positive, help="default: by the noise of the image itself")
    parser.add_argument("--offset-adu", type=float, default=0.0, help="counts without any electron; default: 0")
    parser.add_argument("--read-noise-e", type=_from_zero, default=0.0, help="camera noise per pixel in electrons; default: 0")
    parser.add_argument("--device", choices=("cpu", "auto", "gpu"), default="cpu", help="where atoms are fitted; default: cpu")
    parser.add_argument("--out", help="beginning of the names of the .csv and the .png; default: NAME-frame-N here")


def _from_zero(text: str) -> float:
    if not 0 <= (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("movie", nargs="+", help="movie file, .zarr folder, or a pattern of single frames in quotes")
    parser.add_argument("--folder", help="where acquisition.yaml, NAME.yaml and preview.png go; default: a folder named as the movie")
    parser.add_argument("--force", action="store_true", help="overwrite them")
    for key in ACQUISITION_KEYS:
        parser.add_argument(f"--{key.replace('_', '-')}", dest=key, metavar="VALUE", help=f"{key} of acquisition.yaml: not asked then")


def _run(given: argparse.Namespace) -> int:
    # A command's module is imported when it is asked for: `doctor` must run where packages are missing.
    run = import_module(f"scant.commands.{given.command}").run
    arguments = {
        "doctor": lambda: (),
        "init": lambda: (given.movie, given.folder, {key: v for key in ACQUISITION_KEYS if (v := getattr(given, key)) is not None},
                         given.force, CORES),
        "plan": lambda: (given.config, max(1, given.cores)),
        "export": lambda: (given.results, given.format, given.frame, given.out),
        "spots": lambda: (given.image, given.frame, given.gain_adu_per_electron, given.offset_adu, given.read_noise_e, given.device,
                          given.out),
        "crate": lambda: (given.config,),
    }.get(given.command, lambda: (given.folder,))  # fmt: skip
    return int(run(*arguments()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
