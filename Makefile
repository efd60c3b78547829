# Everything runs in .venv, which the first target that needs it sets up.
# PYTHON=/path/to/python3.12 chooses the Python it is made with.
PYTHON ?=
VENV := .venv
RUN := $(VENV)/bin/python
# Named after the folder: a moved or copied checkout is set up anew.
STAMP := $(VENV)/.ready-$(shell pwd | cksum | cut -d' ' -f1)
# EXTRA=cuda or EXTRA=tpu adds JAX for that machine; it stays until .venv is removed.
EXTRA ?=
SETUP = PYTHON="$(PYTHON)" sh scripts/setup.sh --stamp $(STAMP) --extra "$(EXTRA)"
TEST_FLAGS ?=
# Test files run in this many processes; a file's fixtures stay in one.
TEST_WORKERS ?= 2
# The costliest files come first (tests/conftest.py), so that both end together.
PYTEST = JAX_PLATFORMS=cpu $(RUN) -m pytest -n $(TEST_WORKERS) --dist loadfile \
	--no-loadscope-reorder
DEMO_FLAGS ?=
WATCH_FLAGS ?=
LOCK_FLAGS ?=

.PHONY: help setup test test-slow demo watch docs lint format lock clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | \
		while IFS='|' read -r name text; do printf '%-15s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## create or update .venv from requirements/lock.txt (EXTRA=cuda or tpu)
	@test -z "$(EXTRA)" || $(SETUP)
	@echo "ready: $(RUN)"

test: $(STAMP) ## run the tests (TEST_FLAGS="-k cache" passes flags to pytest)
	$(PYTEST) $(TEST_FLAGS)

test-slow: $(STAMP) ## run the tests marked slow, which `make test` leaves out
	$(PYTEST) -m slow $(TEST_FLAGS)

demo: $(STAMP) ## collect, train, align, evaluate, report: runs/demo/report.md
	$(RUN) -m experiments.demo $(DEMO_FLAGS)

watch: $(STAMP) ## play one layout with the policy that ships, and draw it: runs/watch
	$(RUN) -m experiments.watch $(WATCH_FLAGS)

docs: $(STAMP) ## build the documentation into site/ (a broken link ends it)
	NO_COLOR=1 $(VENV)/bin/zensical build --clean --strict
	@echo "open site/index.html"

lint: $(STAMP) ## ruff check, ruff format --check, mypy on the public API
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP) ## sort imports and format in place
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

lock: $(STAMP) ## resolve requirements/*.txt anew (LOCK_FLAGS=--upgrade for newest)
	$(RUN) scripts/lock.py $(LOCK_FLAGS)

clean: ## remove .venv, caches and build leftovers; data/ and runs/ stay
	rm -rf $(VENV) .bootstrap .pytest_cache .ruff_cache .mypy_cache .cache site build dist *.egg-info
	find sas_jax experiments tests scripts -name __pycache__ -prune -exec rm -rf {} +

# A deleted or broken interpreter counts as no environment at all.
$(RUN):
	@$(SETUP)

$(STAMP): pyproject.toml requirements/lock.txt scripts/bootstrap.py | $(RUN)
	@$(SETUP)
