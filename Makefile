# Thin: the logic lives in Python.
PYTHON := .venv/bin/python
export KANBAN_TEST_ENGINE_DATA ?= $(CURDIR)/.engine
export KANBAN_STARTED_AT := $(shell python3 -c 'import time; print(time.time())')

.PHONY: setup start cloud test test-flows test-all check demo reset bench types

setup: ## Install and build whatever changed
	@python3 local/install.py

start: setup ## Run everything on this machine until Ctrl-C
	@exec $(PYTHON) -m local.start

cloud: setup ## Everything but the function host, for `func start` in another terminal
	@exec $(PYTHON) -m local.start --settings local.settings.json

demo: setup ## REPO=<path or URL> CARD=<markdown file>: the main job without a browser
	@exec $(PYTHON) -m local.demo $(if $(REPO),--repo "$(REPO)") $(if $(CARD),--card "$(CARD)")

test: setup ## All tests, or those that ARGS name to pytest
	@$(if $(ARGS),,npm test --silent --prefix static_web)
	@exec $(PYTHON) -m pytest $(ARGS)

test-flows: setup ## What people do, on KANBAN_TEST_HOST=process|docker and KANBAN_TEST_STORE=tinydb|tables
	@exec $(PYTHON) -m pytest tests/flows $(ARGS)

test-all: test ## All tests, and the flows on every host and store
	@KANBAN_TEST_STORE=tables $(MAKE) --no-print-directory test-flows
	@KANBAN_TEST_HOST=docker $(MAKE) --no-print-directory test-flows
	@KANBAN_TEST_HOST=docker KANBAN_TEST_STORE=tables $(MAKE) --no-print-directory test-flows

check: setup ## Lint, format, types, architecture, docs, audits
	@exec $(PYTHON) -m local.check

types: setup ## Regenerate the web app's types from the API
	@$(PYTHON) -m local.openapi static_web/openapi.json && npm run --silent generate --prefix static_web

bench: setup ## NAME=<benchmark>
	@exec $(PYTHON) -m bench.$(or $(NAME),api)

reset: ## Empty the local cloud's data
	@exec python3 local/reset.py
