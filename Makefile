# The two that matter: `make run` starts genledger, `make test` proves it. Nothing else has to be installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_VENV := .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed

.PHONY: install run kafka test lint format bench soak docs lock clean

install: $(INSTALLED)

# Done again only when the lock or the project's own metadata has changed.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "genledger needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) can't make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: install
	$(BIN)/genledger serve

# A Kafka of one node on 127.0.0.1:9092, for those without docker: needs Java 17 and Maven. Ctrl-C ends it.
kafka: install
	$(BIN)/python -m tests.kafka.broker data/kafka

# Two processes: many tests wait (for a broker that is away, for a drain), and the other one uses the time.
test: install
	$(BIN)/python -m pytest -m "not soak" -n 2 --dist loadgroup --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What is measured beside us has an environment of its own. The table names a peer that this Python can't have.
bench: install
	@$(MAKE) --no-print-directory $(BENCH_INSTALLED) || echo "make bench: goes on without those peers" >&2
	$(BIN)/python -m benchmarks

$(BENCH_INSTALLED): requirements-bench.lock
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

soak: install
	$(BIN)/python -m pytest -m soak -s

docs: install
	$(BIN)/python -m streams.schemas docs
	$(BIN)/python -m genledger.reference docs

# Newer versions of what is used: look at the difference, run the tests, commit the lock.
lock: install
	$(BIN)/uv pip compile --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --quiet pyproject.toml --extra dev --output-file requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --quiet pyproject.toml --extra bench --output-file requirements-bench.lock

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
