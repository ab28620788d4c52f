# Everything happens in .venv, made from the lock (requirements/*.txt) with the newest usable Python on PATH.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Bytecode is left to the first import: most of the Kubernetes client is never imported, and compiling it doubles the wait.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile

##@ Try it
.PHONY: run
run: $(VENV)/.runtime ## Start the demo: an embedded cluster under recorded load
	@echo "The demo answers on http://127.0.0.1:8080/ (page), /api/v1/workloads, /metrics and /healthz; Ctrl-C ends it." >&2
	@exec $(BIN)/autoscaler demo

##@ Check it
.PHONY: test
test: $(VENV)/.dev ## Run the tests that need no cluster (under 3 minutes)
	@$(BIN)/python -m pytest -n auto

.PHONY: check
check: $(VENV)/.dev ## Lint, formatting, types and the import contract
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.dev ## Format the code and sort its imports
	@$(BIN)/ruff check --select I --fix --quiet
	@$(BIN)/ruff format --quiet

.PHONY: cluster-test
cluster-test: $(VENV)/.dev ## Run the tests against a real Kubernetes and a real Prometheus (as root; needs Go)
	@tests/cluster/prepare
	@$(BIN)/python -m pytest tests/cluster -o faulthandler_timeout=600

.PHONY: node-test
node-test: $(VENV)/.dev ## Run real faults in real containers on a real node, five minutes of them (as root, on cgroups; needs Go)
	@tests/cluster/prepare packages kube node
	@$(BIN)/python -m pytest tests/node -o faulthandler_timeout=600

.PHONY: bench
bench: $(VENV)/.dev ## Measure `decide` for 10 000 workloads: median, p99 and memory
	@$(BIN)/python -m benchmarks.decide

.PHONY: bench-policies
bench-policies: $(VENV)/.dev ## Measure how late and how dear policies are on all recorded loads (hours; BENCH=--quick: two minutes)
	@$(BIN)/python -m benchmarks.policies $(BENCH)

.PHONY: bench-drip
bench-drip: $(VENV)/.dev ## Time the ticks of 200 workloads, 20 of them on a server that drips (three minutes)
	@$(BIN)/python -m benchmarks.drip

.PHONY: bench-day
bench-day: $(VENV)/.dev ## Play a day of 500 workloads with faults at random: nothing leaks, every write is explained
	@$(BIN)/python -m benchmarks.day

.PHONY: bench-storm
bench-storm: $(VENV)/.dev ## Watch over 10 000 pods of which three in ten fail at once: incidents, latency, memory, API calls (20 minutes)
	@tests/cluster/prepare packages kube kwok
	@$(BIN)/python -m benchmarks.storm $(BENCH)

.PHONY: bench-hpa
bench-hpa: $(VENV)/.dev ## Measure what our loop and the real HPA cost, and how fast they react (as root; an hour; BENCH=--help)
	@tests/cluster/prepare
	@$(BIN)/python -m benchmarks.hpa $(BENCH)

##@ Keep it
COMPILE = $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header $(UPGRADE)
BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

.PHONY: lock
lock: $(VENV)/.dev ## Bring the lock up to pyproject.toml, changing as little as possible
	@$(BIN)/python -c '$(BUILD_REQUIRES)' | $(COMPILE) - --output-file requirements/build.txt >/dev/null
	@$(COMPILE) pyproject.toml --output-file requirements/runtime.txt >/dev/null
	@$(COMPILE) pyproject.toml --extra dev -c requirements/build.txt -c requirements/runtime.txt --output-file requirements/dev.txt >/dev/null

.PHONY: upgrade
upgrade: UPGRADE := --upgrade
upgrade: lock ## Lock the newest versions that pyproject.toml allows

.PHONY: clean
clean: ## Remove what make has made: .venv, caches, builds (the Kubernetes of cluster-test too)
	@chmod -R u+w .cache 2>/dev/null || true
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The first of these that is new enough and can make an environment. A name on PATH may be a shim that does not run.
$(VENV)/pyvenv.cfg:
	@lacking=; \
	for python in python3.13 python3.12 python3.11 python3; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "Making $(VENV) with $$($$python --version)" >&2; \
	    $$python -m venv $(VENV); \
	    exit; \
	  fi; \
	  lacking=$${lacking:-$$python}; \
	done; \
	if [ "$$lacking" ]; then \
	  version=$$($$lacking -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "error: $$lacking has no module venv or ensurepip. On Debian and Ubuntu: apt-get install python$$version-venv" >&2; \
	else \
	  echo "error: no Python 3.11 or newer on PATH (python3 is $$(python3 --version 2>/dev/null || echo missing)). On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; \
	fi; \
	exit 1

$(VENV)/.runtime: pyproject.toml requirements/build.txt requirements/runtime.txt | $(VENV)/pyvenv.cfg
	@echo "Installing what the lock names" >&2
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "Installing what the tests need" >&2
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@
