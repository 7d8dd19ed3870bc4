# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
STAMP := $(VENV)/.installed

.PHONY: help venv demo test test-fast coverage check format bench clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

venv: $(STAMP)  ## .venv with every extra that the tests, the demo and our side of the benchmarks use

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,test,check]'
	touch $@

demo: venv  ## fine-tune a real model on real data, on this machine, in about five minutes
	rm -rf runs/demo
	$(BIN)/crucible run sl_basic preset=demo --manifest local --run-dir runs/demo

test: venv  ## the whole suite, slow tier included (WORKERS=2)
	$(PYTEST)

test-fast: venv  ## the suite without the packaged real model
	$(PYTEST) -m 'not slow'

coverage: venv  ## the suite without the real model, measured: fails below the floor of CONTRIBUTING.md
	$(PYTEST) -m 'not slow' --cov --cov-fail-under=90

bench: venv  ## the benchmarks of benchmarks/README.md: two hours, on an otherwise idle machine
	$(BIN)/python -m benchmarks.import_time
	$(BIN)/python -m benchmarks.noop_stage_run --repeats 3
	$(BIN)/python -m benchmarks.checkpoint_cost --threads 1
	$(BIN)/python -m benchmarks.rendering.run --repeats 5
	$(BIN)/python -m benchmarks.rendering.step_time
	$(BIN)/python -m benchmarks.sampling.run --repeats 5
	$(BIN)/python -m benchmarks.serving.run
	$(BIN)/python -m benchmarks.sft_vs_trl.run --repeats 3
	$(BIN)/python -m benchmarks.grpo_vs_trl.run --repeats 3
	$(BIN)/python -m benchmarks.rl_learning.run --task smollm2
	$(BIN)/python -m benchmarks.rl_overlap.run --repeats 3

check: venv  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: venv  ## rewrite to the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what was built here (runs/ stays)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info src/*.egg-info
