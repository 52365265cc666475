# scant: `make demo` runs the whole workflow on a simulated movie, `make test` passes the tests. Both set up first.
PYTHON ?= python3.11
BIN = .venv/bin
RUN = $(BIN)/python
# A job is a process of its own: without bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
UV = UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv
SLURM_PACKAGES = slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge

.PHONY: help setup setup-gpu setup-unet demo notebooks test test-slow faults golden slurm-packages slurm-test bench-structures bench scale lint config doctor clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## make .venv from the lock

.venv/.ready: pyproject.toml uv.lock envs/uv.txt
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/uv.txt
	$(UV) sync --quiet --locked --inexact --extra bm3d --group test --group lint
	touch $@

setup-gpu: setup ## add CuPy for an NVIDIA GPU
	$(UV) sync --quiet --locked --inexact --extra bm3d --extra gpu --group test --group lint

setup-unet: setup ## add PyTorch for denoise.method: unet (pip takes the build that the machine's index offers)
	$(RUN) -m pip install --quiet --disable-pip-version-check torch==2.13.0

demo: setup ## simulate a movie and run the whole workflow on it
	$(BIN)/snakemake --directory $(CURDIR)
	@echo "report: $(CURDIR)/results/demo/report.html"

notebooks: setup ## open the notebooks on results/demo, or on SCANT_RESULTS, in JupyterLab (installs it)
	$(UV) sync --quiet --locked --inexact --extra bm3d --extra notebooks --group test --group lint
	$(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) workflow/notebooks/preprocessing.ipynb

test: setup ## lint, types and the tests of every commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not slurm"

test-slow: setup ## the tests that take minutes
	$(BIN)/pytest -q -m slow

faults: setup ## every row of tests/faults/README.md: damage, kills, full disks, hostile input (under an hour)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile -m fault

slurm-packages:
	command -v slurmctld >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SLURM_PACKAGES) >/dev/null; }

slurm-test: setup slurm-packages ## the workflow on a SLURM cluster of two virtual nodes (root; installs Debian's packages)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile -m slurm tests/slurm

golden: setup ## renew tests/workflow/golden after a change that is meant to change results
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests/workflow/golden_run.py

bench-structures: setup ## accuracy by dose beside source and bound, accuracy by CPU time (40 minutes beside other work)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests/benchmarks/structures.py

.venv/atomap/.ready: .venv/.ready
	$(PYTHON) -m venv .venv/atomap
	.venv/atomap/bin/python -m pip install --quiet --disable-pip-version-check atomap==0.4.2
	touch $@

bench: setup .venv/atomap/.ready ## preprocessing beside its yardsticks (atomap in an environment of its own)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests/benchmarks/preprocessing.py --large

scale: setup ## 1,000 and 10,000 frames of 256 x 256 and 32 of 2048 x 2048 from raw to located (hours)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) tests/benchmarks/scale.py

lint: setup ## mend style where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

config: setup ## regenerate config/, workflow/COLUMNS.md and envs/ from the models and the lock
	$(RUN) -m scant.config_docs --fix config
	$(RUN) -m scant.columns --fix workflow
	$(RUN) -m scant.environments --fix envs

doctor: setup ## what is installed, which device, what is missing
	$(RUN) -m scant doctor

clean: ## remove the environment and the demo's results
	rm -rf .venv results .snakemake
