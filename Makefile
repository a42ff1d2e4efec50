# `make demo` and `make test` set up .venv by themselves; PYTHON names the interpreter to build it with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_WORKDIR ?= runs/demo

.PHONY: demo test lint clean

demo: $(VENV)/.core
	$(BIN)/python launch/demo.py --workdir=$(DEMO_WORKDIR)

lint: $(VENV)/.test
	$(BIN)/ruff check .

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "margin_jax needs Python >= 3.11, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1); run: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache
