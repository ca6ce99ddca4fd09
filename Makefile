# `make` alone lists what there is.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install run test dev lint bench docs lock audit clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: .venv/installed  ## everything into .venv

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) "$$(grep -oE '^uv==[^ ]+' requirements.lock)"
	@# uv takes seconds where pip takes a minute; pip is for machines that only pip is configured for.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock || \
		$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@# dbt's models are parsed here: the first sync would take 5 s and 30 MB more.
	@$(BIN)/python -W ignore -c 'import os, smileback_pipeline.assets.dbt as dbt; dbt.prepared_dbt_project(); os._exit(0)'
	@touch $@

run: install  ## sync your account, or the built-in sandbox without credentials, and print the scores
	@$(BIN)/smileback-pipeline run

test: install  ## all tests, several files at once
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

dev: install  ## the Dagster UI with its daemon on http://127.0.0.1:3000
	@$(BIN)/smileback-pipeline dev

lint: install  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --config dbt_project/.sqlfluff dbt_project/models dbt_project/tests

bench: install  ## benchmarks, side by side with other tools
	$(BIN)/python -m benchmarks

docs: install  ## the dbt documentation of every table and column, on http://127.0.0.1:8080
	@# By the project alone: a warehouse need not be there, and is not kept from a sync.
	cd dbt_project && ../$(BIN)/dbt docs generate --target memory --empty-catalog && ../$(BIN)/dbt docs serve --host 127.0.0.1

lock: install  ## resolve requirements.lock from pyproject.toml; UPGRADE=--upgrade takes the newest of everything
	$(BIN)/uv pip compile $(UPGRADE) --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-strip-extras \
		--no-emit-index-url --no-emit-find-links --extra sandbox --extra keyring --extra postgres --extra dev -o requirements.lock pyproject.toml

audit: install  ## known vulnerabilities in the locked dependencies
	$(BIN)/uv tool run pip-audit --strict --require-hashes --disable-pip -r requirements.lock

clean:  ## remove what was installed and built; data and history stay
	rm -rf .venv dbt_project/target dbt_project/logs *.egg-info
