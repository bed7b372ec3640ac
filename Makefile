# Every target sets up .venv first, from the pinned requirements.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test check bench lint lock clean

repro: $(VENV)/.ready      ## run the whole chain, print the table
	dvc repro
	python -m pipeline show

test: $(VENV)/.ready       ## every test
	python -m pytest -q

check: $(VENV)/.ready      ## lint, types and the fast tests
	ruff check .
	ruff format --check .
	mypy pipeline stages models
	python -m pytest -q -m "not slow"

lock: $(VENV)/.ready       ## re-pin requirements.txt from pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-annotate --extra dev pyproject.toml -o requirements.txt

clean:                     ## remove the environment; data, models and caches stay
	rm -rf $(VENV)

$(VENV)/.ready: requirements.txt
	$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); sys.exit(0 if ok else f"Python 3.11 or 3.12 is needed, $(PYTHON) is {sys.version.split()[0]}: run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$$(grep '^uv==' requirements.txt)"
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r requirements.txt
	touch $@
