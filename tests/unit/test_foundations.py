"""Random streams, devices, code digests, fingerprints, run locks."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scant import provenance
from scant.errors import DeviceError, ScantError
from scant.io.guard import failure_of
from scant.io.ledger import CURABLE
from scant.io.runs import lock_results
from scant.rng import stream
from scant.xp import array_module, gpu_problem, module_for, resolve_device, to_numpy


def test_streams_depend_on_their_whole_key_and_on_nothing_else():
    keys = [(1, "a", 0, 0), (2, "a", 0, 0), (1, "b", 0, 0), (1, "a", 4, 0), (1, "a", 0, 4), (1, "a", 1, 4), (1, "a", 4, 1)]
    draws = [tuple(stream(*key).standard_normal(4)) for key in keys]
    assert len(set(draws)) == len(keys)
    assert tuple(stream(1, "a", 4, 1).standard_normal(4)) == draws[-1]


@pytest.mark.fault("F6")
def test_device_words():
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match="tpu"):
        resolve_device("tpu")
    if gpu_problem():
        with pytest.raises(DeviceError, match="gpu was asked for"):
            resolve_device("gpu")
        assert resolve_device("auto") == "cpu"
    assert array_module(np.ones(2)) is np is module_for("cpu")


@pytest.mark.fault("F6")
def test_a_lost_device_is_no_fault_of_the_code_and_is_tried_again():
    """Errors as CuPy and PyTorch raise them; the same row of the ledger for a frame of each kind."""
    raised = {
        "CUDARuntimeError": "cupy_backends.cuda.api.runtime", "CuFFTError": "cupy.cuda.cufft", "CompileException": "cupy.cuda.compiler",
        "AcceleratorError": "torch", "OutOfMemoryError": "torch",
    }  # fmt: skip
    errors = [type(name, (RuntimeError,), {"__module__": module})("cudaErrorUnknown") for name, module in raised.items()]
    errors += [RuntimeError("CUDA error: unspecified launch failure"), RuntimeError("shapes differ")]
    causes = [failure_of("anneal", 3, error) for error in errors]
    assert [row.cause for row in causes] == ["device", "device", "CompileException", "device", "memory", "device", "RuntimeError"]
    assert "nvidia-smi" in causes[0].remedy and "cudaErrorUnknown" in causes[0].message
    assert {"device", "memory"} < set(CURABLE)


@pytest.mark.gpu
@pytest.mark.skipif(importlib.util.find_spec("cupy") is None or gpu_problem() is not None, reason="needs CuPy and a CUDA device")
def test_the_gpu_gives_what_numpy_gives():
    from scant.physics.forward import ForwardModel, ImageGrid
    from scant.physics.optics import Optics

    xp = module_for("gpu")
    positions = np.random.default_rng(0).uniform(0, 8, (2, 20, 3)).astype(np.float32)
    optics, grid, species = Optics(80.0, -130000.0, -45.0, 10.0, 52.2), ImageGrid.padded(40, 40, 0.2, 3.0), np.full(20, "C")
    here = ForwardModel(optics, grid, species).image(positions)
    there = ForwardModel(optics, grid, species, xp=xp).image(xp.asarray(positions))
    np.testing.assert_allclose(to_numpy(there), here, atol=2e-5)


def test_code_digest_sees_code_and_not_comments(tmp_path, monkeypatch):
    package = tmp_path / "scant"
    (package / "io").mkdir(parents=True)
    for path in (package / "__init__.py", package / "io" / "__init__.py"):
        path.write_text("")
    module, script = package / "io" / "things.py", tmp_path / "script.py"
    script.write_text("from scant.io import things\n")
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", package)

    def digest(text: str) -> str:
        module.write_text(text)
        provenance.code_digest.cache_clear()
        provenance._module_facts.cache_clear()
        return provenance.code_digest(script)

    first = digest('"""Doc."""\nX = 1\n')
    assert digest('"""Other words."""\n\n# a comment\nX = 1\n') == first
    assert digest("X = 2\n") != first
    (package / "io" / "templates").mkdir()
    (package / "io" / "templates" / "page.html").write_text("one")
    assert digest('"""Doc."""\nX = 1\n') == first, "data that no module reads"
    reads = "from importlib import resources\n"
    with_data = digest(reads)
    (package / "io" / "templates" / "page.html").write_text("another")
    assert digest(reads) != with_data
    changed = digest(reads)
    (package / "io" / "__pycache__").mkdir()
    (package / "io" / "__pycache__" / "things.kernel-1.py311.nbi").write_bytes(b"compiled")
    assert digest(reads) == changed, "what running the code leaves behind"


def test_a_changed_package_changes_the_digest_of_what_uses_it(repository, monkeypatch):
    script = repository / "workflow/scripts/crystal2d/denoise.py"

    def digest(changed: str, *optional: str) -> str:
        provenance.code_digest.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(provenance, "_version", lambda name: "another" if name == changed else "1.0")
            return provenance.code_digest(script, optional)

    assert digest("numba") != digest("")
    for package in provenance.OPTIONAL:
        assert digest(package) == digest(""), "installed, and of no use to this run"
        assert digest(package, package) != digest("", package)
    provenance.code_digest.cache_clear()


def test_every_script_has_a_digest(repository):
    scripts = sorted((repository / "workflow/scripts/crystal2d").glob("*.py"))
    assert len({provenance.code_digest(s) for s in scripts}) == len(scripts) > 15


def test_fingerprint_of_a_file_and_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    first = provenance.file_fingerprint(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"two")
    assert provenance.file_fingerprint(tmp_path / "a") != first
    assert provenance.file_fingerprint(tmp_path).startswith("sha256-names:")


@pytest.mark.fault("F12")
def test_a_results_folder_belongs_to_one_run_and_a_killed_one_leaves_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("scant.io.runs.ORPHANS_S", 0.2)
    folder = str(tmp_path)
    hold = f"import time; from scant.io.runs import lock_results; h = lock_results({folder!r}); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ScantError, match=f"process {process.pid}"):
        lock_results(str(tmp_path))
    process.kill()
    process.wait()
    process.stdout.close()
    lock_results(str(tmp_path)).close()


def test_a_job_on_another_host_ends_when_a_later_run_takes_the_lock(tmp_path):
    with lock_results(str(tmp_path)) as lock:
        owner = Path(lock.name).read_text().strip()
        environment = {**os.environ, "SCANT_RUN": "another-host:1", "SCANT_LOCK": f"{lock.name}:{owner}"}
        follow = "import time; from scant.io.runs import follow_run; follow_run(); time.sleep(60)"
        job = subprocess.Popen([sys.executable, "-c", follow], env=environment, start_new_session=True)
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(3)
    with lock_results(str(tmp_path)):
        assert job.wait(20) == -signal.SIGKILL
