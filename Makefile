# make quick   a first search on real data, and what it found
# make test    everything that must hold: lint, types, import layers, tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quick test test-long lint picture clean

quick: .venv/installed
	$(BIN)/tuner quick digits
	$(BIN)/tuner analyze digits-quick

test: .venv/installed lint
	$(BIN)/pytest -m "not long"

test-long: .venv/installed
	$(BIN)/pytest -m long

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

picture: .venv/installed
	$(BIN)/python docs/picture.py docs/quick.svg

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check torch -e '.[test]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
