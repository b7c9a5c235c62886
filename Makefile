# Two commands matter: `make demo` (the main job) and `make test` (lint, types, documentation, tests).
# Each makes its own .venv from the hashed locks in requirements/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Not compiled: Python compiles what is imported when it is, which is a small part, and pip would take two minutes.
PIP := $(BIN)/python -P -m pip --disable-pip-version-check install --quiet --no-compile
CRITIC ?= builtin
ARGS ?=
EXPERIMENT ?=

.PHONY: demo test lint types docs unit slow bench reproduce dist lock clean

demo: $(VENV)/.run
	$(BIN)/lvlm-va demo --critic "$(CRITIC)" $(ARGS)

# What needs one core goes side by side, each with its output in one piece where make can (macOS brings version 3);
# the tests use all cores.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory --jobs 3 $(if $(filter output-sync,$(.FEATURES)),--output-sync) lint types docs
	$(MAKE) --no-print-directory unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

# The site, with its reference generated from the docstrings; a broken link or docstring is an error.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# One thread each: on few cores the threads of several processes wait for one another. Many tests wait for a child
# or a clock, so there is one process more than a small machine has cores. With ARGS, of some tests say, the floor of
# coverage means nothing.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile
unit: $(VENV)/.dev
	$(PYTEST) $(if $(ARGS),$(ARGS),-m "not slow" --cov --cov-report=term:skip-covered)

# Those that take a minute each: whole runs killed and resumed, the wheel in an environment of its own, the notebook.
slow: $(VENV)/.dev
	$(PYTEST) -m slow $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

# E.g. make reproduce EXPERIMENT=baselines ARGS="--dataset knee --seeds 1".
reproduce: $(VENV)/.dev
	$(BIN)/python -m experiments $(EXPERIMENT) $(ARGS)

# Wheel and source archive, in dist/.
dist: $(VENV)/.run
	$(BIN)/python -m hatchling build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "LVLM-VA needs Python 3.11 or newer; this is $$($(PYTHON) -V). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first, on its own: with it in place nothing later can pull a different build.
$(VENV)/.torch: requirements/torch.txt | $(VENV)/bin/python
	$(PIP) -r requirements/torch.txt
	@touch $@

# Without isolation, which would fetch a builder of its own, neither pinned nor hashed.
$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml $(VENV)/.torch
	$(PIP) --require-hashes --no-deps -r requirements/run.txt
	$(PIP) --require-hashes --no-deps -r requirements/build.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

# For maintainers (needs uv). What torch brings for CUDA is left to torch's own, exact pins.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
COMPILE = $(LOCK) pyproject.toml --constraint requirements/pins.in --no-emit-package torch \
  $(foreach p,triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand \
  nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink \
  nvidia-nvshmem-cu13 nvidia-nvtx,--no-emit-package $(p))

lock:
	$(COMPILE) --output-file requirements/run.txt
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(LOCK) requirements/build.in --constraint requirements/dev.txt --output-file requirements/build.txt

clean:
	rm -rf $(VENV) build dist .coverage .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
