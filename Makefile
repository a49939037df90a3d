# Every command sets up what it needs; `make install` alone is enough to work by hand with .venv/bin/python.
PYTHON ?= python3
PORT ?= 8000
SANDBOX_PORT ?=
EXIT ?=
SEED ?=
QUICK ?=
BASE ?=
ONLY ?=
SERVE ?=
VENV_PYTHON := .venv/bin/python
# A .venv that cannot do this was not finished, or its Python is gone: it is made anew.
BROKEN := $(shell { $(VENV_PYTHON) -c "import pip, django"; } >/dev/null 2>&1 || echo broken)
PIP := $(VENV_PYTHON) -m pip install --quiet --no-input --require-hashes --disable-pip-version-check
# uv takes a quarter of pip's time, but does not read pip's configuration: where it cannot reach PyPI itself, pip does it.
UV := $(VENV_PYTHON) -m uv pip install --quiet --require-hashes --python $(VENV_PYTHON)
INSTALL := install() { $(UV) "$$@" 2>/dev/null || $(PIP) "$$@"; }; install
# For every Python from 3.11 on, not only the one that compiles.
# Extras stay in the lines: the pip of Python 3.11 does not find the hash of `coverage[toml]` under `coverage`.
COMPILE := $(VENV_PYTHON) -m uv pip compile --upgrade --universal --generate-hashes --no-strip-extras --python-version 3.11 \
	--quiet --no-header --no-annotate --no-emit-index-url

# Images set it. Each of the many processes of a test run would compile our modules, and pytest's asserts, anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: FORCE help install install-dev demo run test check openapi openapi-changes sdk docs test-matrix drawing lock digests bench chaos nightly screenshots

help:
	@echo "make demo     a throw-away store, a scripted customer buys a key (PORT=8000, EXIT=1 ends afterwards)"
	@echo "make run      the same store kept under var/, without the customer"
	@echo "make test     the tests of every change, on SQLite and on PostgreSQL with Redis, with the coverage gates"
	@echo "make check    style, types, translations, layers, migrations, production settings, API document, documents"
	@echo "make openapi  docs/openapi.yaml anew; make openapi-changes: what changed for callers since the last release (or BASE=…)"
	@echo "make sdk      typed clients for Python and TypeScript, into sdk/"
	@echo "make docs     the documents as a site, into var/site/ (SERVE=1 serves it while you write)"
	@echo "make drawing  floors, rooms, their lines and what each imports"
	@echo "make install  .venv with what the store runs on"
	@echo "make lock     requirements*.txt anew from requirements*.in"
	@echo "make digests  the digests of the images that Dockerfile and docker-compose.yml name (needs Docker and its registry)"
	@echo "make bench    rates and costs of the hot paths, as one table"
	@echo "make chaos    bought once, never lost: the proof (SEED=1; QUICK=1 is a selection of three minutes)"
	@echo "make screenshots  every page of shop and staff in every state, into var/screenshots/ (ONLY=\"staff-order*\" takes some)"
	@echo "make test-matrix  the quick tests on each Python here and each Django it runs (ONLY=3.13/6.1 is one pair)"
	@echo "make nightly  all tests on both databases, more examples, mutants, longer kills: hours"

# Any Python that a machine calls python3 reads this.
define USABLE_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("BitLoot needs Python 3.11 or newer; %s is %s. Name a newer one: make install PYTHON=python3.12"
             % (sys.executable, sys.version.split()[0]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("%s cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" % sys.executable)
endef
export USABLE_PYTHON

install: .venv/installed
	@:

install-dev: .venv/installed-dev
	@:

.venv/made: $(if $(BROKEN),FORCE)
	@$(PYTHON) -c "$$USABLE_PYTHON"
	@$(PYTHON) -m venv --clear .venv
	@touch $@

# uv itself comes as it is locked for development, where there is one for this machine.
.venv/uv.txt: requirements-dev.txt .venv/made
	@sed -n '/^uv==/,/[^\\]$$/p' $< > $@
	@$(PIP) -r $@ || echo "There is no uv here; pip takes its time."

# Touched last: a run that did not get here is done again.
.venv/installed: requirements.txt .venv/uv.txt
	@echo "Installing $< into .venv ..."
	@$(INSTALL) -r $<
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@echo "Installing $< into .venv ..."
	@$(INSTALL) -r requirements.txt -r $<
	@touch $@

FORCE:

demo: install-dev
	@$(VENV_PYTHON) -m tools.dev.demo --port "$(PORT)" --sandbox-port "$(SANDBOX_PORT)" $(if $(filter-out 0,$(EXIT)),--exit)

run: install-dev
	@$(VENV_PYTHON) -m tools.dev.demo --keep --port "$(PORT)" --sandbox-port "$(SANDBOX_PORT)"

test: install-dev
	@$(VENV_PYTHON) -m tools.dev.test

check: install-dev
	@$(VENV_PYTHON) -m tools.dev.check

openapi: install-dev
	@$(VENV_PYTHON) -m tools.dev.openapi

openapi-changes: install-dev
	@$(VENV_PYTHON) -m tools.dev.openapi --changes $(BASE)

sdk: install-dev
	@$(VENV_PYTHON) -m tools.dev.sdk

test-matrix: install-dev
	@$(VENV_PYTHON) -m tools.dev.versions $(if $(ONLY),--only "$(ONLY)")

docs: install-dev
	@$(VENV_PYTHON) -m tools.dev.docs $(if $(filter-out 0,$(SERVE)),--serve)

drawing: install-dev
	@$(VENV_PYTHON) -m tools.dev.drawing

lock: install-dev
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) requirements-traces.in -o requirements-traces.txt
	@$(COMPILE) requirements-dev.in -o requirements-dev.txt

digests:
	@for image in $$(sed -n 's/^FROM \([^ @]*:[^ @]*\) .*/\1/p' Dockerfile; \
			sed -n 's/^ *image: \([^ @]*:[^ @]*\)$$/\1/p' docker-compose.yml); do \
		docker pull --quiet $$image >/dev/null && docker inspect --format '{{index .RepoDigests 0}}' $$image; done

bench: install-dev
	@$(VENV_PYTHON) -m tools.bench

chaos: install-dev
	@$(VENV_PYTHON) -m tools.chaos $(if $(SEED),--seed "$(SEED)") $(if $(filter-out 0,$(QUICK)),--quick)

screenshots: install-dev
	@$(VENV_PYTHON) -m tools.dev.screenshots $(if $(ONLY),"$(ONLY)")

nightly: install-dev
	@HYPOTHESIS_PROFILE=nightly $(VENV_PYTHON) -m tools.dev.test
	@$(VENV_PYTHON) -m tools.dev.mutation
	@CHAOS_ROUNDS=15 $(VENV_PYTHON) -m pytest bitloot/tests/test_embedded_kills.py --timeout 7200
	@$(VENV_PYTHON) -m tools.chaos
