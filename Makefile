# Two commands set everything up on a fresh clone: `make run` and `make test`. Both make .venv on the way, once.

# The first Python that is new enough and can make a virtual environment; `make run PYTHON=/path/to/python3` overrules.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$python; break; fi; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null \
	build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --build-deps-for editable \
	--no-config --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

.PHONY: help install run test lint fuzz bench load lock clean

help:
	@echo 'make run      start the quickstart: two sample origins, a load balancer, a DNS server'
	@echo 'make test     run the tests'
	@echo 'make lint     ruff, basedpyright, import-linter'
	@echo 'make fuzz     look for inputs that break a parser, with atheris; ARGS="--seconds 60 request"'
	@echo 'make bench    compare with HAProxy, nginx, Envoy, Caddy, BIND, Knot, PowerDNS and NSD; ARGS="--only http dns"'
	@echo 'make load     one minute of locust against the quickstart; ARGS="--users 50"'
	@echo 'make install  make .venv and install Penstock into it; every other command does this first'
	@echo 'make lock     resolve the dependencies anew into requirements*.lock'
	@echo 'make clean    remove .venv and everything built'

install: .venv/.run

run: .venv/.run
	@exec $(BIN)/penstock demo

test: .venv/.dev
	$(BIN)/pytest $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo

fuzz: .venv/.dev
	$(BIN)/python tests/fuzz/atheris_run.py $(ARGS)

bench: .venv/.run
	$(BIN)/python loadtests/bench.py $(ARGS)

load: .venv/.load
	$(BIN)/python loadtests/load.py $(ARGS)

# The stamps .run, .dev and .load say which lock has been installed; each is made anew when its lock changes.
$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Penstock needs Python 3.11 or newer with its venv module; none was found.' \
		'Debian and Ubuntu: apt-get install python3 python3-venv. Or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3' >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.run
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.load: requirements-load.lock .venv/.run
	$(PIP) install --require-hashes -r requirements-load.lock
	@touch $@

# Hashes of every file the index has for a version, so one lock serves every platform. No configuration of this machine's
# pip is read, and no index is named in the result.
lock: $(BIN)/python
	$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip --quiet install pip-tools
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --extra dev --output-file requirements-dev.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --extra load --output-file requirements-load.lock pyproject.toml

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
