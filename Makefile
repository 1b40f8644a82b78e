# `make help` lists the targets. Each makes .venv first, once.
PROFILE ?= laptop
SWEEP ?= main
FLAGS ?=
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# One thread a process: several processes share the cores, and a seeded run stays identical.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
# Keep compiled modules: without them each process of the tests compiles for 5 s.
unexport PYTHONDONTWRITEBYTECODE
# Under another backend of matplotlib the notebooks would show no figures.
unexport MPLBACKEND

# Settings of every target of the pipeline. FLAGS go to snakemake, for example for a cluster.
CONFIG = --config profile=$(PROFILE)

# The operating system's lock replaces snakemake's, which outlives a snakemake that was killed.
LOCKED = $(BIN)/python -m locties._util.lock _build
PIPELINE = $(LOCKED) $(BIN)/snakemake --nolock --cores $(CORES) \
	--rerun-incomplete --keep-going --quiet rules host reason $(FLAGS) $(CONFIG) --

# Notebooks are tests too: nbval runs their cells and compares what they print. A file's tests stay
# in one process, since a notebook's cells need their order. Long files come first, so that the
# processes end together.
PYTEST = $(BIN)/pytest -q -n $(CORES) --dist loadfile --no-loadscope-reorder --durations=10
NBVAL = --nbval --nbval-sanitize-with tests/sanitise.cfg

.PHONY: help book pdf archive quick test check lint wheel plan results notebooks clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo "Example: make book PROFILE=smoke"

# One pip command installs torch with the rest. Otherwise pip would take torch's newest build, with
# several GB of CUDA.
.venv/.installed: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("locties needs Python 3.11 or newer, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar on -c constraints.txt -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Until there is a book, the committed notebooks give a first look: they ran with smoke parameters.
book: plan  ## Run the notebooks and render the book: PROFILE=smoke|laptop|full
	@if ! test -e _build/html/index.html; then mkdir -p _build; \
		$(LOCKED) $(BIN)/python -m locties_paper.site.build book _build/preview --preview \
			> _build/preview.log 2>&1 \
			|| { cat _build/preview.log; echo "The preview failed."; exit 1; }; \
		echo "A preview with small runs is at $(CURDIR)/_build/preview/index.html"; \
		echo "The book follows."; \
	fi
	$(PIPELINE) book
	@$(BIN)/python -m locties_paper.times $(PROFILE)
	@echo "The book is at $(CURDIR)/_build/html/index.html"

# Look for the browser before any work.
pdf: .venv/.installed  ## Print the book with a Chromium: _build/locties.pdf
	@$(BIN)/python -c "from locties_paper.site import pdf; pdf.require_chromium()"
	$(PIPELINE) pdf
	@echo "The book is at $(CURDIR)/_build/locties.pdf"

archive: book  ## Save the book as Markdown, with figures and results, in one dated zip
	@$(BIN)/python -m locties_paper.site.archive _build/html _build

plan: .venv/.installed  ## Show what the book runs and what it takes; run nothing
	@$(BIN)/python -m locties_paper.plan $(CORES) $(CONFIG)

results: .venv/.installed  ## Run a part of the study, its cost first: SWEEP=main|crossed|paper|scale|counts|turns|probes|left_out|own|recipe
	for part in pilot choose table baselines gather; do \
		$(LOCKED) $(BIN)/python -m locties_paper.fair_runs $$part \
			--sweep $(SWEEP) --processes $(CORES) || exit 1; done
	$(BIN)/python -m locties_paper.effects.table

quick: .venv/.installed  ## Lint and fast tests: before each commit
	@start=$$(date +%s); $(MAKE) --no-print-directory lint && $(BIN)/locties data build \
		&& $(PYTEST) -m "not slow and not site" tests src; status=$$?; \
		echo "make quick took $$(( $$(date +%s) - start )) s"; exit $$status

test: .venv/.installed  ## Lint, all tests, and the committed notebooks
	@start=$$(date +%s); $(MAKE) --no-print-directory lint && $(BIN)/locties data build \
		&& $(PYTEST) $(NBVAL) book tests/paper tests src; status=$$?; \
		echo "make test took $$(( $$(date +%s) - start )) s"; exit $$status

check: .venv/.installed  ## Test the built book in a headless Chromium
	$(BIN)/pytest -m site tests/pages

lint: .venv/.installed  ## Format, style, types, and the direction of imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

wheel: .venv/.installed  ## Build the wheel and use it in an environment of its own
	.ci/wheel

notebooks: .venv/.installed  ## Execute the committed notebooks in place, and record what they measure
	$(BIN)/python -m locties_paper.site.notebook book/*.ipynb

clean:  ## Delete all that was built
	rm -rf _build
