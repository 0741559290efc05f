# make run: serve, with everything that is missing made first. make test, check, bench: for developers.
# Compiled code is kept, whatever the shell says: without it each process compiles the whole program.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run install test test-embedded test-faults test-api test-fuzz test-browser clients check bench bench-peers bench-soak bench-logs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LITELLM := 1.108.7
PORTKEY := 1.15.2

run: install
	@$(BIN)/billing-proxy serve

install: $(VENV)/installed

# `instaui-echarts` says that it wants a Python before 3.14; what is used of it is one file of JavaScript.
$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make run PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python --require-hashes -r requirements.lock
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
	$(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder --ignore tests/browser --ignore tests/embedded

# The program with its own PostgreSQL, from the first start to the last stop, killed in every order: a minute or two.
test-embedded: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder tests/embedded

# The dashboard in Debian's Chromium; skipped, saying so, where there is none.
test-browser: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/browser

# The long form of tests/faults: kills, outages, full disks. Up to 40 minutes; `make test` has a short form of each row.
test-faults: $(VENV)/installed-dev
	FAULTS=full $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --timeout 1800 tests/faults tests/replicas/test_limits_of_three.py

# 10,000 requests of all kinds to the routes of operators, made from their OpenAPI. Minutes; `make test` sends a few hundred.
test-api: $(VENV)/installed-dev
	API_EXAMPLES=10000 $(BIN)/python -m pytest -s tests/openapi

# 20,000 made-up requests to the data plane, and 2,000 slow clients. Minutes; `make test` sends a few hundred.
test-fuzz: $(VENV)/installed-dev
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -s tests/fuzz

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.check_migrations

bench: $(VENV)/installed-dev
	$(BIN)/python -m bench $(if $(JSON),--json $(JSON)) $(if $(PLOT),--plot $(PLOT))

# The same beside Portkey's gateway (needs node) and LiteLLM's proxy, which are installed for it.
bench-peers: $(VENV)/installed-dev $(VENV)/peers/litellm-$(LITELLM) $(if $(shell command -v npm),$(VENV)/peers/portkey-$(PORTKEY))
	$(BIN)/python -m bench --peers $(if $(JSON),--json $(JSON)) $(if $(PLOT),--plot $(PLOT))

$(VENV)/peers/litellm-$(LITELLM): | $(VENV)/installed
	$(BIN)/python -m venv $(VENV)/peers/litellm
	$(VENV)/peers/litellm/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==$(LITELLM)'
	@touch $@

$(VENV)/peers/portkey-$(PORTKEY): | $(VENV)/installed
	@mkdir -p $(VENV)/peers/node
	npm install --prefix $(VENV)/peers/node --ignore-scripts --no-audit --no-fund --silent @portkey-ai/gateway@$(PORTKEY)
	@touch $@

# 200,000 calls and 5,000 open streams: ten minutes or more. CALLS=20000 STREAMS=500 for a trial.
bench-soak: $(VENV)/installed-dev
	$(BIN)/python -m bench.soak --calls $(or $(CALLS),200000) --streams $(or $(STREAMS),5000)

# Fills ten million rows, which takes minutes and 20 GB of disk: ROWS=1000000 for a trial.
bench-logs: $(VENV)/installed-dev
	$(BIN)/python -m bench.logs --rows $(or $(ROWS),10000000)

.PHONY: bench-paint screens
# The same rows behind the dashboard, in Debian's Chromium.
bench-paint: $(VENV)/installed-dev
	$(BIN)/python -m bench.paint --rows $(or $(ROWS),10000000)

# Pictures of each page of the dashboard, to be looked at: some minutes.
screens: $(VENV)/installed-dev
	$(BIN)/python -m tests.browser.screens $(VENV)/screens
