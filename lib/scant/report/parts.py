"""The parts of a report, in their order: of the page, and of the report that Snakemake itself gathers."""

PARTS = {
    "results": "Results",
    "dynamics": "Dynamics",
    "electronic": "Electronic response",
    "dose": "Dose study",
    "gates": "Quality gates",
    "failures": "Failures",
    "methods": "Methods",
}
