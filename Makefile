# `make` alone lists the targets. Set-up is shared: it runs once and again only when pyproject.toml or the pins change.
PYTHON   ?= python3
HARDWARE ?= cpu
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed-$(HARDWARE)
VLLM     := .venv-vllm
# One thread a process and a process a core: tests are small, and threads that wait for each other waste both cores.
PYTEST   := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-slow gpu test-vllm accept check fix docs bench pins clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv and install pinned dependencies (HARDWARE=cpu or cuda)

$(STAMP): pyproject.toml constraints/$(HARDWARE).txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Budwood needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11.")'
	@echo "Installing into $(VENV) (once; a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints/$(HARDWARE).txt --editable '.[dev]'
	@touch $@

quickstart: setup  ## the whole job on the bundled base: raw data to a served adapter, and back
	@$(BIN)/python examples/support-triage/quickstart.py

test: setup  ## the quick suite
	$(PYTEST) -m "not slow and not gpu and not vllm"

test-slow: setup  ## what takes minutes: kills, real data, fuzzing
	$(PYTEST) -m "slow and not gpu and not vllm"

gpu: setup  ## what needs a CUDA device; without one each test says so
	$(BIN)/python -m pytest -m gpu

test-vllm: setup $(VLLM)/.installed  ## what needs a real vLLM, in an environment of its own that this target makes (3.5 GB)
	OMP_NUM_THREADS=1 BUDWOOD_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -m vllm

$(VLLM)/.installed: tools/install_vllm.py
	@$(PYTHON) tools/install_vllm.py $(VLLM)
	@touch $@

accept: setup  ## the main job, end to end
	$(PYTEST) tests/acceptance

check: setup  ## formatting, lint, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## write the generated parts of the documentation again
	$(BIN)/python tools/write_docs.py

bench: setup  ## the measured tables (minutes; asserts nothing)
	$(BIN)/python benchmarks/quickstart_quality.py
	$(BIN)/python benchmarks/train_speed.py

pins:  ## renew the pins from the environment as it stands
	@{ head -1 constraints/$(HARDWARE).txt; echo "torch==2.13.0"; $(BIN)/python -m pip freeze --exclude-editable | grep -viE '^(torch|triton|setuptools|pip)=='; } > constraints/new.txt
	@mv constraints/new.txt constraints/$(HARDWARE).txt

clean:  ## remove the environment and the example's store
	rm -rf $(VENV) $(VLLM) examples/support-triage/.budwood examples/support-triage/data
