# make test | make check | make demo — each makes its own virtual environment; needs Python 3.11+ and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHARDS ?= 12
MAX_CONCURRENCY ?= 2
SECONDS ?= 60
SEEDS ?= 0:160
DEPTH ?= 6
WORKERS ?= 4

.PHONY: help test lint check coverage package compiled compiled-venv simulate explore planted demo format bench bench-full chaos limits clients node rust page docs lab clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / — /'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(READY) ## every test but the slow ones, on real parts
	$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) --dist worksteal

lint: $(READY) ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint ## format, lint, types, architecture rules, fast tests
	$(BIN)/python -m pytest tests/unit tests/histories

coverage: $(READY) ## branches that the unit tests reach, with a floor
	$(BIN)/python -m pytest -m 'not slow' -n 2 --cov --cov-report=term:skip-covered tests/unit

package: $(READY) ## an sdist, the wheel that is made of it, and that wheel in a bare environment
	rm -rf dist .venvs/package
	$(BIN)/python -m build --no-isolation --outdir dist > /dev/null
	$(PYTHON) -m venv .venvs/package
	.venvs/package/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	.venvs/package/bin/nats-identify --version
	.venvs/package/bin/python -I -c 'import nats_identify, coordinator; print(nats_identify.__file__)'
	@ls -l dist

simulate: $(READY) ## whole replicas under every fault, fresh histories for SECONDS=; one again: SEED=; by mypyc: COMPILED=1
	$(BIN)/python -m tests.simulation$(if $(COMPILED),.compiled) $(if $(SEED),--seed $(SEED),--swarm $(SECONDS))

explore: $(READY) ## every order of a few events in a tiny cluster, to DEPTH=; with a planted fault: PLANTED=
	$(BIN)/python -m tests.simulation.explore --depth $(DEPTH) $(if $(PLANTED),--planted "$(PLANTED)")

planted: $(READY) ## faults planted into the product, each hunted by the simulation: a table, in a quarter of an hour
	$(BIN)/python -m tests.simulation.planted --seeds $(SEEDS)

ifdef BOTS # discord.py and py-cord share a package name: each library has an environment of its own
EXTRA := $(subst discord.py,discord,$(subst py-cord,pycord,$(subst interactions.py,interactions,$(BOTS))))
DEMO_BIN := .venvs/demo-$(EXTRA)/bin
DEMO_READY := .venvs/demo-$(EXTRA)/.ready
$(DEMO_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venvs/demo-$(EXTRA)
	$(DEMO_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,$(EXTRA)]'
	@touch $@
else
DEMO_BIN := $(BIN)
DEMO_READY := $(READY)
endif

demo: $(DEMO_READY) ## a fleet through the queue, and the same without it: SHARDS= MAX_CONCURRENCY= BOTS=discord.py
	$(DEMO_BIN)/nats-identify demo --shards $(SHARDS) --max-concurrency $(MAX_CONCURRENCY) $(if $(BOTS),--bots $(BOTS))

BENCH_BIN := .venvs/bench/bin
BENCH_READY := .venvs/bench/.ready
$(BENCH_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venvs/bench
	$(BENCH_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

chaos: $(READY) ## kill -9 and restarts while shards wait: minutes
	$(BIN)/python -m pytest -m slow -s tests/chaos

COMPILED_VENV := .venvs/compiled
COMPILED_PYTHON := $(CURDIR)/$(COMPILED_VENV)/bin/python -P
compiled-venv:
	rm -rf $(COMPILED_VENV) .venvs/compiler
	$(PYTHON) -m venv $(COMPILED_VENV)
	$(COMPILED_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[coordinator,cli,otel,uvloop]'
	$(PYTHON) -m venv .venvs/compiler
	.venvs/compiler/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mypy setuptools ziglang
	.venvs/compiler/bin/python -m compiled --python $(COMPILED_VENV)/bin/python $(COMPILED_VENV)/lib/python3*/site-packages

compiled: $(READY) compiled-venv ## the coordinator as an image has it, and all tests of real coordinators with that: minutes
	COORDINATOR_PYTHON="$(COMPILED_PYTHON)" $(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) --dist worksteal tests/integration tests/chaos

bench: $(BENCH_READY) $(if $(COMPILED),compiled-venv) ## this queue and its peers before one judge: tables and a picture in .bench, in ten minutes; ONLY= COMPILED=1
	$(if $(COMPILED),COORDINATOR_PYTHON="$(COMPILED_PYTHON)") $(BENCH_BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

bench-full: $(BENCH_READY) $(if $(COMPILED),compiled-venv) ## the same with crowds of 100,000: in a quarter of an hour
	$(if $(COMPILED),COORDINATOR_PYTHON="$(COMPILED_PYTHON)") $(BENCH_BIN)/python -m benchmarks --full $(if $(ONLY),--only $(ONLY))

limits: $(READY) ## the day's limit, crash loops, the margin, Discord's API away: every figure of docs/budget.md
	$(BIN)/python -m pytest -s tests/limits

clients: $(READY) ## the real bot libraries, 18 shards each in one bucket, and all that one alone tries in make test: minutes
	$(BIN)/python -m pytest -m slow -s tests/clients

NODE_READY := clients/node/node_modules/.ready
$(NODE_READY): clients/node/package.json
	cd clients/node && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

node: $(READY) $(NODE_READY) ## the package for Node: types, unit tests, the kit, discord.js in a fleet: a minute; needs npm
	rm -rf clients/node/dist
	cd clients/node && npm run --silent build && npm test --silent
	$(BIN)/python -m pytest -m slow -n 3 --dist worksteal -rP tests/clients/test_node.py

rust: $(READY) ## the crate for twilight: format, clippy, its tests, the kit for clients, a fleet; the first build takes minutes
	cd clients/rust && cargo fmt --check && cargo clippy --quiet --all-targets -- -D warnings && cargo test --quiet
	$(BIN)/python -m pytest -m slow -s tests/rust

page: $(READY) ## the pictures of the coordinator's page, docs/images/page-*.png: a minute; needs Chromium
	$(BIN)/python -m tests.browser.screenshots

DOCS_BIN := .venvs/docs/bin
DOCS_READY := .venvs/docs/.ready
$(DOCS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venvs/docs
	$(DOCS_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(DOCS_READY) ## the documents as a site, in .site/html: broken links and anchors are errors; half a minute
	$(DOCS_BIN)/python -m website

lab: $(READY) ## the manifests on a real Kubernetes, with every fault: LAB= its program; seven minutes, as root
	$(BIN)/python -m tests.lab

format: $(READY) ## put everything into form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## remove what make made
	rm -rf $(VENV) .venvs .tools .bench .site dist clients/node/dist clients/node/node_modules clients/rust/target .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
