# Two commands on a fresh machine: `make run` and `make test`. `make demo` is the demo in Streamlit;
# `make clients` installs the clients and servers of others that some tests need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# V-JEPA 2 needs torch: only where there is an NVIDIA GPU, nobody else waits for 3 GB of CUDA.
EXTRAS := $(if $(shell command -v nvidia-smi 2>/dev/null && nvidia-smi -L 2>/dev/null | grep GPU),[gpu],)

.PHONY: run demo test clients check builtin clean

run: $(VENV)/run.stamp
	@exec $(BIN)/python -m streaming $(ARGS)

# Options of its own come after a `--`: make demo ARGS="--server.port 9000 -- --model bundles/mine"
demo: $(VENV)/demo.stamp
	@exec $(BIN)/streamlit run web/demo.py $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 $(ARGS)

clients: $(VENV)/clients.stamp

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "livegloss needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".$(EXTRAS)"
	$(BIN)/python -m models.landmarks.networks
	@touch $@

$(VENV)/demo.stamp: $(VENV)/run.stamp
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(INSTALL) torch  # by itself: a CPU build that lies at hand is taken
	$(INSTALL) --editable ".[test]"
	@$(BIN)/python -m tests.chromium
	@$(BIN)/python -m offline.exporting.web_runtime || true  # tests that need it are skipped then
	@touch $@

$(VENV)/clients.stamp: $(VENV)/test.stamp tests/clients/install.py tests/clients/package-lock.json
	$(BIN)/python -m tests.clients.install
	@touch $@

# Makes models/builtin and tests/bundles/heldout anew from the clips; see offline/builtin.sh.
builtin: $(VENV)/test.stamp
	sh offline/builtin.sh

clean:
	rm -rf $(VENV) build *.egg-info
