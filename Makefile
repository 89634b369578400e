# make quick   a first search on real data, and what it found
# make test    everything that must hold: lint, types, import layers, tests
# make crash   every crash test, however long
PYTHON ?= python3
BIN := .venv/bin
# A test process a core, each of one thread, as small models gain nothing from more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: quick test test-long crash lint picture clean

quick: .venv/installed
	$(BIN)/tuner quick digits
	$(BIN)/tuner analyze digits-quick

test: .venv/installed lint
	$(PYTEST) -m "not long"

test-long: .venv/installed
	$(PYTEST) -m long

crash: .venv/installed
	$(PYTEST) tests/crash

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

picture: .venv/installed
	$(BIN)/python docs/picture.py docs/quick.svg
	$(BIN)/python docs/screenshot.py docs/report.png
	$(BIN)/python docs/live_screenshot.py docs/live.png

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check torch -e '.[test]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
