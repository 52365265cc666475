"""The run of a dataset as a Workflow Run RO-Crate (profile 0.5): what was run, on what, with which settings, and what came out.

Snakemake's own report and a copy of the workflow's source go beside it, so that the folder says all by itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

import scant
from scant.config import Config, parse_config, read_yaml
from scant.errors import InputError, ScantError
from scant.io.logs import began_and_ended
from scant.io.seals import read_seal, sealed_products
from scant.provenance import PACKAGE_ROOT
from scant.stages.calibration import read_json

PROFILES = tuple(f"https://w3id.org/ro/wfrun/{name}/0.5" for name in ("process", "workflow"))
RUN_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
SOURCE_ROOT = PACKAGE_ROOT.parents[1]
SOURCE_PARTS = ("Snakefile", "workflow", "lib", "config", "profiles", "pyproject.toml", "uv.lock", "LICENSE")
# Tables and stacks of single blocks are what the products were made of; their seals say what they were.
OF_A_BLOCK = re.compile(r"\d{7,}-\d{7,}")


def run(config_file: str | None) -> int:
    """Write `ro-crate-metadata.json`, Snakemake's report and the source into every dataset's folder. InputError for no complete run."""
    config = parse_config(read_yaml(config_file) if config_file else {})
    for name in config.names:
        folder = Path(config.results, name)
        if not (folder / "checks.json").is_file():
            raise InputError(f"{folder}: the run has not ended (no checks.json); run `snakemake` first")
        (folder / "provenance").mkdir(exist_ok=True)
        _snakemake_report(config_file, folder / "provenance" / "snakemake-report.html", folder)
        _source(folder / "provenance" / "scant-source.zip")
        values = config.model_dump(mode="json", by_alias=True)
        (folder / "provenance" / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        write_crate(folder, name, config)
        print(f"{folder}/ro-crate-metadata.json: the run as a Workflow Run RO-Crate, with provenance/snakemake-report.html")
    return 0


def write_crate(folder: Path, name: str, config: Config) -> None:
    """Write the metadata of a finished dataset; files are named where they are, with their SHA-256 from their seals."""
    facts = read_json(str(folder / "ingest" / "facts.json"))
    crate = ROCrate(version="1.1")
    crate.name, crate.description = f"scant: {name}", "3D structure and dynamics of a 2D crystal from a low-dose TEM movie"
    crate.license = "https://spdx.org/licenses/CC0-1.0"
    crate.root_dataset["conformsTo"] = [_named(crate, profile, "CreativeWork", "Workflow Run RO-Crate profile") for profile in PROFILES]
    workflow = crate.add_workflow(
        dest_path="provenance/scant-source.zip", main=True, lang="snakemake", lang_version=metadata.version("snakemake"),
        properties={"name": "scant", "version": scant.__version__, "encodingFormat": "application/zip"},
    )  # fmt: skip
    inputs = [_file(crate, "provenance/config.yaml", "the configuration, every default written out")]
    inputs += [
        _named(crate, f"#{file}", "CreativeWork", file, {"identifier": digest, "description": "as acquired; identified by its content"})
        for file, digest in facts["provenance"]["inputs"].items()
    ]
    results = [_product(crate, folder, product) for product in sealed_products(folder) if not OF_A_BLOCK.search(product)]
    results.append(_file(crate, "provenance/snakemake-report.html", "Snakemake's own report: every job, its time and its code"))
    began, ended = _times(folder)
    action = crate.add_action(
        workflow, identifier="#run", object=inputs, result=results,
        properties={"name": f"scant on {name}", "startTime": began, "endTime": ended},
    )  # fmt: skip
    action["actionStatus"] = {"@id": f"http://schema.org/{'Completed' if (folder / 'complete.json').is_file() else 'Failed'}ActionStatus"}
    crate.root_dataset["mentions"] = [action]
    action["additionalProperty"] = [
        _named(crate, f"#package-{package}", "PropertyValue", package, {"value": version}) for package, version in _versions(facts)
    ]
    crate.datePublished = datetime.fromisoformat(ended)
    crate.metadata.extra_contexts.append(RUN_CONTEXT)
    crate.metadata.write(folder)


def _versions(facts: dict[str, Any]) -> list[tuple[str, str]]:
    given = facts["provenance"]
    return [("python", given["python"]), ("scant", given["scant"]), *sorted(given["packages"].items())]


def _product(crate: ROCrate, folder: Path, product: str) -> Any:
    """A product with the hash that its seal holds; a folder as a data set of its files."""
    lines = read_seal(folder, product)
    if len(lines) == 1 and lines[0].path == product:
        return _file(crate, product, "product of the run", {"sha256": lines[0].sha256, "contentSize": str(lines[0].n_bytes)})
    parts = [_file(crate, line.path, "figure", {"sha256": line.sha256, "contentSize": str(line.n_bytes)}) for line in lines]
    dataset = crate.add_dataset(dest_path=product, properties={"name": product})
    dataset["hasPart"] = parts
    return dataset


def _file(crate: ROCrate, path: str, description: str, properties: dict[str, str] | None = None) -> Any:
    return crate.add_file(dest_path=path, properties={"name": Path(path).name, "description": description, **(properties or {})})


def _named(crate: ROCrate, identifier: str, kind: str, name: str, properties: dict[str, str] | None = None) -> Any:
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, "name": name, **(properties or {})}))


def _times(folder: Path) -> tuple[str, str]:
    """When the first job began and the last one ended, UTC."""
    times = [found for log in (folder / "logs").rglob("*.log") if (found := began_and_ended(log))]
    return min(began for began, _ in times), max(ended for _, ended in times)


def _snakemake_report(config_file: str | None, page: Path, folder: Path) -> None:
    given = ["--configfile", config_file] if config_file else []
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SOURCE_ROOT / "Snakefile"), *given, "--nolock", "--report", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not page.is_file():
        raise ScantError(f"{folder}: Snakemake made no report: {done.stderr.strip().splitlines()[-1:]}; run it alone: {' '.join(command)}")


def _source(target: Path) -> None:
    """The workflow's source as a zip with fixed dates, so that the same source gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in SOURCE_PARTS:
            root = SOURCE_ROOT / part
            files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
            for file in files:
                if "__pycache__" not in file.parts:
                    archive.writestr(zipfile.ZipInfo(str(file.relative_to(SOURCE_ROOT))), file.read_bytes())
