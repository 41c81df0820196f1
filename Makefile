# Every target builds .venv first where it is missing or older than what it is made from.

PYTHON ?= python3
PYTHON_OF_VENV := .venv/bin/python
# One thread for each test process: more of them get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON_OF_VENV) -m pytest -n 2 --dist worksteal
# Folders with wheels that a machine may have set up: their torch may not fit torchvision.
PIP := PIP_FIND_LINKS= $(PYTHON_OF_VENV) -m pip

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test test-slow check format clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

quickstart: .venv/.installed  ## Draw a small data set, train on it, and label it.
	$(PYTHON_OF_VENV) -m boxmask.benchmark.quickstart

test: .venv/.installed  ## Run the fast tests: a few minutes on two cores.
	$(PYTEST) -m "not slow"

test-slow: .venv/.installed  ## Run the tests that train.
	$(PYTEST) -m slow

check: .venv/.installed  ## Style, types and import direction.
	$(PYTHON_OF_VENV) -m ruff check .
	$(PYTHON_OF_VENV) -m ruff format --check .
	$(PYTHON_OF_VENV) -m pyrefly check
	$(PYTHON_OF_VENV) -m pytest -q tests/test_import_direction.py

format: .venv/.installed  ## Rewrite the code in the house style.
	$(PYTHON_OF_VENV) -m ruff check --fix .
	$(PYTHON_OF_VENV) -m ruff format .

clean:  ## Remove .venv, caches and build output; runs and data stay.
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "boxmask needs Python 3.11 or newer, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "name another one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade pip
	$(PIP) install -c constraints.txt torch torchvision -e '.[dev]'
	@touch $@
