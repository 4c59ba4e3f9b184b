# Everything a checkout can do; `make` lists the targets. The environment is made once, in $(VENV).
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
JOBS ?= auto
BIN = $(VENV)/bin
# Processes that tests start read compiled modules of the environment, also where PYTHONDONTWRITEBYTECODE is set.
PYTEST = env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX="$(abspath $(VENV))/pycache" $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints.txt
SOURCES = setup.py setup.cfg constraints.txt $(wildcard lmsearch/kernels/csrc/*)

.DEFAULT_GOAL := help
.PHONY: help install search test test-slow golden docs lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed  ## make the environment in .venv/ and install lmsearch into it

search: $(VENV)/.installed  ## search scan directions on real digits, retrain the result, compare it; results in runs/demo/
	$(BIN)/lmsearch search run_dir="$(RUN)/search" overwrite=true
	$(BIN)/lmsearch compare genotype="$(RUN)/search" run_dir="$(RUN)/compare" overwrite=true

test: $(VENV)/.installed-test  ## run the tests, one process per core (JOBS=1: one after the other)
	$(PYTEST)

test-slow: $(VENV)/.installed-test  ## run the tests that take longer
	$(PYTEST) -m slow

golden: $(VENV)/.installed-test  ## write the golden records of tests/golden/ anew (a commit that changes them says why)
	$(BIN)/python tests/golden_records.py

docs: $(VENV)/.installed-test  ## build the documentation into site/, generated pages and pictures first
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet

lint: $(VENV)/.installed-test  ## check the style and the types of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

clean:  ## remove what builds and tests leave behind; runs/ and .venv/ stay
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis lmsearch/kernels/_native*.so
	find lmsearch tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f "$(VENV)/.installed" "$(VENV)/.installed-test"

define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmsearch needs Python >= 3.11; name one: make PYTHON=python3.11 ...")'
test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
$(PIP) torch==2.13.0
$(PIP) -e '.$(1)'
@touch $(VENV)/.installed
endef

$(VENV)/.installed: $(SOURCES)
	$(call install)

$(VENV)/.installed-test: $(SOURCES)
	$(call install,[test])
	@touch $@
