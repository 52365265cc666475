"""The house keeps its own rules: floors, thin scripts, one place for CuPy, Dask and Snakemake, directives of every rule."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FLOORS = {
    "": 0, "io": 1, "imaging": 2, "physics": 2, "inference": 3, "analysis": 4, "stages": 5, "report": 5, "commands": 6,
}  # fmt: skip
KERNELS = ("imaging", "physics", "inference")
FOREIGN_TO_KERNELS = {"dask", "distributed", "zarr", "snakemake"}


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def modules(repository: Path) -> list[tuple[str, Path]]:
    root = repository / "lib/scant"
    return [(p.relative_to(root).parts[0] if len(p.relative_to(root).parts) > 1 else "", p) for p in sorted(root.rglob("*.py"))]


def test_imports_point_down(repository):
    wrong = []
    for floor, path in modules(repository):
        for name in imports(path):
            parts = name.split(".")
            if floor and parts[0] == "scant" and len(parts) > 1 and parts[1] in FLOORS and FLOORS[parts[1]] > FLOORS[floor]:
                wrong.append(f"{path.name} ({floor}) imports {name}")
    assert wrong == []


def test_kernels_run_on_a_bare_image(repository):
    wrong = [
        f"{p.name}: {n}"
        for floor, p in modules(repository)
        if floor in KERNELS
        for n in imports(p)
        if n.split(".")[0] in FOREIGN_TO_KERNELS
    ]
    assert wrong == []


@pytest.mark.parametrize(("package", "home"), [("cupy", {"xp.py"}), ("distributed", {"workers.py", "guard.py"}), ("snakemake", set())])
def test_one_home(repository, package, home):
    users = {p.name for _, p in modules(repository) if package in {n.split(".")[0] for n in imports(p)}}
    assert users <= home


def test_scripts_are_thin(repository):
    for path in (repository / "workflow/scripts").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path
    assert len((repository / "Snakefile").read_text().splitlines()) <= 100
    assert len((repository / "workflow/rules/common.smk").read_text().splitlines()) <= 150


def test_every_rule_says_what_it_needs(repository):
    needed = ("message:", "output:", "log:", "benchmark:", "params:", "code=code_of(", "threads:", "mem_mb", "runtime", "script:")
    for path in (repository / "workflow/rules/crystal2d").glob("*.smk"):
        for rule in re.split(r"\n(?=(?:rule|checkpoint) )", path.read_text()):
            if not rule.startswith(("rule ", "checkpoint ")):
                continue
            name = rule.split(":")[0]
            assert [word for word in needed if word not in rule] == [], name
            positions = [
                rule.index(f"    {word}") for word in ("message:", "output:", "log:", "benchmark:", "params:", "threads:", "script:")
            ]
            assert positions == sorted(positions), f"{name}: order of directives"


def test_every_rule_is_in_the_table(repository):
    text = (repository / "workflow/README.md").read_text()
    for path in (repository / "workflow/rules/crystal2d").glob("*.smk"):
        for name in re.findall(r"^(?:rule|checkpoint) (\w+):", path.read_text(), re.M):
            assert f"`{name}`" in text, name


def test_every_row_of_the_fault_plan_has_a_test(repository):
    rows = re.findall(r"^\| (F\d+) \|", (repository / "tests/faults/README.md").read_text(), re.M)
    assert rows == [f"F{n}" for n in range(1, 27)]
    marked = {row for path in (repository / "tests").rglob("*.py") for row in re.findall(r'mark\.fault\("(F\d+)"\)', path.read_text())}
    assert sorted(set(rows) - marked) == []
