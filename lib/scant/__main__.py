"""Commands beside `snakemake`; each prints to the terminal and ends with 0 when all is well, 1 when something is wrong."""

from __future__ import annotations

import argparse
import os
import sys

from scant.errors import ScantError

# A command's module is imported where it is used: `doctor` must run where packages are missing.
ACQUISITION_KEYS = (
    "material", "dark", "flat", "voltage_kV", "cs_um", "defocus_angstrom", "focal_spread_angstrom", "objective_aperture_mrad",
    "pixel_size_angstrom", "dose_e_per_angstrom2", "frame_time_ms", "gain_adu_per_electron",
)  # fmt: skip
CORES = len(os.sched_getaffinity(0))


def main(arguments: list[str]) -> int:
    """0 when all is well, 1 when something is wrong, 2 for an unknown command."""
    parser = argparse.ArgumentParser(prog="python -m scant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what is installed, which device will be used, what is missing and how to mend it")
    _add_init(
        commands.add_parser("init", help="from a movie to a run: ask for what its metadata lack, look for the lattice, write the files")
    )
    _add_export(
        commands.add_parser("export", help="results for other programs: a frame as LAMMPS data, CIF or extended XYZ, tables as CSV")
    )
    planner = commands.add_parser("plan", help="how long a run will take, how much memory, how much disk")
    planner.add_argument("--config", required=True, help="the configuration, as for snakemake --configfile")
    planner.add_argument("--cores", type=int, default=CORES, help="cores of the run; default: all of this machine")
    try:
        given = parser.parse_args(arguments)
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


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", help="the dataset's folder of results, such as results/demo")
    parser.add_argument("--format", required=True, choices=("lammps-data", "cif", "extxyz", "csv"))
    parser.add_argument("--frame", type=int, help="number of the frame; needed but for csv, where it leaves out the others")
    parser.add_argument("--out", help="file to write (csv: folder); default: NAME-frame-N.ENDING or NAME-csv here")


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("movie", nargs="+", help="movie file, .zarr folder, or a pattern of single frames in quotes")
    parser.add_argument("--folder", help="where acquisition.yaml, NAME.yaml and preview.png go; default: a folder named as the movie")
    parser.add_argument("--force", action="store_true", help="overwrite them")
    for key in ACQUISITION_KEYS:
        parser.add_argument(f"--{key.replace('_', '-')}", dest=key, metavar="VALUE", help=f"{key} of acquisition.yaml: not asked then")


def _run(given: argparse.Namespace) -> int:
    if given.command == "doctor":
        from scant.commands import doctor

        return doctor.run()
    if given.command == "export":
        from scant.commands import export

        return export.run(given.results, given.format, given.frame, given.out)
    if given.command == "init":
        from scant.commands import init

        options = {key: value for key in ACQUISITION_KEYS if (value := getattr(given, key)) is not None}
        return init.run(given.movie, given.folder, options, given.force, CORES)
    from scant.commands import plan

    return plan.run(given.config, max(1, given.cores))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
