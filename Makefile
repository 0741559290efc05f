# make run: serve, with everything that is missing made first. make test, check, bench: for developers.
.PHONY: run install test test-faults test-api clients check bench

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

run: install
	@$(BIN)/billing-proxy serve

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make run PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed tests/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/requirements.lock
	@touch $@

# Clients that need releases of their own, or node: where there is none, their tests are skipped.
clients: $(VENV)/langchain/installed $(if $(shell command -v npm),$(VENV)/installed-node)

$(VENV)/langchain/installed: tests/clients/langchain.lock | $(VENV)/installed
	@test -x $(VENV)/langchain/bin/python || $(BIN)/python -m venv $(VENV)/langchain
	$(VENV)/langchain/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/installed-node: tests/clients/node/package-lock.json | $(VENV)/installed
	@npm ci --prefix tests/clients/node --ignore-scripts --no-audit --no-fund --silent && touch $@ \
		|| echo "npm could not install the clients of tests/clients/node: their tests are skipped"

test: $(VENV)/installed-dev clients
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

# The long form of tests/faults: kills, outages, full disks. Up to 40 minutes; `make test` has a short form of each row.
test-faults: $(VENV)/installed-dev
	FAULTS=full $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --timeout 1800 tests/faults tests/replicas/test_limits_of_three.py

# 10,000 requests of all kinds to the routes of operators, made from their OpenAPI. Ten minutes; `make test` sends a few hundred.
test-api: $(VENV)/installed-dev
	API_EXAMPLES=10000 $(BIN)/python -m pytest tests/openapi

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.check_migrations

bench: $(VENV)/installed-dev
	$(BIN)/python -m bench
