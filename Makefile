# make lists the targets. Everything is installed into .venv from requirements.lock.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-browser test-cluster services mutants lint ui docs lock clean
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# What kills processes and waits for others may fail by a busy moment of the machine: that is run once more, alone.
AGAIN := --last-failed --last-failed-no-failures none

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.complete  ## install everything, pinned, into .venv

# torch first: where no GPU is, a plain CPU build satisfies it and no CUDA packages are pulled in.
.venv/.complete: requirements.lock pyproject.toml
	@echo "Setting up .venv (about two minutes, once) ..."
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"ccsweep needs Python 3.11 or newer, found {v[0]}.{v[1]}; try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup  ## the main job: train the paper's SVHN network with its estimator (2 minutes of training)
	$(BIN)/python -m ccsweep +experiment=svhn training.max_minutes=2

test: setup  ## run the tests but the slow ones
	$(PYTEST) --numprocesses 2 --dist worksteal -m 'not slow and not browser and not cluster'

test-slow: setup  ## run the others: kills, whole studies, foreign CPUs
	$(PYTEST) --numprocesses 2 --dist worksteal -m slow || $(PYTEST) $(AGAIN) -m slow

test-cluster: setup  ## run those on a real SLURM, PostgreSQL and MLflow server, which root on Debian gets
	$(PYTEST) -m cluster tests/cluster || $(PYTEST) $(AGAIN) -m cluster tests/cluster

services: setup  ## bring these up to try sweeps on; make services DOWN=1 takes them down
	@$(BIN)/python -m benchmarks.services $(if $(DOWN),down,up)

test-browser: setup  ## drive MLflow's pages and a study's report in Chromium, which is installed where apt and root are
	@{ command -v chromium && command -v chromedriver; } > /dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq -y chromium chromium-driver; } \
		> /dev/null 2>&1 || echo "Chromium cannot be installed here: its tests are skipped"
	$(PYTEST) -m browser -rs tests/browser

mutants: setup  ## small mistakes put into one room: do its tests notice? ROOM=estimator, or network, training/fit; SAMPLE=100 tries so many
	$(BIN)/python -m tests.mutants $(or $(ROOM),estimator) $(SAMPLE)

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: setup  ## compare runs in MLflow's UI at http://127.0.0.1:5000
	$(BIN)/python -m ccsweep.tracking.ui

docs: setup  ## the pages of docs/ as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: setup  ## write requirements.lock anew from what .venv holds
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:  ## remove .venv and caches; outputs/ stays
	rm -rf .venv .mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
