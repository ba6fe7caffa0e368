# make run    a small signed DNS and the proxy in front of it, to try      make test   all tests
# make bench  ourselves beside unbound and others (tests/bench/README.md; installs them, as root)      make fuzz   the core
# make lint   style       make types   mypy       make floors   who may import whom       make format       make clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
BENCH ?= hit
FUZZ ?= --seconds 120

.PHONY: run test bench fuzz lint types floors format clean

run: $(VENV)/installed
	@exec $(BIN)/dohproxy lab --with-proxy

test: $(VENV)/developing
	@.ci/peers
	$(BIN)/pytest $(PYTEST_ARGS)

bench: $(VENV)/installed
	tests/bench/setup.sh
	tests/bench/bench.py $(BENCH) --sut "$(CURDIR)/$(BIN)/dohproxy run --config {config}"

fuzz: $(VENV)/developing
	$(BIN)/python tests/fuzz/core.py $(FUZZ)

lint: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/developing
	$(BIN)/mypy

floors: $(VENV)/developing
	$(BIN)/lint-imports

format: $(VENV)/developing
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	rm -f dohproxy/*/_compiled*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is as old as pyproject.toml, which names it, and the core that was compiled for it: what changes while pip
# runs is newer than that.
$(VENV)/installed: $(VENV)/made pyproject.toml hatch_build.py $(wildcard dohproxy/*/_compiled.pyx)
	@echo "Installing dohproxy in $(VENV) ..."
	@touch $@.begun
	@$(BIN)/pip install -q -e . || { echo >&2 "make: installing needs a network, or an index of packages that pip knows: see above"; exit 1; }
	@mv $@.begun $@

$(VENV)/developing: $(VENV)/installed
	@echo "Installing what tests and checks need ..."
	@touch $@.begun
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' > $(VENV)/dev.txt
	@$(BIN)/pip install -q -r $(VENV)/dev.txt || { echo >&2 "make: installing needs a network, or an index of packages that pip knows: see above"; exit 1; }
	@mv $@.begun $@

$(VENV)/made:
	@command -v $(PYTHON) >/dev/null || { echo >&2 "make: there is no $(PYTHON); on Debian: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 "make: dohproxy needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V); set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo >&2 "make: $(PYTHON) cannot make environments; on Debian: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@
