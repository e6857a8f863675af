# Candour. `make` lists what there is to make. Needs Python 3.11 to 3.14 and make, nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help dev demo serve migrate test check bench lock clean

VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough and can make a virtual environment; `make dev PYTHON=…` overrides.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
	2>/dev/null && { echo "$$python"; break; }; done)
# Tests run in a process for each processor, each with a PostgreSQL of its own; `make test JOBS=0` runs them in one.
JOBS ?= logical
UV ?= uv
LOCK := $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: $(VENV)/.dev ## Set everything up for working on Candour, in .venv

demo: $(VENV)/.run ## Start two nodes with 60 made-up people and show what to try; DATA=DIR takes your own
	$(BIN)/candour demo $(if $(DATA),--data "$(DATA)") $(ARGS)

serve: $(VENV)/.run ## Start one node with the settings of the environment
	$(BIN)/candour serve $(ARGS)

migrate: $(VENV)/.run ## Bring the database to this release's schema
	$(BIN)/candour migrate $(ARGS)

test: check ## Check, then run every test; ARGS='-k name' narrows
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

check: $(VENV)/.dev ## Format, lint, types and the direction of imports; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Measure what is fast, as ratios to a bare route of the same run
	$(BIN)/python -m bench $(ARGS)

lock: ## Pin every requirement anew, with hashes; needs uv (pip install uv)
	$(LOCK) --upgrade --extra dev -o requirements/dev.txt pyproject.toml
	$(LOCK) -c requirements/dev.txt -o requirements/run.txt pyproject.toml
	echo setuptools | $(LOCK) -c requirements/dev.txt -o requirements/build.txt -

clean: ## Remove the environment and every cache; keeps .candour, where records are
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find app bench migrations scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from: each set of requirements is installed once per change.

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 that can make a virtual environment was found."; \
		echo "On Debian or Ubuntu: apt install python3-venv. Elsewhere: install Python, or name one: make dev PYTHON=/path/to/python3.12"; \
		exit 1; } >&2
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: requirements/build.txt requirements/run.txt pyproject.toml $(VENV)/.python
	@echo "Installing what Candour runs on (a minute or two, once)"
	$(PIP) install --require-hashes -r requirements/build.txt -r requirements/run.txt
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing what Candour is tested with"
	$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
