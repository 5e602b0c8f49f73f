# Two commands for a fresh machine with Python 3.11 or newer: `make quickstart` and `make test`.

VENV := .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(shell $(p) -c $(NEW_ENOUGH) 2>/dev/null && echo yes),$(p))) python3)
NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11))'

BIN := $(VENV)/bin
# -qq: pip's own chatter names folders of the machine; its errors still appear.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# Stamps, so that an environment is installed once and again only when what it is made from changes.
BASE := $(VENV)/.installed
TEST := $(VENV)/.installed-test
BENCH := $(VENV)/.installed-bench
ADAPTERS := $(VENV)/.installed-adapters
PEERS := $(VENV)/.installed-peers

RUNS := runs
QUICKSTART := $(RUNS)/mnist1d
QUICKSTART_WIDTH := 256
WORKERS := 2
# A limit where the system has `timeout` (macOS has not): lint + types + tests stay below 10 minutes, and 45 for the long form.
limit = $(if $(shell command -v timeout 2>/dev/null),timeout $(1))

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-full lint format types bench faults holdout coverage collapse law convnet schedules long-pack instruments scale pack-memory verdicts pages readme clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

quickstart: $(BASE)  ## from nothing to a law, a recommendation and a report on MNIST-1D (minutes)
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/noisescale fit $(QUICKSTART)
	$(BIN)/noisescale recommend $(QUICKSTART) --width $(QUICKSTART_WIDTH)
	$(BIN)/noisescale report $(QUICKSTART)

test: lint types  ## lint, types and tests (at most 10 minutes after installation)
	$(call limit,480) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test-full: lint types $(ADAPTERS)  ## the long form: full coverage draws, full cross tables (at most 45 minutes)
	$(call limit,2520) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --full --durations=20

lint: $(TEST)  ## style and documentation rules
	$(call limit,15) $(BIN)/ruff check .
	$(call limit,15) $(BIN)/ruff format --check .

format: $(TEST)  ## rewrite the sources in the common layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(TEST)  ## mypy --strict
	$(call limit,150) $(BIN)/mypy

bench: $(BENCH)  ## the quickstart's time; speed against a plain loop, torch.func and JAX, as ratios on this machine
	$(BIN)/python benchmarks/quickstart_time.py --folder $(RUNS)/timed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/conv_speed.py
	$(BIN)/python benchmarks/options_speed.py

faults: $(ADAPTERS)  ## kill sweeps 100 times, fill disks, damage files, lose nodes: nothing is lost or doubled (half an hour)
	$(BIN)/python benchmarks/faults.py

holdout: $(BASE)  ## regret of the recommendation at widths that were held out, beside its rivals
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python benchmarks/holdout.py

coverage: $(BASE)  ## how often the intervals hold the truth, on known laws and on the quickstart's own design
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python benchmarks/coverage.py --study $(QUICKSTART)

collapse: $(BASE)  ## whether runs at equal learning rate / batch size agree, beside a control
	$(BIN)/python benchmarks/collapse.py

readme: $(BASE)  ## write the quickstart's result into docs/quickstart.md
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python pages/study_result.py

convnet: $(BASE)  ## the best noise scale of convolutional networks, on a part of Fashion-MNIST (half an hour)
	$(BIN)/noisescale sweep examples/fashion-noise.toml --out $(RUNS)/fashion-noise
	$(BIN)/python pages/study_result.py --study $(RUNS)/fashion-noise --page docs/convnet.md --picture fashion-noise.svg

schedules: $(BASE)  ## whether a batch that grows stands in for a rate that falls: table and figure
	$(BIN)/python benchmarks/schedules.py

long-pack: $(BASE)  ## kill a pack of five minutes in its middle, five times, and compare it with one left alone
	$(BIN)/python benchmarks/long_pack.py

instruments: $(PEERS)  ## the instruments beside their peers: error against work, coverage, time; a pack measured at once
	$(BIN)/python benchmarks/instruments.py
	$(BIN)/python benchmarks/pack_measure.py
	$(BIN)/python benchmarks/monitor.py

scale: $(BASE)  ## sweeps of 1,000 to 100,000 tiny runs, and shards by the thousand (a quarter of an hour)
	$(BIN)/python benchmarks/scale.py

pack-memory: $(BASE)  ## the memory that packs were planned with, and what they take (a minute)
	$(BIN)/python benchmarks/pack_memory.py

verdicts: $(BASE)  ## verify the papers' claims on seeds never looked at, twice (two hours on two idle cores)
	$(BIN)/python benchmarks/verdicts.py
	$(BIN)/python pages/write_verdicts.py

pages: $(BASE)  ## write the pages of the verdicts from the stored verdicts (seconds)
	$(BIN)/python pages/write_verdicts.py

law: $(BASE)  ## the law from three disjoint seed sets and four designs (long)
	$(BIN)/python benchmarks/law.py

clean:  ## remove the environment, caches and build outputs; results in runs/ stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks pages -type d -name __pycache__ -prune -exec rm -rf {} +

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c $(NEW_ENOUGH) || { echo "noisescale needs Python 3.11 or newer. Got: $$($(PYTHON) --version 2>&1 | tail -n 1). Name another with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) >/dev/null || { rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment: install its venv module (Debian, Ubuntu: python3-venv)." >&2; exit 2; }
	@$(BIN)/python -c $(NEW_ENOUGH) || { echo "$(VENV) holds a Python older than 3.11. Remove it with: make clean" >&2; exit 2; }
	@echo "Installing noisescale into $(VENV); torch is large, so the first time takes minutes."
	@$(INSTALL) -e .
	@touch $@

$(TEST): $(BASE)
	@echo "Installing the tools of the tests into $(VENV)."
	@$(INSTALL) -e '.[test]'
	@touch $@

$(BENCH): $(BASE)
	@echo "Installing the rivals of the benchmarks into $(VENV)."
	@$(INSTALL) -e '.[bench]'
	@touch $@

$(ADAPTERS): $(BASE)
	@echo "Installing the libraries that adapters, exports and executors are tested with into $(VENV)."
	@$(INSTALL) -e '.[adapters,exports,ray,slurm]'
	@touch $@

# Without what they ask for: see pyproject.toml.
$(PEERS): $(BASE)
	@echo "Installing the peers of the instruments into $(VENV)."
	@$(INSTALL) --no-deps $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['peers'])")
	@touch $@
