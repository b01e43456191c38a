# Each target first installs everything that it needs. See README.md.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
endif
PORT ?= 4566
BIN := .venv/bin

.PHONY: help run test verify verify-only soak simulate mutations fuzz check lint types format docs openapi synth deploy setup docs-setup test-setup clean permissions release bundle bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: setup ## Run the whole stack on this machine until Ctrl-C [PORT=4566]
	@exec $(BIN)/python -m local --port $(PORT)

# tests/testing/workers.py assigns tests to workers and sets their order.
PYTEST := $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test: test-setup ## Run the tests to pass before each commit, about 4 minutes [ARGS="-k …"]
	@$(PYTEST) -m "not verify" $(ARGS)

verify: test verify-only ## Run all tests, about 10 minutes

verify-only: test-setup ## Run only the tests that `make test` skips [ARGS="-k …"]
	@$(PYTEST) -m verify $(ARGS)

SEEDS ?= 250
OPERATIONS ?= 400
soak: test-setup ## Inject faults into real processes [SEEDS=250 OPERATIONS=400], or repeat one run [WORKLOAD=file]
	@$(BIN)/python -m tests.faults --seeds $(SEEDS) --operations $(OPERATIONS) $(if $(WORKLOAD),--workload $(WORKLOAD)) $(ARGS)

simulate: SEEDS = 45000
simulate: test-setup ## Inject faults in simulated time, about a million requests [SEEDS=45000 ARGS="--shape …"]
	@$(BIN)/python -m tests.simulation --seeds 0 $(SEEDS) $(ARGS)

FUZZ_CASES ?= 5000
fuzz: test-setup ## Send random requests to the handlers and the local stack [FUZZ_CASES=5000 ARGS="-k …"]
	@FUZZ_CASES=$(FUZZ_CASES) $(BIN)/python -m pytest tests/fuzz $(ARGS)

check: lint types verify synth ## Run all checks that CI runs

lint: setup ## Check style, format, imports and English
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.prose

types: setup ## Check types
	@$(BIN)/mypy

format: setup ## Format the code and apply automatic fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: docs-setup ## Build the documentation site in build/site
	@mkdir -p docs/assets && cp tools/node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js docs/assets/
	@.venv-docs/bin/zensical build --clean --strict
	@echo "docs: to read build/site in a browser, run .venv-docs/bin/zensical serve" >&2

openapi: setup ## Write docs/openapi.json from the models and routes
	@$(BIN)/python -m tools.openapi

permissions: test-setup ## Remove each IAM grant in turn and list the tests that fail in docs/permissions.md
	@$(BIN)/python -m tests.permissions

mutations: test-setup ## Break the code in known ways and list the tests that fail in docs/mutations.md [ARGS="--only …"]
	@$(BIN)/python -m tests.mutations $(ARGS)

bundle: setup ## Build the functions for Lambda and print their size and hash [PYTHON313=/path/to/python3.13]
	@$(BIN)/python -m tools.bundle

bench: test-setup ## Measure speed and cost and write benchmarks/results.json, docs/scale.md and docs/cost.md
	@$(BIN)/python -m benchmarks $(ARGS)

synth: setup ## Write the CloudFormation templates to cdk.out/ [ISSUER=https://… AUDIENCE=…]
	@$(BIN)/python -m infra.synth --issuer "$(ISSUER)" --audience "$(AUDIENCE)"

deploy: setup ## Deploy to AWS: ENV=dev|prod ISSUER=https://… AUDIENCE=…[,…] [ARGS="--require-approval never"]
	@$(BIN)/python -m infra.deploy --environment "$(ENV)" --issuer "$(ISSUER)" --audience "$(AUDIENCE)" -- $(ARGS)

release: setup ## Save this checkout in tests/released/ for the update test: VERSION=1.2.3
	@$(BIN)/python -m tests.released "$(VERSION)"

setup: ## Install everything that the other targets need, except for tests
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "setup: $(or $(PYTHON),python3) is not Python 3.11 or later; install one or set PYTHON=/path/to/python3." >&2; exit 1; }
	@"$(PYTHON)" tools/setup.py

docs-setup: ## Install everything that the documentation site needs
	@"$(PYTHON)" tools/setup.py --docs

# Packages for tests only, such as a browser of 75 MB. `make run` does not need them.
test-setup: setup ## Install everything that the tests need as well
	@"$(PYTHON)" tools/setup.py --tests

clean: ## Delete everything that setup and the other targets made
	rm -rf .uv .venv .venv-docs .venv-emulator build cdk.out docs/assets $(addsuffix /node_modules,infra local tests/browser tests/testing tools) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
