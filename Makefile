# The commands of README.md; .ci/run calls the same ones.
# The environment is made once, in .venv; it is made again when pyproject.toml or constraints.txt change.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do command -v $$name && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
PEERS  := .venv-peers

# Real data sets for the tests that want them; everything else runs without.
ifneq ($(wildcard ../shared/data),)
export POTEMKIN_DATA ?= $(abspath ../shared/data)
endif

# Two workers with one thread each: small models gain nothing from more, and times stay comparable.
TEST_WORKERS ?= 2
TEST ?=

.PHONY: help demo test check format bench docs parity clean
.DEFAULT_GOAL := help

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No python3 found. Install Python 3.11 or newer, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11. Say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making the environment in $(VENV): once, a few minutes, most of it for PyTorch"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --no-warn-script-location \
		-c constraints.txt -e '.[test,dev]'
	@touch $@

demo: $(STAMP)  ## train a small CNN on the embedded digits, audit it, print the verdict and where the report is
	@mkdir -p runs
	$(BIN)/python -m potemkin.models.digits_cnn --seed 0 --out runs/digits-cnn.safetensors
	$(BIN)/potemkin audit digits-cnn digits --weights runs/digits-cnn.safetensors --threat 'Linf(0.1)' \
		--attack 'pgd(steps=50, restarts=5)' --seed 0 --out runs/demo --overwrite

test: $(STAMP)  ## the whole test suite (TEST=path::name for a part of it)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) $(TEST)

check: $(STAMP)  ## lint, types, and the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## what `make check` wants, done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) $(PEERS)/installed  ## the benchmarks of speed; each writes a JSON (kurakin.py and inner_mode.py train for hours: run them by hand)
	@test -n "$(POTEMKIN_DATA)" || { echo "The benchmarks need real pictures: set POTEMKIN_DATA to their folder"; exit 1; }
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/invariance.py
	POTEMKIN_PEERS_PYTHON=$(PEERS)/bin/python $(BIN)/python benchmarks/training.py

docs: $(STAMP)  ## check the links of every page and run the code of README and guide
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/e2e/test_docs.py

# The peers pin other versions of our own dependencies, so they live in an environment of their own. torchattacks
# asks for an old `requests` that nothing here calls, hence --no-deps.
$(PEERS)/installed: benchmarks/parity/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --progress-bar off --disable-pip-version-check -r $<
	$(PEERS)/bin/python -m pip install --progress-bar off --disable-pip-version-check --no-deps torchattacks==3.5.1
	@touch $@

parity: $(STAMP) $(PEERS)/installed  ## the same attacks in Foolbox, torchattacks, ART and pyautoattack; where we differ, and why
	OMP_NUM_THREADS=1 POTEMKIN_PEERS_PYTHON=$(PEERS)/bin/python $(BIN)/python benchmarks/parity/run.py

clean:  ## remove what make made
	rm -rf $(VENV) $(PEERS) runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
