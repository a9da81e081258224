PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup proto check test fuzz soak chaos gpu-check triton-check bench bench-peer perf-analyzer evaluate demo serve clean compose-files image-check board prometheus-check

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-18s %s\n", $$1, $$2 }'

setup: .venv/.installed ## install everything into .venv

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Statewise needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv; the first time this takes some minutes..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

proto: setup ## generate the stubs from protos/
	$(BIN)/python scripts/protocol.py generate

board: setup ## write the Grafana board, the alerts and the page of metrics from deploy/observability
	$(BIN)/python -m deploy.observability generate

check: setup ## format, lint, types, floors, protos, metrics and board, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/protocol.py check
	$(BIN)/python -m deploy.observability check
	$(BIN)/hadolint Dockerfile

test: setup ## run the tests
	@scripts/install-system-tools
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

fuzz: setup ## draw a hundred times as many examples, others each time (FUZZ="tests/sessions -k table" for some)
	$(BIN)/pytest -q --hypothesis-profile=fuzz -o timeout=0 $(or $(FUZZ),tests/sessions)

soak: setup ## overload a server for two minutes and print what it serves and takes (SOAK="--seconds 60" for longer)
	@$(BIN)/python -m bench.soak $(SOAK)

chaos: setup ## kill servers and stores under live sessions, and print what became of them (CHAOS="--seconds 30 kills-commit" for less)
	@scripts/install-system-tools
	@$(BIN)/python -m bench.chaos $(CHAOS)

compose-files: ## make certificates, a key and passwords for compose.yaml, in var/compose
	@scripts/compose-files var/compose

image-check: setup ## install as the Dockerfile does, into a folder, and serve from it as a user who owns nothing
	@scripts/image-check

prometheus-check: setup ## have a real Prometheus scrape a server and answer every panel and alert (half a minute)
	@scripts/install-system-tools
	$(BIN)/pytest -q -m prometheus

gpu-check: setup ## run the tests of the engine on an NVIDIA GPU, and measure it beside the CPU (five minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cuda]'
	STATEWISE_GPU=1 $(BIN)/pytest -m gpu -ra
	$(BIN)/python -m bench.gpu

bench: setup ## measure speed beside the ceilings (about 15 minutes; BENCH="--rounds 1" for less)
	$(BIN)/python -m bench $(BENCH)

perf-analyzer: setup ## let NVIDIA's perf_analyzer drive a server through the Open Inference Protocol (downloads 20 MB)
	@scripts/install-perf-analyzer
	STATEWISE_PERF_ANALYZER=1 $(BIN)/pytest -m perf_analyzer -ra -s

evaluate: setup ## train on public data, beside baselines: writes docs/evaluation.md (about 15 minutes)
	$(BIN)/python -m bench.learning $(EVALUATE)

bench-peer: setup var/peer/.installed ## the same, and NVIDIA Triton beside it
	$(BIN)/python -m bench --peer var/peer/bin/python $(BENCH)

triton-check: setup var/peer/.installed ## hand exported models to a real NVIDIA Triton
	STATEWISE_TRITON=$(CURDIR)/var/peer/bin/python $(BIN)/pytest -m triton -ra

var/peer/.installed:
	@$(PYTHON) -m venv var/peer
	@echo "Installing Triton into var/peer..."
	@var/peer/bin/python -m pip install --quiet --disable-pip-version-check -r bench/peer/requirements.txt
	@touch $@

demo: setup ## train, export, serve and stream real data
	@$(BIN)/python examples/demo.py

serve: setup ## serve var/repository
	$(BIN)/statewise serve

clean: ## remove .venv, caches and the demo's files
	rm -rf .venv var/demo .coverage htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	@if [ -d var ]; then echo "Kept: var, with the models that you trained."; fi
