# `make demo`, `make check` and `make test` need git, make and Python 3.11 or later, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo install test check lint bench lock clean
.DEFAULT_GOAL := demo

install: .venv/installed

demo: .venv/installed
	$(BIN)/prune-sweep run digits

# One thread for each process: threads of several processes on the same cores wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadscope \
	--no-loadscope-reorder

test: .venv/installed
	$(PYTEST)

# For the habit of running it before each commit: all that is quick.
check: lint
	$(PYTEST) -m "not ray and not browser and not slow"

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

# Half an hour or less on two processors with nothing else to do; see docs/benchmarks.md.
BENCHMARKS := ceiling training pruned memory scoring torch_pruning_rival sweep_rival scale
bench: .venv/installed
	@set -e; for name in $(BENCHMARKS); do \
		echo "== $$name"; $(BIN)/python tests/benchmarks/$$name.py; done

# Debian ships Python without venv; where we may, we add it.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } \
		|| { echo "this Python has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

lock: .venv/installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --no-emit-index-url \
		--no-emit-find-links --no-header --output-file requirements.lock

clean:
	rm -rf .venv
