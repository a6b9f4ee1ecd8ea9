# One command for each thing one does here. `make` alone lists them.
# Everything is set up by the target that needs it; nothing is installed outside $(VENV) and $(MUSTER_CACHE).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
export MUSTER_CACHE ?= $(HOME)/.cache/muster
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTEST ?= $(PY) -m pytest
# Most tests wait for something; tests marked `alone` have the machine for themselves (tests/turns.py). ARGS=-n0: one by one.
WORKERS ?= -n logical --maxprocesses 4 --dist load
ARGS ?=

.PHONY: help run setup test check format docs bench hammer soak fuzz services vm distribution coverage clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------- set-up

# Every command of the set-up says what it does before it does it: the first run takes a minute on a slow line.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Muster needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@if command -v uv >/dev/null; then \
	  echo "creating $(VENV) (uv)"; uv venv --quiet --allow-existing --seed --python $(PYTHON) $(VENV); \
	elif $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); \
	else \
	  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv (or install uv)" >&2; exit 1; \
	fi
	@touch $@

# pip understands dependency groups from 25.1 on; what comes with Python may be older.
$(VENV)/.run: pyproject.toml schemas/__init__.py | $(VENV)/.created
	@echo "installing Muster and what it needs into $(VENV)"
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(PY) --editable '.[aggregator]'; \
	else $(PY) -m pip install --quiet --upgrade 'pip>=25.1' && $(PY) -m pip install --quiet --editable '.[aggregator]'; fi
	@touch $@

$(VENV)/.dev: pyproject.toml schemas/__init__.py | $(VENV)/.created
	@echo "installing Muster, every extra and the tools of its developers into $(VENV)"
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(PY) --editable '.[all]' --group dev; \
	else $(PY) -m pip install --quiet --upgrade 'pip>=25.1' && $(PY) -m pip install --quiet --editable '.[all]' --group dev; fi
	@touch $@ $(VENV)/.run

setup: $(VENV)/.dev ## create the virtual environment for development

# ---------------------------------------------------------------------------------------------- use

run: $(VENV)/.run ## start Muster on this machine: aggregator and agent (ARGS=... are handed on)
	@exec $(BIN)/muster up $(ARGS)

# ---------------------------------------------------------------------------------------------- development

test: $(VENV)/.dev ## run every test that this machine can run; what is skipped is listed with the reason
	$(PYTEST) $(WORKERS) -m "not soak and not bench" $(ARGS)

coverage: $(VENV)/.dev ## run the tests and report branches not taken
	$(PYTEST) -m "not soak and not bench" --cov --cov-report=term $(ARGS)

check: $(VENV)/.dev distribution ## formatting, lint, types, import rules, spelling, generated files, what is shipped
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import_linter
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/codespell

distribution: $(VENV)/.dev ## build wheel and sdist, and check that they hold exactly what they should
	@rm -rf dist
	$(BIN)/hatchling build -d dist
	$(BIN)/check-wheel-contents dist/*.whl
	$(PY) -m tests.repository.distribution dist

format: $(VENV)/.dev ## format, and fix what can be fixed safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## write the generated reference, sample configuration and JSON Schema
	$(PY) -m aggregator.reference

bench: $(VENV)/.dev ## measure against the bars of the design, each beside its peer
	$(PY) -m tests.bench $(ARGS)

hammer: $(VENV)/.dev ## a million attempts at claims over HTTP, and an independent reader that nothing was given twice
	$(PY) -m tests.hammer --attempts $(or $(ATTEMPTS),1000000) $(ARGS)

# `rounds` of tests/faults/rig.py marks every round but the first as soak: those of `make test` run here too.
soak: $(VENV)/.dev ## the faults again, for many rounds (SOAK_ROUNDS=10)
	SOAK_ROUNDS=$(or $(SOAK_ROUNDS),10) HYPOTHESIS_PROFILE=long $(PYTEST) -m "soak or not (bench or service or vm)" tests/faults $(ARGS)

fuzz: $(VENV)/.dev ## throw bytes at everything that reads bytes (SECONDS_EACH=60)
	$(PY) -m tests.fuzz --seconds $(or $(SECONDS_EACH),60) $(ARGS)

services: $(VENV)/.dev ## find, install and start the real servers that tests use, until interrupted
	$(PY) -m tests.services up $(ARGS)

vm: $(VENV)/.dev ## a virtual machine with NVMe drives and SR-IOV functions reports to a Muster here: to look at and to break
	@exec $(PY) -m tests.vm $(ARGS)

clean: ## remove what was built and cached here (not the shared cache of servers)
	rm -rf $(VENV) dist build .cache .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
