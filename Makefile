# The project's words: install, demo, test, check, bench, fmt. Each works as the first command on a fresh clone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Set PYTHON to choose the interpreter; otherwise the first of these that is new enough.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3 python)

.PHONY: help install demo test test-slow check bench fmt

help:
	@echo "make install   make $(VENV) with all that the demo, the tests and the checks need"
	@echo "make demo      replay the flights of 2013 into entities, and check every total"
	@echo "make test      run every room of tests; print counts and times by room"
	@echo "make test-slow run the slow rooms: benchmarks, several nodes, a notebook, outages"
	@echo "make check     lint, format, and both type checkers"
	@echo "make bench     measure all figures, and write them into docs/bench.json and README"
	@echo "make fmt       rewrite the code in the project's format"

install: $(STAMP)

# Runs again only when what is to be installed has changed. pip decides by the metadata: code is installed editable.
# pip compiles only what it copies: where Python may write no bytecode, each process would compile ours anew.
$(STAMP): pyproject.toml constraints.txt
	@base=; \
	for candidate in $(CANDIDATES); do \
		if "$$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then base=$$candidate; break; fi; \
	done; \
	if [ -z "$$base" ]; then \
		echo "Python 3.11 or newer is needed, and none of these is: $(CANDIDATES). Install one, or say make PYTHON=/path/to/python3.11 ..." >&2; \
		exit 1; \
	fi; \
	[ -x $(RUN)/pip ] || { echo "making $(VENV) with $$base"; "$$base" -m venv --clear $(VENV); }
	@echo "installing into $(VENV), with the versions of constraints.txt"
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,bench,dashboards,dev]'
	@$(RUN)/python -m compileall -q cluster_app entities observe
	@touch $@

demo: $(STAMP)
	@$(RUN)/cluster-app replay flights

test: $(STAMP)
	@$(RUN)/python -m tests

test-slow: $(STAMP)
	@$(RUN)/python -m tests --slow

check: $(STAMP)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/pyright

# A benchmark that fails has its row in the table too, and make ends with its exit code.
bench: $(STAMP)
	@failed=0; $(RUN)/cluster-app bench all --out docs/bench.json || failed=$$?; $(RUN)/python -m tests.bench_table; exit $$failed

fmt: $(STAMP)
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .
