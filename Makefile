# Two commands do everything on a fresh machine: `make demo` and `make test`; `make test-all` is thorough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Kills, fuzzing, many processes, the laboratory, packaging, the README, the site, odd graphs, and the GPU
# kernels in Triton's interpreter, in processes of their own.
THOROUGH := tests/trust tests/tools tests/site tests/hub/test_at_once.py tests/test_examples.py \
	tests/test_odd_graphs.py tests/test_packaging.py tests/test_readme.py \
	tests/training/test_ranks.py tests/training/test_distdgl.py tests/training/test_hosts.py \
	tests/attention/test_fused_cuda.py tests/attention/test_fused_cuda_compiles.py
PYTEST   := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all test-without-dgl docs lint install clean

install: $(READY)

# Pip reads constraints.txt, so everyone gets the tested versions; for Python 3.13 it finds no DGL.
$(READY): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[dev]'
	$(BIN)/python -m lipzoo.install_dgl
	touch $@

demo: $(READY)
	$(BIN)/lipzoo demo --out runs/demo --overwrite

test: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(PYTEST) -m "not slow" $(THOROUGH:%=--ignore=%) $(PYTEST_ARGS)

test-all: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(PYTEST) $(PYTEST_ARGS)

# The scenarios of tests/without_dgl.py where DGL is not installed at all.
test-without-dgl:
	$(PYTHON) -m venv .venv-without-dgl
	LIPZOO_WITHOUT_DGL=1 .venv-without-dgl/bin/python -m pip install --quiet -c constraints.txt --editable .
	.venv-without-dgl/bin/python tests/without_dgl.py $$(mktemp -d)

# A static site in docs/_build/html; the tutorials are run, and kept until they change.
docs: $(READY)
	$(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html

lint: $(READY)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/gallery docs/reference/api
