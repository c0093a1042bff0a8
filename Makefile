# `make` lists what there is. Each command sets up .venv first, once.

PYTHON ?= python3
PORT ?= 5001
UI_PORT ?= 5000
ALIAS ?= champion
ARGS ?=

READY := .venv/ready
READY_IN := $(shell .venv/bin/python -c '' 2>/dev/null && cat $(READY) 2>/dev/null)
STORE := $(or $(MLFLOW_TRACKING_URI),sqlite:///$(CURDIR)/mlflow.db)

# What runs below is the project's own Python, whatever environment the shell is in.
export VIRTUAL_ENV := $(CURDIR)/.venv
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX CONDA_PREFIX
export DO_NOT_TRACK ?= true
export MLFLOW_DISABLE_TELEMETRY ?= true
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR ?= false
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false
# Matrices here are small: a second thread costs more than it brings.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test lint ui serve schedule bench clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' Makefile
	@echo 'Options go into ARGS: make run ARGS="--source simulated --trials 4"'

run: $(READY)  ## the main job: get the data, train, tune, promote (ASTRD_MIRROR names a copy of the archive)
	python -m flows pipeline $(ARGS)

test: $(READY)  ## run the tests
	python -m pytest $(ARGS)

lint: $(READY)  ## check style, layout and types
	ruff check .
	ruff format --check .
	mypy

# Both are silent until they know what to say, and neither prints the store's address, which may hold a password.
define IF_STORE
store='$(STORE)'; file=$${store#sqlite:///}; \
	if [ "$$file" != "$$store" ] && [ ! -f "$$file" ]; then \
		echo "There is no $$file yet, so nothing to $(1). Make it first: make run" >&2; exit 1; \
	fi
endef

define FREE_PORT
import socket
import sys
port, variable = sys.argv[1:]
if not (port.isdecimal() and 0 < int(port) < 2**16):
    sys.exit(f"Expected a port from 1 to 65535, got {variable}={port}")
with socket.socket() as probe:
    if probe.connect_ex(("127.0.0.1", int(port))) == 0:
        sys.exit(f"Port {port} is in use: stop what answers there, or choose another one with {variable}=PORT")
endef
export FREE_PORT

define FIND_RUNS
import sys
import mlflow
from astrd import tracking
store, port = sys.argv[1:]
experiment = mlflow.MlflowClient(store).get_experiment_by_name(tracking.EXPERIMENT)
if experiment is None:
    sys.exit(f"There is no experiment {tracking.EXPERIMENT} yet, so nothing to show. Make it first: make run")
at = store.rstrip("/") if store.startswith("http") else f"http://127.0.0.1:{port}"
print(f"Runs:      {at}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning")
print("           Open the latest pipeline run with the + before its name; tick runs and press Compare.")
print(f"Registry:  {at}/#/models  (Models in the menu on the left)")
endef
export FIND_RUNS

ui: $(READY)  ## show the runs and the registry in the browser, on UI_PORT (5000)
	@$(call IF_STORE,show); \
	case "$$store" in http*) ;; *) python -c "$$FREE_PORT" $(UI_PORT) UI_PORT || exit 1 ;; esac; \
	python -c "$$FIND_RUNS" "$$store" $(UI_PORT) || exit 1; \
	case "$$store" in http*) exit 0 ;; esac; \
	echo "Stop with Ctrl-C."; \
	PYTHONWARNINGS=ignore exec mlflow server --backend-store-uri "$$store" --host 127.0.0.1 --port $(UI_PORT) --workers 1

define FIND_MODEL
import sys
import mlflow
from astrd import tracking
store, alias, port = sys.argv[1:]
try:
    version = mlflow.MlflowClient(store).get_model_version_by_alias(tracking.REGISTERED_CNN, alias)
except mlflow.MlflowException as error:
    sys.exit(f"Nothing to serve: {error.message}\n`make run` trains a model and promotes it to champion.")
print(f"Version {version.version} answers at http://127.0.0.1:{port}/invocations. Stop with Ctrl-C.")
endef
export FIND_MODEL

serve: $(READY)  ## answer over HTTP with the champion, on PORT (5001)
	@$(call IF_STORE,serve); \
	python -c "$$FREE_PORT" $(PORT) PORT || exit 1; \
	python -c "$$FIND_MODEL" "$$store" $(ALIAS) $(PORT) || exit 1; \
	MLFLOW_TRACKING_URI="$$store" exec mlflow models serve -m models:/asteroid-taxonomy-cnn@$(ALIAS) \
		--env-manager local -h 127.0.0.1 -p $(PORT) -w 1

schedule: $(READY)  ## retrain every night and search every week, by the clock, until stopped
	python -m flows schedule $(ARGS)

bench: $(READY)  ## measure the speed of the parts; within minutes, of less: make bench QUICK=1
	python -m benchmarks $(if $(QUICK),--size quick) $(ARGS)

clean:  ## remove caches and derived data; mlflow.db, mlartifacts, data/raw and .venv stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis data/interim data/processed
	find . -path ./.venv -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

# An environment that was moved, copied or lost its Python is made anew.
ifneq ($(READY_IN),$(CURDIR))
.PHONY: $(READY)
endif

# The file is written last: a set-up that failed leaves none, and the next call starts it again.
$(READY): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "$(PYTHON) was not found. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." \
			"Name another: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@set -e; rm -f $(READY); \
	if [ "$(READY_IN)" = "$(CURDIR)" ]; then \
		echo "Updating .venv ..."; \
	else \
		echo "Setting up .venv (once, about a minute) ..."; \
		"$(PYTHON)" -m venv --clear .venv; \
	fi; \
	awk '/^[^ #]/ {uv = /^uv==/} uv && !/^ *#/' requirements.lock > .venv/uv.txt; \
	python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt; \
	uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes -r requirements.lock; \
	uv pip install --quiet --python .venv/bin/python --compile-bytecode --no-deps --no-build-isolation -e .; \
	printf '%s' "$(CURDIR)" > $(READY)
