# Two commands do everything: make demo, make test. PYTHON chooses the interpreter; each has its own environment.
PYTHON ?= python3
VENV ?= .venv$(patsubst python%,-%,$(filter-out python3,$(notdir $(PYTHON))))
BIN := $(VENV)/bin
DEMO := demo
# One worker a core, of 8 at most; a worker without work takes over tests of one that has some.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal --durations 10

.PHONY: demo test coverage docs test-docs lint format clean

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; say PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-tests: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[tests]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# Replaces its own folder demo/, so that it always shows a fresh run.
demo: $(VENV)/.installed
	$(BIN)/prithvi-tg demo --output $(DEMO) --overwrite

# SELECT leaves tests out by their marks: make test SELECT='not version_independent'.
test: $(VENV)/.installed-tests
	PATH="$(abspath $(BIN)):$$PATH" $(PYTEST) $(if $(SELECT),-m '$(SELECT)')

# The suite with the share of the package's lines that it runs, at least 95 per cent.
coverage: $(VENV)/.installed-tests
	PATH="$(abspath $(BIN)):$$PATH" $(PYTEST) --cov --cov-report=term:skip-covered

# The site, in docs/_build/index.html; a warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

# Every command and every line of Python on the pages of docs/, and its SLURM scripts.
test-docs: $(VENV)/.installed-tests
	PATH="$(abspath $(BIN)):$$PATH" $(PYTEST) -m docs tests/test_docs.py tests/test_clusters.py

lint: $(VENV)/.installed-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(DEMO) .venv .venv-* build dist docs/_build *.egg-info
