# `make demo` and `make test` need Python 3.10-3.13, make and git; they make their own environment in .venv.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint format clean

help:
	@echo "make demo   the whole chain on synthetic radiographs, in $(DEMO)/"
	@echo "make test   all tests (real-data tests where CXR_DATA names the folder)"
	@echo "make lint   style, types, imports between the parts"
	@echo "make clean  remove $(VENV) and $(DEMO)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m export.demo --out $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO)
