# make book, make test: the two commands. Each makes .venv first, once.
PROFILE ?= laptop
TIER ?= embedded
SATCLIP ?=
SWEEP ?=
FLAGS ?=
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# One thread a process: several processes share the cores, and a seeded run stays identical.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

# Every target of the pipeline: what it judges is set by PROFILE, TIER, SATCLIP and SWEEP. FLAGS are
# further ones of snakemake's, such as those of a cluster.
CONFIG = --config profile=$(PROFILE) tier=$(TIER) satclip="$(SATCLIP)" sweep="$(SWEEP)"

# The operating system's lock in place of snakemake's, which outlives a snakemake that was killed.
PIPELINE = $(BIN)/python -m locties._util.lock _build $(BIN)/snakemake --nolock --cores $(CORES) \
	--rerun-incomplete --keep-going --quiet rules host reason $(FLAGS) $(CONFIG) --

.PHONY: book pdf test check lint plan results publish notebooks clean
.DEFAULT_GOAL := book

# torch stands in the same command as the rest: asked for alone or by another package, pip would
# take its newest build, with several GB of CUDA.
.venv/.installed: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("locties needs Python 3.11 or newer, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar on -c constraints.txt -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The book at PROFILE=laptop (default), smoke, study or full, judged on the tier embedded (default)
# or also on TIER=open, and with SATCLIP=file.ckpt also on a released SatCLIP. An interrupted one
# goes on where it stopped.
book: plan
	$(PIPELINE) book
	@echo "The book is at $(CURDIR)/_build/html/index.html"

# The book on paper, printed by a Chromium, which is looked for before any work; a copy goes beside
# the pages, which then link to it.
pdf: .venv/.installed
	@$(BIN)/python -c "from locties_paper.site import pdf; pdf.browser()"
	$(PIPELINE) pdf
	@$(BIN)/python -c "from pathlib import Path; from locties_paper.site import pdf; \
		pdf.link(Path('_build/locties.pdf'), Path('_build/html'))"
	@echo "The book is at $(CURDIR)/_build/locties.pdf"

# What the tables of results would take: jobs, pairs, steps, FLOPs and hours. Nothing is run.
plan: .venv/.installed
	@$(BIN)/python -m locties_paper.study $(CORES) \
		$(BIN)/snakemake --dry-run --nolock --rerun-incomplete $(CONFIG) -- results

# The tables behind the book, under _build/$(PROFILE)/results; with SWEEP=claims, or the names of
# other sweeps in experiments.yaml, those of the study.
results: plan
	$(PIPELINE) results

# Copy them, and the encoders that ship with their cards, to where they are tracked.
publish: plan
	$(PIPELINE) publish

test: .venv/.installed lint
	$(BIN)/locties data build
	$(BIN)/pytest -n $(CORES) --dist loadfile
	$(BIN)/pytest -n $(CORES) --dist loadfile --nbval --nbval-sanitize-with tests/sanitise.cfg book

# The built book in a headless Chromium that reaches no other host.
check: .venv/.installed
	$(BIN)/pytest -m site tests/pages

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# Execute the committed notebooks in place, at smoke values, and put what they measure on record.
notebooks: .venv/.installed
	$(BIN)/python -m locties_paper.site.notebook book/*.ipynb

clean:
	rm -rf _build
