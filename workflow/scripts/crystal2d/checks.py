"""The products against each other: a run cannot end well on tables that do not fit together."""

from scant.errors import DataIntegrityError
from scant.io.jobs import job
from scant.io.logs import say
from scant.stages.calibration import read_json, write_json
from scant.stages.checks import check_products


def checks(inputs, outputs, params):
    results = check_products(inputs, params.store, read_json(inputs.facts))
    for name, problem in results.items():
        say(f"checks: {name}: {problem or 'ok'}")
    problems = [f"{name}: {problem}" for name, problem in results.items() if problem]
    if problems:
        raise DataIntegrityError("the products do not fit together: " + "; ".join(problems))
    write_json(outputs.checks, dict.fromkeys(results, "ok"))


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        checks(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
