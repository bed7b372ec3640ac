# Every target sets up .venv first, from the pinned requirements.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help repro test check bench device-check lock clean

help:                      ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

repro: $(VENV)/.ready      ## run the whole chain, print the table
	dvc repro
	python -m pipeline show

# One thread per process and a process per core: the tests start many short programs. --dist loadfile: a file's
# fixtures are built once.
PYTEST := OMP_NUM_THREADS=1 python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.tensorrt    ## every test
	$(PYTEST)

check: $(VENV)/.tensorrt   ## lint, types and the fast tests
	ruff check .
	ruff format --check .
	mypy pipeline stages models benchmarks
	$(PYTEST) -m "not slow"

bench: $(VENV)/.ready      ## time the loss and the training step against the alternatives, record both
	KINETO_LOG_LEVEL=99 YOLO_OFFLINE=1 python -W ignore -m benchmarks.freekd_loss
	YOLO_OFFLINE=1 python -W ignore -m benchmarks.distillation_step

device-check: $(VENV)/.ready  ## check what needs a GPU, small and on the CPU where there is none; see docs/device.md
	YOLO_OFFLINE=true python -W ignore -m benchmarks.device --out .state/device-check $(if $(shell command -v nvidia-smi),,--dry)

lock: $(VENV)/.ready       ## re-pin requirements.txt from pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-annotate --extra dev pyproject.toml -o requirements.txt

clean:                     ## remove the environment; data, models and caches stay
	rm -rf $(VENV)

$(VENV)/.ready: requirements.txt
	$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); sys.exit(0 if ok else f"Python 3.11 or 3.12 is needed, $(PYTHON) is {sys.version.split()[0]}: run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$$(grep '^uv==' requirements.txt)"
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --no-deps -r requirements.txt
	touch $@

# What tests/tensorrt_api needs. Not in requirements.txt: several versions side by side, and NVIDIA's licence.
$(VENV)/.tensorrt: $(VENV)/.ready tests/tensorrt_api/build.sh tests/tensorrt_api/fake.cpp tests/tensorrt_api/cudart.cpp
	if tests/tensorrt_api/build.sh $(BIN)/python $(VENV)/tensorrt; then touch $@; fi
