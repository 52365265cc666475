"""scant: 3D structure and dynamics of a 2D crystal from a low-dose TEM movie. See workflow/README.md for the way of the data."""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/crystal2d/simulate.smk"
include: "workflow/rules/crystal2d/ingest.smk"
include: "workflow/rules/crystal2d/calibrate.smk"
include: "workflow/rules/crystal2d/correct.smk"
include: "workflow/rules/crystal2d/align.smk"
include: "workflow/rules/crystal2d/average.smk"
include: "workflow/rules/crystal2d/denoise.smk"
include: "workflow/rules/crystal2d/localise.smk"
include: "workflow/rules/crystal2d/link.smk"
include: "workflow/rules/crystal2d/anneal.smk"
include: "workflow/rules/crystal2d/validate.smk"
include: "workflow/rules/crystal2d/electrons.smk"
include: "workflow/rules/crystal2d/analyse.smk"
include: "workflow/rules/crystal2d/dose.smk"
include: "workflow/rules/crystal2d/report.smk"


localrules:
    all,
    compare_denoisers,


wildcard_constraints:
    name=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    block=r"[0-9]+-[0-9]+",
    twin=r"[0-9]+",


onstart:
    lock_this_run()
    show_plan()


rule all:
    message: "scant: done. Open {params.report}"
    default_target: True
    input:
        expand(RESULTS + "/{name}/report.html", name=CONFIG.names),
        expand(RESULTS + "/{name}/checks.json", name=CONFIG.names),
    params:
        report=", ".join(f"{RESULTS}/{name}/report.html" for name in CONFIG.names),


rule compare_denoisers:
    message: "scant: denoisers compared. Open {input}"
    input:
        expand(RESULTS + "/{name}/denoisers.html", name=CONFIG.names),
