"""Generates config/default.yaml, config/schema.json and config/README.md from the models, and checks that they are in step.

usage: python -m scant.config_docs [--fix] FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scant.config import Acquisition, Config, SimulateSettings

HEADER = "# Generated from lib/scant/config.py by `make config`; edit that, or give your own file with --configfile.\n"


def rendered() -> dict[str, str]:
    """File name -> text of every generated file."""
    defaults = Config.model_validate({"simulate": {"demo": {}}}).model_dump(mode="json", by_alias=True)
    return {
        "default.yaml": HEADER + yaml.safe_dump(defaults, sort_keys=False, width=120),
        "schema.json": json.dumps(Config.model_json_schema(by_alias=True), indent=1) + "\n",
        "README.md": _readme(),
    }


def _readme() -> str:
    lines = ["# Configuration", "", "Generated from `lib/scant/config.py` by `make config`.", ""]
    lines += ["A run needs no more than", "", "```yaml", "datasets: {my-movie: path/to/acquisition.yaml}", "results: results", "```", ""]
    lines += ["given as `snakemake --configfile my.yaml`. Unknown keys are refused. `python -m scant init MOVIE` writes both files.", ""]
    tables: list[tuple[str, type[BaseModel]]] = [
        ("Configuration", Config),
        ("`simulate: {NAME: ...}`", SimulateSettings),
        ("acquisition.yaml", Acquisition),
    ]
    for title, model in tables:
        lines += [f"## {title}", "", "| key | default | allowed | meaning |", "|---|---|---|---|", *_rows(model, ""), ""]
    return "\n".join(lines)


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        key = prefix + (info.alias or name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            rows += _rows(info.annotation, key + ".")
        else:
            default = "required" if info.is_required() else _text(info.default)
            rows.append(f"| `{key}` | {default} | {allowed(info)} | {info.description or ''} |")
    return rows


def _text(value: Any) -> str:
    if value is None or value == () or value == {}:
        return "none"
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) if isinstance(value, tuple) else f"{value}"


def allowed(info: FieldInfo) -> str:
    """What a field accepts in words: `>= 10, <= 400`, or its choices."""
    symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [f"{symbols[k]} {getattr(m, k):g}" for m in info.metadata for k in symbols if getattr(m, k, None) is not None]
    choices = getattr(info.annotation, "__args__", ())
    if not bounds and choices and all(isinstance(c, str) for c in choices):
        return " or ".join(f"`{c}`" for c in choices)
    return ", ".join(bounds)


def main(arguments: list[str]) -> int:
    """0 when the files in the folder are in step, 1 when not; `--fix` writes them."""
    fix = "--fix" in arguments
    folder = Path(next(a for a in arguments if a != "--fix"))
    stale = [name for name, text in rendered().items() if not (folder / name).exists() or (folder / name).read_text() != text]
    for name in stale if fix else []:
        (folder / name).write_text(rendered()[name])
    if stale and not fix:
        print(f"out of step with lib/scant/config.py: {', '.join(stale)} in {folder}; run `make config`", file=sys.stderr)
    return 1 if stale and not fix else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
