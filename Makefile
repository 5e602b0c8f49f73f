# On a fresh machine with Python 3.11 or newer, two commands suffice: `make quickstart` and `make test`.

VENV := .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(shell $(p) -c $(NEW_ENOUGH) 2>/dev/null && echo yes),$(p))) python3)
NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11))'

BIN := $(VENV)/bin
# -qq, because pip's progress messages name folders of the machine. Its errors still appear.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# Stamp files, so that an environment is installed again only when its requirements change.
BASE := $(VENV)/.installed
TEST := $(VENV)/.installed-test
BENCH := $(VENV)/.installed-bench
ADAPTERS := $(VENV)/.installed-adapters
PEERS := $(VENV)/.installed-peers

RUNS := runs
QUICKSTART := $(RUNS)/mnist1d
QUICKSTART_WIDTH := 256
WORKERS := 2
# The commit before models, data and losses of users were widened.
OLD ?= 09700f7
# Time limits, where the system has `timeout` (macOS does not). `make test` should take at most 10 minutes and `make test-full` 45
# on two free cores; a machine that is slow or in use has several times as much.
limit = $(if $(shell command -v timeout 2>/dev/null),timeout $(1))

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-full lint format types bench earlier-speed faults holdout recommend coverage collapse law convnet schedules long-pack instruments scale estimates pack-memory start-up large-text language verdicts pages readme clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

quickstart: $(BASE)  ## install, then sweep, fit, recommend and report on MNIST-1D (minutes)
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/noisescale fit $(QUICKSTART)
	$(BIN)/noisescale recommend $(QUICKSTART) --width $(QUICKSTART_WIDTH)
	$(BIN)/noisescale report $(QUICKSTART)

test: lint types  ## run lint, types and tests (at most 10 minutes after installation)
	$(call limit,3000) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test-full: lint types $(ADAPTERS)  ## run the long tests too: all coverage draws, all combinations (at most 45 minutes)
	$(call limit,8100) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --full --durations=20

lint: $(TEST)  ## check style and docstrings
	$(call limit,45) $(BIN)/ruff check .
	$(call limit,45) $(BIN)/ruff format --check .

format: $(TEST)  ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(TEST)  ## run mypy --strict
	$(call limit,450) $(BIN)/mypy

bench: $(BENCH)  ## time the quickstart, and the trainer against a plain loop, torch.func and JAX
	$(BIN)/python benchmarks/quickstart_time.py --folder $(RUNS)/timed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/conv_speed.py
	$(BIN)/python benchmarks/options_speed.py
	$(BIN)/python benchmarks/transformer_speed.py

faults: $(ADAPTERS)  ## kill sweeps 100 times, fill disks, damage files, remove nodes; check that nothing is lost (half an hour)
	$(BIN)/python benchmarks/faults.py

earlier-speed: $(BASE)  ## time the trainer beside that of an earlier commit, OLD (ten minutes)
	-git worktree remove --force $(RUNS)/earlier 2>/dev/null
	git worktree add --force --detach $(RUNS)/earlier $(OLD)
	$(BIN)/python benchmarks/earlier_speed.py $(RUNS)/earlier
	git worktree remove --force $(RUNS)/earlier

holdout: $(BASE)  ## measure the regret of the recommendation at held-out widths
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python benchmarks/holdout.py

recommend: $(BASE)  ## compare recommendations with guesses and random search on problems of users (hours)
	$(BIN)/python benchmarks/recommend.py $(if $(BASELINE),--baseline $(BASELINE))

coverage: $(BASE)  ## measure the coverage of the intervals, on planted problems and on the quickstart's design
	$(BIN)/python benchmarks/coverage.py --keep $(RUNS)/coverage --workers $(WORKERS) $(if $(BASELINE),--baseline $(BASELINE))
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python benchmarks/coverage.py --study $(QUICKSTART)

collapse: $(BASE)  ## test whether runs at equal learning rate / batch size agree
	$(BIN)/python benchmarks/collapse.py

readme: $(BASE)  ## write the quickstart's result into docs/quickstart.md
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python pages/study_result.py

convnet: $(BASE)  ## write docs/convnet.md: convolutional networks on a part of Fashion-MNIST (half an hour)
	$(BIN)/noisescale sweep examples/fashion-noise.toml --out $(RUNS)/fashion-noise
	$(BIN)/python pages/study_result.py --study $(RUNS)/fashion-noise --page docs/convnet.md --picture fashion-noise.svg

schedules: $(BASE)  ## test whether a growing batch size can replace a falling learning rate
	$(BIN)/python benchmarks/schedules.py

long-pack: $(BASE)  ## kill a pack of five minutes five times, and compare it with an undisturbed pack
	$(BIN)/python benchmarks/long_pack.py

instruments: $(PEERS)  ## compare the instruments with other tools; measure a pack at once
	$(BIN)/python benchmarks/instruments.py
	$(BIN)/python benchmarks/pack_measure.py
	$(BIN)/python benchmarks/monitor.py

scale: $(BASE)  ## measure sweeps of 1,000 to 100,000 tiny runs (a quarter of an hour)
	$(BIN)/python benchmarks/scale.py

estimates: $(BASE)  ## compare estimated times with real ones, alone and beside another sweep (a quarter of an hour)
	$(BIN)/python benchmarks/estimates.py

pack-memory: $(BASE)  ## compare planned and used memory of packs (a minute)
	$(BIN)/python benchmarks/pack_memory.py

language: $(BASE)  ## sweep transformers on a language of known entropy, and test the recommendations (half an hour)
	$(BIN)/python benchmarks/language.py --folder $(RUNS)

large-text: $(BASE)  ## train on a text of 4 GB with 2 GB of memory (minutes)
	$(BIN)/python benchmarks/large_text.py

start-up: $(BASE)  ## how long --help, status and the import take, as ratios to an empty Python program (a minute)
	$(BIN)/noisescale sweep examples/mnist1d.toml --out $(QUICKSTART)
	$(BIN)/python benchmarks/start_up.py --study $(QUICKSTART)

verdicts: $(BASE)  ## verify the papers' claims on two seed sets, and write their pages (two hours on two idle cores)
	$(BIN)/python benchmarks/verdicts.py
	$(BIN)/python pages/write_verdicts.py

pages: $(BASE)  ## write the pages that need no runs: the reference of the spec, and the stored verdicts (seconds)
	$(BIN)/python pages/spec_reference.py
	$(BIN)/python pages/write_verdicts.py

law: $(BASE)  ## fit the law on four disjoint seed sets, in four designs (long)
	$(BIN)/python benchmarks/law.py

clean:  ## remove the environment, caches and build outputs; keep runs/
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks pages -type d -name __pycache__ -prune -exec rm -rf {} +

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c $(NEW_ENOUGH) || { echo "noisescale needs Python 3.11 or newer. Got: $$($(PYTHON) --version 2>&1 | tail -n 1). Choose another with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) >/dev/null || { rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment: install its venv module (Debian, Ubuntu: python3-venv)." >&2; exit 2; }
	@$(BIN)/python -c $(NEW_ENOUGH) || { echo "$(VENV) holds a Python older than 3.11. Remove it with: make clean" >&2; exit 2; }
	@echo "Installing noisescale into $(VENV); torch is large, so the first installation takes minutes."
	@$(INSTALL) -e .
	@touch $@

$(TEST): $(BASE)
	@echo "Installing the tools of the tests into $(VENV)."
	@$(INSTALL) -e '.[test]'
	@touch $@

$(BENCH): $(BASE)
	@echo "Installing the other programs of the benchmarks into $(VENV)."
	@$(INSTALL) -e '.[bench]'
	@touch $@

$(ADAPTERS): $(BASE)
	@echo "Installing the libraries for the tests of adapters, exports and executors into $(VENV)."
	@$(INSTALL) -e '.[adapters,exports,ray,slurm]'
	@touch $@

# Without their dependencies; pyproject.toml says why.
$(PEERS): $(BASE)
	@echo "Installing the tools that the instruments are compared with into $(VENV)."
	@$(INSTALL) --no-deps $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['peers'])")
	@touch $@
