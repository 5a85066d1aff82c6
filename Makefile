# Every target does its own set-up: all it needs is Python 3.11 or newer.
# A Python of your choice: make PYTHON=python3.13 demo

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
QUICK ?=

.PHONY: demo test check bench faults fuzz soak browser format schema requirements clean

demo: .venv/demo
	@exec $(BIN)/carepost demo

# Three at once on two cores: tests wait for processes and servers nearly half of their time.
test: .venv/dev browser node
	$(BIN)/python -m pytest -n $${CAREPOST_TEST_WORKERS:-3} --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/carepost schema --check schema.graphql
	$(BIN)/carepost providers --check docs/providers.md

# Twenty random points for each kind of fault, and the full counts. POINTS=3 for a look.
faults: .venv/dev
	CAREPOST_FAULT_POINTS=$${POINTS:-20} CAREPOST_FAULT_REPORT=$(abspath .carepost-faults.jsonl) \
	  $(BIN)/python -m pytest -s tests/faults $(ARGS)

# Fuzzers and differential tests with more inputs: about half an hour. TIMES=2 for a look.
fuzz: .venv/dev
	CAREPOST_FUZZ=$${TIMES:-20} $(BIN)/python -m pytest -n $${CAREPOST_TEST_WORKERS:-2} -p tests.support.fuzzing \
	  $$(grep -rlE --include='test_*.py' 'from hypothesis import' tests) $(ARGS)

soak: .venv/dev
	MINUTES=$${MINUTES:-10} $(BIN)/python -m tests.faults.soak

bench: .venv/dev
	QUICK=$(QUICK) $(BIN)/python -m bench $(PARTS)

# --- what tests need besides Python packages -------------------------------------------------

# Chromium: the machine's own; else Debian's package as root, Playwright's download otherwise.
browser: .venv/dev
	@sh tests/browser/install.sh $(BIN)/python

# npm packages of the JavaScript clients, by the machine's Node or the one from a Python wheel.
.PHONY: node
node: tests/clients/node_modules/.done
tests/clients/node_modules/.done: tests/clients/package.json .venv/dev
	@sh tests/clients/install.sh $(abspath $(BIN))/python
	@touch $@

# --- development -----------------------------------------------------------------------------

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: .venv/dev
	$(BIN)/carepost schema > schema.graphql
	$(BIN)/carepost providers > docs/providers.md

# Resolves pyproject.toml anew into requirements with hashes. No address of an index goes into them.
requirements: .venv/dev
	$(PIP) install uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --extra ses pyproject.toml -o requirements/app.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --extra embedded --extra ses --group build pyproject.toml -o requirements/demo.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --extra embedded --extra ses --group dev pyproject.toml -o requirements/dev.txt

clean:
	rm -rf .venv .carepost .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/clients/node_modules \
	  bench/peers/postgraphile/node_modules bench/results

# --- set-up ----------------------------------------------------------------------------------

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Carepost needs Python 3.11 or newer; $(PYTHON) is older or missing. Try: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }

.venv/demo: requirements/demo.txt pyproject.toml | .venv/bin/python
	@echo "Installing what Carepost needs into .venv ..."
	@$(PIP) install --require-hashes -r requirements/demo.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: requirements/dev.txt pyproject.toml | .venv/bin/python
	@echo "Installing what Carepost and its tests need into .venv ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ .venv/demo
