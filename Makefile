# Two commands from a fresh machine: `make reproduce` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: reproduce test test-all test-slow coverage test-slurm lint docs bench clean

# The embedded data, 49 runs and the random encoder, then Figure 5 into reports/.
reproduce: $(VENV)/.installed
	$(BIN)/python -m simclr_ablate -m sweep=augmentation_grid
	$(BIN)/python -m analysis figure5

# How many processes share the tests. On two cores four are fastest: now and then, each waits.
WORKERS ?= 4
# Bytecode is kept whatever the shell says: hundreds of processes load the same modules.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SHARED := -n $(WORKERS) --no-loadscope-reorder

# What a contributor runs.
test: $(VENV)/.installed-test lint
	$(PYTEST) $(SHARED) -m "not slow"

# The same, then the rest: whole commands, the wheel, SLURM, a browser, LaTeX, shells, trackers' servers, the docs.
test-all: test test-slow
test-slow: $(VENV)/.installed-test-all
	$(PYTEST) $(SHARED) -m slow

# All of them with a table of what they reach, processes of their own included: half as slow again.
coverage: $(VENV)/.installed-test-all
	$(BIN)/python -m coverage erase
	$(PYTEST) --cov --cov-report=term

# A real one-node SLURM of its own (Debian, root), stopped again afterwards.
SLURM := /tmp/simclr-ablate-slurm
test-slurm: $(VENV)/.installed-test
	bash tests/slurm/start-slurm.sh $(SLURM)
	SIMCLR_ABLATE_TEST_SLURM=$(SLURM) $(PYTEST) tests/slurm; \
		status=$$?; bash tests/slurm/stop-slurm.sh --purge $(SLURM); exit $$status

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation site, into site/; a link that leads nowhere fails. Nothing is fetched.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# What is installed is compiled by all cores: pip would do it with one, which takes as long as the rest. A few files that
# come with torch are for other versions of Python.
define install
$(BIN)/python -m pip install --quiet --no-compile -e '.$(1)'
@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
endef

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(call install,)
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml
	$(call install,[test])
	touch $@ $(VENV)/.installed

$(VENV)/.installed-test-all: $(VENV)/bin/python pyproject.toml
	$(call install,[test-all])
	touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-bench: $(VENV)/bin/python pyproject.toml
	$(call install,[bench])
	touch $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml
	$(call install,[docs])
	touch $@

clean:
	rm -rf $(VENV) reports site .mypy_cache .ruff_cache .pytest_cache
