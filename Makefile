# make demo    install into .venv, then compare five recurrent networks on handwritten digits
# make test    install into .venv, then lint, types, import contracts and all tests
#
# make install             the package alone, in .venv
# make lint format types contracts unit      one stage of `make test`
# make unit CHECKED=1      all tests, with the package's annotations checked at every call
# make nightly             all tests with many examples, then `make fuzz`
# make fuzz                random cells, shapes and operands under sanitizers, MINUTES long
# make api                 rewrite the public-API snapshot after an intended change
# make clean               remove .venv and what the tools left behind
#
# Variables (make demo NAME=value):
#   PYTHON        the Python 3.11+ that makes .venv                        [python3]
#   TORCH_INDEX   a package index for torch alone; for the CPU build:
#                 https://download.pytorch.org/whl/cpu                     [pip's own]
#   DEMO_ARGS     more arguments for the demo: --seeds 1 --steps 30
#   PYTEST_ARGS   arguments for pytest                                     [-n auto --maxprocesses 4]
#   CHECKED       if 1, tests check annotations: a third slower            [empty]
#   MINUTES       how long `make fuzz` runs                                [60]
#
# Mirrors, proxies and certificates are taken from the user's pip configuration and PIP_* variables.

PYTHON ?= python3
TORCH_INDEX ?=
DEMO_ARGS ?=
PYTEST_ARGS ?= -n auto --maxprocesses 4
CHECKED ?=
MINUTES ?= 60
# The tests start Python hundreds of times: compiled modules are kept, whatever the environment sets.
export PYTHONDONTWRITEBYTECODE :=

export CHECKED

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test install install-dev lint format types contracts unit unit-without-compiler nightly fuzz api clean
# `make test` runs every stage, in order, and fails at the end if one of them failed.
.NOTPARALLEL:
MAKEFLAGS += --keep-going

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: .venv/installed
	$(BIN)/throughtime compare digits $(DEMO_ARGS)

test: lint format types contracts unit

install: .venv/installed

install-dev: .venv/installed-dev

# torch comes first and alone, so that TORCH_INDEX serves nothing else. setuptools, pinned like the
# rest, then builds this package: hence no build isolation.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "throughtime needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) torch setuptools
	$(PIP) --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

lint: .venv/installed-dev
	$(BIN)/ruff check .

format: .venv/installed-dev
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/basedpyright --threads 2

contracts: .venv/installed-dev
	$(BIN)/lint-imports --no-logo

unit: .venv/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# As on a machine without a C++ compiler: the tests that differ there.
unit-without-compiler: .venv/installed-dev
	THROUGHTIME_CXX=none $(BIN)/python -m pytest $(PYTEST_ARGS) -m without_compiler

nightly: .venv/installed-dev
	NIGHTLY=1 CHECKED=1 $(BIN)/python -m pytest $(PYTEST_ARGS) --timeout 3600
	PYTHONPATH=tests $(BIN)/python -m engines.cpp.fuzz --minutes $(MINUTES)

fuzz: .venv/installed-dev
	PYTHONPATH=tests $(BIN)/python -m engines.cpp.fuzz --minutes $(MINUTES)

api: .venv/installed-dev
	$(BIN)/python tests/test_public_api.py

clean:
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache .import_linter_cache build src/throughtime.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
