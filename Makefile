# What a developer or a curious user needs: `make demo`, `test`, `test-slow`, `integrations`, `screenshots`.
.PHONY: demo test test-slow integrations screenshots lint clean
PYTHON ?= python3
BIN := .venv/bin
PROCESSES ?= 2
# Neighbours in the list share what their module builds, so each process takes a half and helps out at the end.
TESTS := $(BIN)/pytest -n $(PROCESSES) --dist worksteal
INSTALLED := .venv/.installed

# Installed once; again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/build_demo.py demo
	$(BIN)/scalselect run demo/pool.json --model demo/checkpoint --budget 16% --output demo/run
	$(BIN)/python examples/show_chosen.py demo/run

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(TESTS)

test-slow: $(INSTALLED)
	$(TESTS) -m slow

# The trainers themselves, each in an environment of its own under .integrations: 4 GB, some minutes.
integrations: $(INSTALLED)
	PYTHONPATH=examples $(BIN)/python -m integrations.run

# The pictures of docs/report.md, of the demo's page; Chromium must be installed.
screenshots: demo
	$(BIN)/python examples/take_screenshots.py demo/run docs/images

clean:
	rm -rf .venv .integrations demo dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
