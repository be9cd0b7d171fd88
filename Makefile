# Two commands set everything up: `make demo` runs the whole loop, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint coverage clean

$(BIN)/dimpoint: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(BIN)/dimpoint
	rm -rf dimpoint-demo
	$(BIN)/dimpoint demo --out dimpoint-demo

test: $(BIN)/dimpoint
	$(BIN)/python -m pytest -q -n auto -m "not slow"

lint: $(BIN)/dimpoint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(BIN)/dimpoint
	$(BIN)/python -m pytest -q -n auto --cov=dimpoint --cov-report=term:skip-covered

clean:
	rm -rf $(VENV) dimpoint-demo build dist
