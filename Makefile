# make run    the default experiment, in an environment of its own
# make test   the tests, in the same environment
# make check  what CI checks besides the tests: ruff and mypy
# make docs   the documentation site, strictly, into site/
# make clean  removes the environment

VENV   ?= .venv
ACCEPT := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python; do \
            if "$$p" -c '$(ACCEPT)' >/dev/null 2>&1; then echo "$$p"; break; fi; done)
BIN    := $(VENV)/bin

.PHONY: run test check docs clean python

run: $(VENV)/.installed
	$(BIN)/aflctl run
	@echo "aflctl is in $(BIN); to have it on your path: . $(BIN)/activate" >&2

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $(VENV)/.installed $@

$(BIN)/python: | python
	$(PYTHON) -m venv $(VENV)

python:
	@if ! "$(PYTHON)" -c '$(ACCEPT)' >/dev/null 2>&1; then \
	    echo "aflctl needs Python 3.11 or 3.12; name one: make run PYTHON=/path/to/python3.12" >&2; exit 3; fi

clean:
	rm -rf $(VENV)
