# Every target does its own set-up: a Python 3.11 to 3.13 with venv, make and a network to a package index suffice.
# PYTHON=python3.12 make test   chooses another interpreter.

VENV := .venv
BIN := $(VENV)/bin
# The site's own: Sphinx and tensorflow-privacy, which pins packaging==22.0, do not go together.
SITE_VENV := .venv-site
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
            $$p -c '$(SUITABLE)' 2>/dev/null && { echo $$p; break; }; done)
MNIST ?= ../shared/data/mnist
export TF_CPP_MIN_LOG_LEVEL := 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo selfcheck test test-mnist test-adapters lint types layers bench bench-quick bench-flower bench-ray \
  bench-nvflare docs site constraints clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

# One virtual environment; a stamp file per set of extras says what is in it.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' \
	  || { echo "secureagg needs Python 3.11, 3.12 or 3.13; none found (set PYTHON=/path/to/python)." >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.with-%: pyproject.toml $(wildcard constraints/*.txt) | $(VENV)/bin/python
	@tag=$$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])'); \
	  echo "Installing secureagg[$*] into $(VENV), pinned by constraints/$$tag.txt (about a minute the first time)"; \
	  $(BIN)/python -m pip install --quiet -c constraints/$$tag.txt -e '.[$*]'
	@touch $@

demo: $(VENV)/.with-all  ## a private federated round beside the same in the clear, on bundled data
	@$(BIN)/secureagg demo

selfcheck: $(VENV)/.with-all  ## laws, attacks and stored vectors, checked on this machine
	@$(BIN)/secureagg selfcheck

test: $(VENV)/.with-dev  ## all tests, with every code block of README and docs
	@$(BIN)/python -c 'import secureagg; secureagg.warm_up()'
	@$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

test-mnist: $(VENV)/.with-dev  ## private against plain training on the full MNIST in $(MNIST) (half an hour)
	@SECUREAGG_MNIST=$(MNIST) $(BIN)/python -m pytest -m mnist

# Engines pin differently (packaging, protobuf, rich, typer): each has a virtual environment of its own, of the Python
# its constraints are for.
ENGINES := flower nvflare ray
.venv-%/.with-engine: pyproject.toml $(wildcard constraints/*.txt)
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' \
	  || { echo "secureagg needs Python 3.11, 3.12 or 3.13; none found (set PYTHON=/path/to/python)." >&2; exit 1; }
	@tag=$$($(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])'); pins=constraints/$*-$$tag.txt; \
	  test -f $$pins || { echo "$$pins is missing: set PYTHON to one that constraints/$*-*.txt names." >&2; exit 1; }; \
	  echo "Installing secureagg[$*] into .venv-$*, pinned by $$pins"; \
	  $(PYTHON) -m venv .venv-$* \
	  && .venv-$*/bin/python -m pip install --quiet -c $$pins -e '.[$*]' 'pytest<9.2' hypothesis sybil
	@touch $@

ENGINE_TESTS := $(ENGINES:%=test-%)
.PHONY: $(ENGINE_TESTS)
test-adapters: $(ENGINE_TESTS)  ## the adapters' tests, each in its engine's own environment
$(ENGINE_TESTS): test-%: .venv-%/.with-engine
	@.venv-$*/bin/python -m pytest tests/adapters/$*

lint: $(VENV)/.with-dev  ## ruff: rules and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.with-dev  ## mypy --strict on both packages
	@$(BIN)/mypy

layers: $(VENV)/.with-dev  ## import-linter: imports go down only
	@$(BIN)/lint-imports

bench: $(VENV)/.with-dev  ## every benchmark; results are written from a clean tree only
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.page

bench-quick: $(VENV)/.with-dev  ## two minutes of the overhead suite, as ratios to the committed run
	@$(BIN)/python -m benchmarks --quick

bench-flower: .venv-flower/.with-engine  ## a private round in Flower beside Flower's own SecAgg+
	@.venv-flower/bin/python -m benchmarks.flower_secaggplus

bench-ray: .venv-ray/.with-engine  ## admission over a local Ray cluster beside admission in one process
	@.venv-ray/bin/python -m benchmarks.ray_admission

bench-nvflare: .venv-nvflare/.with-engine  ## NVFlare's own HE beside a private sum, in its simulator (ten minutes)
	@tag=$$(.venv-nvflare/bin/python -c 'import sys; print("py%d%d" % sys.version_info[:2])'); \
	  .venv-nvflare/bin/python -m pip install --quiet -c constraints/nvflare-$$tag.txt -e '.[nvflare,tenseal]'
	@.venv-nvflare/bin/python -m benchmarks.nvflare_he

docs: $(VENV)/.with-dev  ## run every code block of README and docs
	@$(BIN)/python -m pytest tests/test_documents.py

$(SITE_VENV)/.with-docs: pyproject.toml constraints/site.txt | $(VENV)/bin/python
	@echo "Installing secureagg[docs] into $(SITE_VENV), pinned by constraints/site.txt (half a minute the first time)"
	@$(BIN)/python -m venv $(SITE_VENV)
	@$(SITE_VENV)/bin/python -m pip install --quiet -c constraints/site.txt -e '.[docs]'
	@touch $@

site: $(SITE_VENV)/.with-docs  ## the documentation site in build/site; a warning fails it
	@$(SITE_VENV)/bin/python -m sphinx -q -W --keep-going -b html docs build/site
	@echo "build/site/index.html"

constraints:  ## pin today's versions for $(PYTHON) in constraints/
	@d=$$(mktemp -d) && $(PYTHON) -m venv $$d && $$d/bin/python -m pip install --quiet '.[dev]' \
	  && tag=$$($$d/bin/python -c 'import sys; print("py%d%d" % sys.version_info[:2])') \
	  && $$d/bin/python -m pip freeze --exclude secureagg > constraints/$$tag.txt && rm -r $$d \
	  && echo "wrote constraints/$$tag.txt"

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) .venv-* build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
