# `make run` and `make test` set up everything they need; see README.md.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
endif
PORT ?= 4566
BIN := .venv/bin

.PHONY: run test verify verify-only soak simulate mutations fuzz check lint types format docs openapi synth deploy setup docs-setup test-setup clean permissions release bundle bench

run: setup ## the whole stack on this machine, until Ctrl-C
	@exec $(BIN)/python -m local --port $(PORT)

# tests/testing/workers.py says which tests stay with one of the workers, and in which order.
PYTEST := $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test: test-setup ## before each commit: all but what only `make verify` runs [ARGS="-k …"]; docs/testing.md
	@$(PYTEST) -m "not verify" $(ARGS)

verify: test verify-only ## before anything lands: all tests

verify-only: test-setup ## what `make test` leaves out
	@$(PYTEST) -m verify $(ARGS)

SEEDS ?= 250
OPERATIONS ?= 400
soak: test-setup ## everything fails that can, SEEDS=250 times with OPERATIONS=400 each; or WORKLOAD=file, once more
	@$(BIN)/python -m tests.faults --seeds $(SEEDS) --operations $(OPERATIONS) $(if $(WORKLOAD),--workload $(WORKLOAD)) $(ARGS)

# About a million requests.
simulate: SEEDS = 45000
simulate: test-setup ## everything fails that can, in simulated time: SEEDS=45000 interleavings, the same every time [ARGS="--shape …"]
	@$(BIN)/python -m tests.simulation --seeds 0 $(SEEDS) $(ARGS)

FUZZ_CASES ?= 5000
fuzz: test-setup ## arbitrary requests and sequences against the handlers and the local stack, FUZZ_CASES=5000 for each test
	@FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest tests/fuzz $(ARGS)

check: lint types verify synth ## what CI runs

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: setup
	@$(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: docs-setup ## the documentation as a site with search, in build/site
	@mkdir -p docs/assets && cp tools/node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js docs/assets/
	@.venv-docs/bin/zensical build --clean --strict
	@echo "docs: to read build/site in a browser, run: .venv-docs/bin/zensical serve" >&2

openapi: setup ## docs/openapi.json, from the models and routes
	@$(BIN)/python -m tools.openapi

permissions: test-setup ## takes every grant of the functions away in turn; writes which test notices to docs/permissions.md
	@$(BIN)/python -m tests.permissions

mutations: test-setup ## breaks the code in one way after the other; writes which test notices to docs/mutations.md [ARGS="--only …"]
	@$(BIN)/python -m tests.mutations $(ARGS)

bundle: setup ## the functions as the cloud gets them, their size by package, their hash [PYTHON313=/path/to/python3.13]
	@$(BIN)/python -m tools.bundle

bench: test-setup ## what recording, publishing and busy counters cost and take: benchmarks/results.json, docs/scale.md, docs/cost.md
	@$(BIN)/python -m benchmarks $(ARGS)

synth: setup ## every environment's templates, into cdk.out/ (ISSUER and AUDIENCE: see deploy)
	@$(BIN)/python -m infra.synth --issuer "$(ISSUER)" --audience "$(AUDIENCE)"

deploy: setup ## ENV=dev|prod ISSUER=https://… AUDIENCE=…[,…] [ARGS="--require-approval never"]
	@$(BIN)/python -m infra.deploy --environment "$(ENV)" --issuer "$(ISSUER)" --audience "$(AUDIENCE)" -- $(ARGS)

release: setup ## VERSION=1.2.3: keeps this checkout in tests/released/, for later ones to be updated from
	@$(BIN)/python -m tests.released "$(VERSION)"

setup:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "setup: $(or $(PYTHON),python3) is not Python 3.11 or later: install one, or set PYTHON=/path/to/python3." >&2; exit 1; }
	@"$(PYTHON)" tools/setup.py

docs-setup:
	@"$(PYTHON)" tools/setup.py --docs

# Also what only tests use: 75 MB of browser, of which `make run` needs nothing.
test-setup: setup
	@"$(PYTHON)" tools/setup.py --tests

clean: ## everything that setup and the other targets made
	rm -rf .uv .venv .venv-docs .venv-emulator build cdk.out docs/assets $(addsuffix /node_modules,infra local tests/browser tests/testing tools) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
