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
# A command's module is imported where it is used: `doctor` must run where packages are missing.


def main(arguments: list[str]) -> int:
    """0 when all is well, 1 when something is wrong, 2 for an unknown command."""
    parser = argparse.ArgumentParser(prog="python -m scant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what is installed, which device will be used, what is missing and how to mend it")
    planner = commands.add_parser("plan", help="how long a run will take, how much memory, how much disk")
    planner.add_argument("--config", required=True, help="the configuration, as for snakemake --configfile")
    planner.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="cores of the run; default: all of this machine")
    crate = commands.add_parser("crate", help="the finished run as a Workflow Run RO-Crate, with Snakemake's report and the source")
    crate.add_argument("--config", help="the configuration, as for snakemake --configfile; default: the demo's")
    for command, help_text in FOLDER_COMMANDS.items():
        commands.add_parser(command, help=help_text).add_argument("folder", help="a dataset's results, such as results/demo")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return _run(given)
    except ScantError as error:
        print(error, file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    if given.command == "doctor":
        from scant.commands import doctor

        return doctor.run()
    if given.command == "plan":
        from scant.commands import plan

        return plan.run(given.config, max(1, given.cores))
    if given.command == "crate":
        from scant.commands import crate

        return crate.run(given.config)
    return int(import_module(f"scant.commands.{given.command}").run(given.folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
