# Everything runs from .venv, built from the pinned versions in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check format docs readme bench clean

demo: $(STAMP)  ## compare every method on scikit-learn's digits, into demo/
	$(BIN)/unstale compare digits --out demo

test: $(STAMP)  ## the test suite; test-all has the long ones, too
	$(BIN)/python -m pytest -n 3 --dist worksteal
	$(BIN)/python -m pytest -m "ray and not slow" tests/live/test_ray.py

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not ray"
	$(BIN)/python -m pytest -m ray tests/live/test_ray.py

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## the generated parts of the documentation
	$(BIN)/python docs/generate.py

readme: demo  ## the demo's picture and table in the README
	$(BIN)/python docs/demo.py demo

bench: $(STAMP)  ## every benchmark, small; benchmarks/README.md says what each one shows
	for script in simulate server_step schedule memory startup paper_scale; do $(BIN)/python benchmarks/$$script.py --quick || exit 1; done

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo

# PIP_CONSTRAINT rather than --constraint: it pins what the package is built with, too.
# PyTorch goes first and by its exact pin: any looser requirement fetches gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unstale needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)
