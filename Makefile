# make book, make test: the two commands. Each makes .venv first, once.
PROFILE ?= laptop
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# One thread a process: several processes share the cores, and a seeded run stays identical.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

.PHONY: book test check lint results publish notebooks clean
.DEFAULT_GOAL := book

# torch stands in the same command as the rest: asked for alone or by another package, pip would
# take its newest build, with several GB of CUDA.
.venv/.installed: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("locties needs Python 3.11 or newer, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar on -c constraints.txt -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The book at PROFILE=laptop (default), smoke or full. An interrupted one goes on where it stopped.
book: .venv/.installed
	$(BIN)/snakemake --cores $(CORES) --config profile=$(PROFILE) --rerun-incomplete --quiet rules host reason -- book
	@echo "The book is at $(CURDIR)/_build/html/index.html"

# The tables behind the book, under _build/$(PROFILE)/results.
results: .venv/.installed
	$(BIN)/snakemake --cores $(CORES) --config profile=$(PROFILE) --rerun-incomplete --quiet rules host reason -- results

# Copy them, and the encoder of the book's pages, to where they are tracked.
publish: .venv/.installed
	$(BIN)/snakemake --cores $(CORES) --config profile=$(PROFILE) --rerun-incomplete --quiet rules host reason -- publish

test: .venv/.installed lint
	$(BIN)/locties data build
	$(BIN)/pytest -n $(CORES) --dist loadfile
	$(BIN)/pytest -n $(CORES) --dist loadfile --nbval --nbval-sanitize-with tests/sanitise.cfg book

# The built book in a headless Chromium that reaches no other host.
check: .venv/.installed
	$(BIN)/pytest -m site tests/site

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Execute the committed notebooks in place, at smoke values, and put what they measure on record.
notebooks: .venv/.installed
	$(BIN)/python -m locties.notebook book/*.ipynb

clean:
	rm -rf _build
