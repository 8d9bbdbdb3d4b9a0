# medlat: what one types. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help install run test test-all test-cluster lint format docs bench wheel clean

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
EXPERIMENT ?= ct_vae_sefa
ARGS ?=
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with everything in it
	@echo "installed; next: . $(VENV)/bin/activate, then medlat --help"

run: $(STAMP) ## the main job; EXPERIMENT=NAME and ARGS="key=value ..." change it
	$(PY) -m medlat.run +experiment=$(EXPERIMENT) $(ARGS)

test: $(STAMP) ## every unit, and a whole run of each kind; ARGS="-k word" picks some
	$(PYTEST) -m "not slow" $(ARGS)

ifeq ($(strip $(ARGS)),)
test-all: test ## also kills, sweeps, SLURM, compilers, processes, a browser; ARGS picks some of all
	@$(PY) tests/explore/chromium.py || echo "no Chromium, and none can be installed here: no test opens a browser" >&2
	$(PYTEST) -m slow
	@if $(PY) tests/cluster/slurm.py; then $(MAKE) --no-print-directory test-cluster; else \
		echo "no SLURM, and none can be installed here: the tests of sweeps on it did not run" >&2; fi
else
test-all: $(STAMP)
	$(PYTEST) $(ARGS)
endif

test-cluster: $(STAMP) ## sweeps on a SLURM that root installs and starts here; some minutes
	MEDLAT_TEST_CLUSTER=1 $(PY) -m pytest tests/cluster $(ARGS)

lint: $(STAMP) ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(STAMP) ## mend the style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(STAMP) ## the documentation as a site in dist/docs
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(PY) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs dist/docs
	@echo dist/docs/index.html

bench: $(STAMP) ## the speed of training and data on this machine
	$(PY) experiments/throughput/benchmark.py

wheel: $(STAMP) ## a wheel in dist/
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove .venv and caches; runs in outputs/ stay
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache

# The first Python from 3.11 on that runs; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

# Installed again only where what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "medlat needs Python 3.11 or later; none found (PYTHON=/path/to/python chooses one)" >&2; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "this Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[codecs,dev]'
	@touch $@
