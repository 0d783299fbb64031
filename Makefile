# What CI runs is what you run: make lint types test
PYTHON ?= python

.PHONY: lint types test
lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	mkdir -p .mypy_path && ln -sfn .. .mypy_path/revisage
	MYPYPATH=.mypy_path $(PYTHON) -m mypy -p revisage.models -p revisage.pipeline -p revisage.trackers -m revisage.cli

test:
	$(PYTHON) -m pytest -q

# A wheel whose bytes follow from the commit
.PHONY: release
release:
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PYTHON) -m pip wheel --no-deps -w dist .
