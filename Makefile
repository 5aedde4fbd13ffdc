# Thin: what happens is in deploy/local/setup.sh (set-up) and in `python -m mesh` (the stack).
.DEFAULT_GOAL := help
.PHONY: help run up down status logs test fuzz check bench proto promise clean screenshots setup servers browser faults metrics

SETUP := deploy/local/setup.sh
VENV := .venv/bin
MESH := $(VENV)/python -m mesh
GEN := protos/gen/messenger/descriptors.binpb
PROTOS := $(shell find protos/messenger -name '*.proto')

# protoc finds its plugins on PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# setpriv: the stack stops also when make itself is killed.
run: setup ## Set up, start everything, stay in the foreground; Ctrl-C stops it, data stays in .stack/
	@exec setpriv --pdeathsig TERM $(MESH) run

up: setup ## Set up, start everything in the background; returns when all is ready
	@$(MESH) up

down: .venv/.ready ## Stop everything; data stays in .stack/
	@$(MESH) down

status: .venv/.ready ## Show every program; exit status says whether all are ready
	@$(MESH) status

logs: .venv/.ready ## The end of all logs; make logs PROGRAM=edge-1 for one
	@$(MESH) logs $(PROGRAM)

test: setup browser metrics ## Set up and run the tests on servers of their own; make test ARGS="-k mailbox" for some
	@$(VENV)/pytest $(ARGS)

# Other input each round; what a round finds stays in .hypothesis/ for the next test run.
fuzz: setup ## Feed the parsers hostile input for MINUTES (10); make fuzz MINUTES=60 for longer
	@end=$$(($$(date +%s) + 60 * $(or $(MINUTES),10))); \
	while [ $$(date +%s) -lt $$end ]; do $(VENV)/pytest -q tests/fuzz --hypothesis-profile=fuzz || exit 1; done

check: setup browser metrics ## What CI runs: format, lint, types, import law, protos, tests
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo
	$(VENV)/buf format protos --path protos/messenger --diff --exit-code
	$(VENV)/buf lint $(GEN) --config protos/buf.yaml
	$(VENV)/python protos/promise.py check
	$(VENV)/pytest $(ARGS)

bench: setup ## Measure everything on stacks of its own, in under 15 minutes; one: python -m bench --help
	@exec setpriv --pdeathsig TERM $(VENV)/python -m bench all

faults: setup ## Break everything under load and decide whether the promises held; SEED= MINUTES= ONLY=
	@exec setpriv --pdeathsig TERM $(VENV)/python -m faults $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(addprefix --only ,$(ONLY))

screenshots: setup browser ## Take the pictures of docs/screenshots, web client and terminal, on a stack of their own
	@$(VENV)/python -m tests.browser.screenshots

proto: $(GEN) ## Build protos/gen from the .proto files

promise: $(GEN) ## Take the protos as they are into the promise that make check guards by buf breaking
	@$(VENV)/python protos/promise.py renew

clean: ## Remove all that can be made again (.venv, generated code, caches); refuses while the stack runs
	@$(SETUP) clean

setup: servers .venv/.ready $(GEN) ## Only the set-up: system packages, .venv, generated code

servers:
	@$(SETUP) servers

browser:
	@$(SETUP) browser

metrics:
	@$(SETUP) metrics

.venv/.ready: requirements.lock pyproject.toml
	@$(SETUP) venv

$(GEN): protos/build.py $(PROTOS) | .venv/.ready
	@$(VENV)/python protos/build.py
