# Every target makes .venv first where it is not there. On a machine with a GPU nothing changes: PyTorch finds it.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt

DATASET ?= shanghaitech
DATA ?= data/$(DATASET)
ENCODER ?= micro3d
ARGS ?=

.PHONY: setup demo test test-fast check lint types bench features tables clean

setup: $(STAMP)  ## make setup [CONSTRAINTS=constraints-oldest.txt, or /dev/null for the newest releases]

$(STAMP): setup.cfg $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev,cpu]'
	@touch $@

demo: $(STAMP)  ## video in, scores and a report out, on a synthetic set
	$(BIN)/python -m ssrl.commands.demo --out demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

test-fast: $(STAMP)  ## leaves out what takes more than some seconds
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

check: lint types
	$(BIN)/python -m pytest tests/unit/test_imports.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(STAMP)
	$(BIN)/mypy -p ssrl -p tests -p benchmarks

bench: $(STAMP)  ## [ARGS='--only training']
	$(BIN)/python -m benchmarks.bench $(ARGS)

features: $(STAMP)  ## make features DATASET=shanghaitech [DATA=dir] [ENCODER=i3d_r50]
	$(BIN)/ssrl-extract --dataset $(DATASET) --root $(DATA) --encoder $(ENCODER) --out features/$(DATASET) $(ARGS)

tables: $(STAMP)  ## make tables DATASET=shanghaitech [ARGS='--recipe small --jobs 2']: the paper's tables on a store
	$(BIN)/python -m ssrl.commands.tables --features features/$(DATASET) --out tables/$(DATASET) \
		--page docs/tables-$(DATASET).md $(ARGS)

clean:
	rm -rf $(VENV) build demo *.egg-info
