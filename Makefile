# Every target sets up what it needs: the first call makes .venv from requirements.lock, later ones find it there.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup browser demo test test-slow proofs test-arm test-avx2 lint bench lock release-check clean

help:  ## Show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

# The stamp is newer than the lock exactly when what is installed is what the lock says.
.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/.installed  ## Make .venv and install everything

browser:  ## Install the Chromium that the tests of pages drive (Debian and its kin, as root)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium >/dev/null; }

demo: setup  ## Train on real digits, export, prove, classify: about two minutes
	@$(BIN)/python docs/demo.py

test: setup  ## Every fast test, and how much of the code they reach
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=

test-slow: setup  ## The tests that take minutes
	@$(BIN)/python -m pytest -m "slow and not proof" -n 2 --dist loadgroup

proofs: setup  ## The longest: five seeds, whole emulators, a hundred kills, a minute of 64 clients
	@$(BIN)/python -m pytest -m proof -n 2 --dist loadgroup

test-arm: setup  ## A bundle on emulated aarch64: the selftest, and 200 pictures beside this machine
	@$(BIN)/python -m pytest tests/devices -k aarch64

test-avx2: setup  ## The same on an emulated x86 without VNNI, and the answers of a stored int8 file there
	@$(BIN)/python -m pytest tests/devices -k haswell

lint: setup  ## ruff, what README and docs take from the code, and mypy strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python docs/tree.py
	@$(BIN)/python docs/options.py
	@$(BIN)/mypy
	@for package in plugins/zoo-plugin-*; do (cd $$package && $(CURDIR)/$(BIN)/mypy) || exit 1; done

bench: setup  ## Every speed claim, as a ratio
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: setup  ## Resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --extra dev --no-header --no-annotate --no-emit-index-url \
	  --output-file requirements.lock pyproject.toml

release-check: setup  ## Build, and try the wheel in a fresh venv; TAG=v0.1.0 OUT=dist for a release
	@$(BIN)/python docs/release_check.py $(if $(TAG),--tag '$(TAG)') $(if $(OUT),--out '$(OUT)')

clean:  ## Remove .venv and what tools left behind
	rm -rf .venv dist build .mypy_cache .pytest_cache .ruff_cache
