# `make help` lists the targets.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help install run test lint bench-fire bench-queue bench-stores screenshot soak desktop-tables prove-cutover docs clean

# The first Python that is new enough; `make PYTHON=/path/to/python3` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && exit; done)
VENV_PYTHON := .venv/bin/python
# Many tests wait for processes, so there is work for one worker more than there are cores (CI has two).
# `make test WORKERS=0` runs one test after the other.
WORKERS ?= 3
EXTRAS := celery,solar,service,embedded,test,docs
# The environment is made anew for another Python or folder, and completed when a requirement changes.
MADE_FOR := $(shell { $(PYTHON) -c 'import sys; print(sys.executable, sys.version)'; pwd; } 2>/dev/null | cksum | tr ' ' -)
STAMP := .venv/.installed-$(MADE_FOR)-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' -)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## create .venv and install what run and test need

$(STAMP):
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed; found: $$(python3 --version 2>&1 || echo none)." >&2; \
		echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module with pip." >&2; \
		echo "On Debian and Ubuntu: apt-get install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@rm -f .venv/.installed-*
	@if [ ! -e .venv/.made-for-$(MADE_FOR) ] || ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
		echo "Creating .venv with $$($(PYTHON) --version)"; \
		rm -rf .venv && $(PYTHON) -m venv .venv && touch .venv/.made-for-$(MADE_FOR); fi
	@echo "Installing the packages of constraints.txt into .venv (a minute or two the first time)"
	@$(VENV_PYTHON) -m pip install -qq --disable-pip-version-check --no-input \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(STAMP)
	@echo "Installed"

run: install ## everything on this machine: database, web, two schedulers, a worker, Celery Beat; ctrl-C stops it
	@$(VENV_PYTHON) -m backend.standalone

# The tests start some hundreds of interpreters: each would compile the project anew.
test: install lint ## every check, then every test
	@env -u PYTHONDONTWRITEBYTECODE $(VENV_PYTHON) -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: install ## style, types, layers, missing migrations
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@$(VENV_PYTHON) -m mypy
	@.venv/bin/lint-imports
	@$(VENV_PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

bench-queue: install ## enqueue, drain and idle latency of the queue, beside the bare statements
	@$(VENV_PYTHON) -m benchmarks.queue

bench-stores: install ## the stores side by side: enqueue, claim and settle rates, and how soon each wakes a worker
	@$(VENV_PYTHON) -m benchmarks.stores

bench-fire: install ## 1,000 and 10,000 schedules due together: ours and Celery Beat's scheduler, side by side
	@$(VENV_PYTHON) -m benchmarks.fire

screenshot: install ## pictures of the admin for the README, by headless Chromium
	@$(VENV_PYTHON) -m docs.screenshots

soak: install ## the long tests that `make test` leaves out
	@$(VENV_PYTHON) -m pytest -m soak

desktop-tables: install ## after a new migration: the script by which desktop mode makes its tables
	@$(VENV_PYTHON) -m backend.desktop.prepared

prove-cutover: install ## schedules handed from Celery Beat to PG and back under random kills; then every occurrence is checked
	@$(VENV_PYTHON) -m tests.proof

docs: install ## the documentation, into docs/_build/html
	@$(VENV_PYTHON) -m sphinx -W --keep-going -q docs docs/_build/html

clean: ## remove the environment, the demo's data and server, and every cache
	@if [ -x $(VENV_PYTHON) ]; then $(VENV_PYTHON) -m backend.standalone.database discard; fi
	rm -rf .venv .downbeat .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
