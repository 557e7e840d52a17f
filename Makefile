# Everything runs in .venv, which is created once; a stamp file per extra marks its installation.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DATA := $(or $(MAXCA_DATA),../shared/data)
READY ?= ready
WORKERS ?= 2
THREADS ?= 2

CASES ?= 5000
SEEDS ?= 1 2 3

.PHONY: demo test test-browser test-slurm lint fuzz bench experiments results docs viewer clean

demo: $(VENV)/.demo
	$(BIN)/maxca demo -o demo-output --overwrite

# `make test COVERAGE=1`, as in continuous integration, also requires that nine lines of ten are run; it takes a third longer.
COVERED = $(if $(COVERAGE),--cov=maxca --cov-report=term --cov-fail-under=90)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(COVERED)

# Reports in a real Chromium (apt-get install chromium) and axe-core (npm); `make test` skips this and says so.
test-browser: $(VENV)/.browser viewer
	MAXCA_BROWSER=1 $(BIN)/python -m pytest tests/browser

# Cohorts in jobs of a real SLURM of one node (apt-get install slurm-wlm munge), which is started and stopped.
test-slurm: $(VENV)/.dev
	MAXCA_SLURM=1 $(BIN)/python -m pytest tests/workflows/test_cohort_on_slurm.py

# Damaged files for every reader, and single flipped bits for every compressed format; prints a line per fault.
fuzz: $(VENV)/.dev
	$(BIN)/python tests/fuzz/fuzz.py --cases $(CASES) --seeds $(SEEDS) --flips 600

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy experiments benchmarks docs/figures

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/versus_peers.py $(DATA) --threads $(THREADS)

# The experiments on docs/results.md in full: days on two cores; each one resumes.
experiments: $(VENV)/.dev
	$(BIN)/maxca prepare hippocampus $(DATA)/hippocampus -o $(READY)/hippocampus
	$(BIN)/maxca prepare acdc $(DATA)/acdc -o $(READY)/cardiac
	$(BIN)/maxca prepare bids $(DATA)/oasis -o $(READY)/brain
	for name in block_swap block_swap_labels resolution variants; do $(BIN)/python experiments/$$name.py $(READY) || exit; done
	$(BIN)/python experiments/robustness.py $(DATA)
	$(BIN)/python experiments/smoothness.py $(DATA)
	$(BIN)/python experiments/contrast.py $(DATA)/ms/patient01
	$(BIN)/python experiments/complexity.py
	$(BIN)/python experiments/verdict.py $(DATA)

# docs/results.md and its appendix from the tables of benchmarks and experiments.
results: $(VENV)/.dev
	$(BIN)/python experiments/results.py

# site/index.html opens from disk; a warning, a broken link too, is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# NiiVue for the 3-D view of reports, bundled into one file; needs Node.js.
viewer: src/maxca/report/viewer/built/space.js

src/maxca/report/viewer/built/space.js: viewer/space.js viewer/package.json viewer/package-lock.json
	@command -v npm >/dev/null || { echo "the viewer is built by npm; install Node.js 18 or newer" >&2; exit 1; }
	cd viewer && npm ci --no-audit --no-fund && npm run build

clean:
	rm -rf $(VENV) demo-output site

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "maxca needs Python 3.11 or newer: none found; set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "maxca needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What an installation compiles, see hatch_build.py.
COMPILED := hatch_build.py src/maxca/native/kernels.c

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt $(COMPILED)
	$(INSTALL) -e '.[demo]'
	@touch $@

# The tests run the demo, the pages and the experiments too, so they need what those need.
$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt $(COMPILED)
	$(INSTALL) -e '.[demo,dev,train,hub,report,bench]'
	@touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(INSTALL) -e '.[browser]'
	@touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt $(COMPILED)
	$(INSTALL) -e '.[docs]'
	@touch $@

$(VENV)/.bench: $(BIN)/python pyproject.toml constraints.txt $(COMPILED)
	$(INSTALL) -e '.[bench]'
	@touch $@
