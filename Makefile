# Every target does its own set-up, says what it does, and works again when run twice.
#
#   make PYTHON=python3.12 test    another Python (3.11 or newer)
#   make VENV=/tmp/venv test       another place for the virtual environment
#   make BENCH="--networks MobileNet" bench    options of benchmarks/peers.py
#   make WORKERS=8 test            more processes than two for the tests and the fuzzer
#   make SECONDS=60 SEED=1 fuzz    how long, and which mutations (else others each time); PACED=1: as many files on every machine
#
# The project is installed as users get it, not in editable mode: what is tested is what is shipped.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
SECONDS ?= 600

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := pyproject.toml setup.py $(shell find edgecnn converters -type f \
	\( -name '*.py' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.c' \
	-o -path '*/pages/*' -o -path '*/completions/*' \))

# Modules of a checkout must not stand in for the installed ones.
unexport PYTHONPATH PYTHONHOME

# A copied or broken environment is made anew: its scripts name the place where it was made.
ifneq ($(shell cat $(VENV)/.created 2>/dev/null && $(BIN)/python -c 'print("works")' 2>/dev/null),$(abspath $(VENV)) works)
$(shell rm -f $(VENV)/.created)
endif

define CHECK_MACHINE
import sys
name = sys.executable or "python3"
if sys.version_info < (3, 11):
    sys.exit("%s is Python %s; edgecnn needs 3.11 or newer: make PYTHON=python3.12 ..." % (name, sys.version.split()[0]))
try:
    import ensurepip, pathlib, shutil, sysconfig, venv
except ImportError:
    sys.exit(name + " cannot make virtual environments; install that (Debian, Ubuntu: apt install python3-venv)")
if not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").exists():
    sys.exit(name + " has no C headers; install them (Debian, Ubuntu: apt install python3-dev)")
if not any(map(shutil.which, ("cc", "gcc", "clang"))):
    sys.exit("there is no C compiler; install one (Debian, Ubuntu: apt install gcc; macOS: xcode-select --install)")
endef
export CHECK_MACHINE

define TEST_REQUIREMENTS
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["optional-dependencies"]["test"]))
endef
export TEST_REQUIREMENTS

# $(call say,step,text without commas)
say = @echo "$(if $(STEPS),[$(1)/$(STEPS)] )$(2)"

# Refuses to remove a folder that is no virtual environment.
REMOVE_VENV = if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
	echo "$(VENV) is no virtual environment; remove it, or name another place with VENV=..." >&2; exit 1; fi; rm -rf "$(VENV)"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-arm test-pythons fuzz sanitize bench lint types docs debug clean

help:
	@echo "make demo    train a small CNN on handwritten digits, convert it, classify with edgecnn, compare"
	@echo "make test    run the tests (10 minutes on two cores)"
	@echo "make test-all  the slow tests too: those of whole networks, of training and of clusters (15 minutes)"
	@echo "make test-pythons  build the source distribution and run its tests on Python 3.11 to 3.14 (10 minutes)"
	@echo "make sanitize  run the tests of C code under AddressSanitizer, UBSan and ThreadSanitizer"
	@echo "make fuzz    try mutated model files (SECONDS=600); what it finds stays in fuzz/corpus"
	@echo "make test-arm  build the wheels for ARM and x86-64 and test them on emulated CPUs (Debian; 10 minutes)"
	@echo "make bench   measure against LiteRT, ONNX Runtime and OpenVINO (an hour; BENCH=\"--help\" for less)"
	@echo "make lint    ruff and cython-lint"
	@echo "make types   mypy"
	@echo "make docs    the documentation's site, in build/site"
	@echo "make debug   run the tests on a build with bounds checks and assertions"
	@echo "make clean   remove everything that these made"

demo: STEPS := 8
demo: $(VENV)/.project $(VENV)/.demo
	@$(BIN)/python examples/digits_demo.py --first-step 4

test: STEPS := 4
test: $(VENV)/.project $(VENV)/.test
	$(call say,4,Running the tests)
	@$(BIN)/pytest -q -n $(WORKERS)

test-all: STEPS := 4
test-all: $(VENV)/.project $(VENV)/.test
	$(call say,4,Running the tests and the slow ones)
	@$(BIN)/pytest -q -n $(WORKERS) -m "not sweep"

test-arm:
	@PYTHON="$(PYTHON)" .ci/arm.sh

test-pythons:
	@PYTHON="$(PYTHON)" WORKERS="$(WORKERS)" .ci/pythons.sh

sanitize:
	@PYTHON="$(PYTHON)" WORKERS="$(WORKERS)" .ci/sanitize.sh

fuzz: $(VENV)/.project $(VENV)/.test
	@$(BIN)/python -P fuzz/run.py --jobs $(WORKERS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(PACED),--paced)

bench: STEPS := 4
bench: $(VENV)/.project $(VENV)/.bench
	$(call say,4,Measuring; networks are built on first use and kept in benchmarks/output)
	@$(BIN)/python benchmarks/peers.py $(BENCH)

lint: $(VENV)/.lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PATH="$(abspath $(BIN)):$$PATH" cython-lint --max-line-length=120 edgecnn

types: $(VENV)/.lint $(VENV)/.project
	@$(BIN)/mypy

# mkdocs.yml makes warnings errors. What is said of mkdocs' own future is none of the site's.
docs: $(VENV)/.docs $(VENV)/.project
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

debug: $(VENV)/.created $(VENV)/.test
	@echo "Building with bounds checks and assertions"
	@rm -rf build $(VENV)/.project
	@EDGECNN_DEBUG=1 $(PIP) install .
	@rm -rf build
	@$(BIN)/pytest -q -n $(WORKERS)

clean:
	@$(REMOVE_VENV)
	rm -rf build dist edgecnn.egg-info examples/output benchmarks/output .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find edgecnn converters tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c "$$CHECK_MACHINE"
	$(call say,1,Creating a virtual environment in $(VENV))
	@$(REMOVE_VENV)
	@$(PYTHON) -m venv "$(VENV)"
	@echo "$(abspath $(VENV))" > $@

# build/lib may hold modules that have gone from the sources; the objects beside it stay good.
$(VENV)/.project: $(VENV)/.created $(SOURCES)
	$(call say,2,Building and installing edgecnn: its C kernels are compiled for each instruction set)
	@rm -rf build/lib* build/bdist*
	@$(PIP) install .
	@touch $@

# What has no wheel for this machine is left out; the demo then says so.
$(VENV)/.demo: $(VENV)/.created examples/requirements.txt
	$(call say,3,Installing TensorFlow and LiteRT and scikit-learn and Pillow to compare with (large downloads))
	@all=yes; while read -r requirement; do \
		$(PIP) install --only-binary :all: "$$requirement" > $(VENV)/pip.log 2>&1 || { all=no; \
			echo "      not available here: $${requirement%%>*} ($$(tail -n 1 $(VENV)/pip.log))"; }; \
	done < examples/requirements.txt; if [ $$all = yes ]; then touch $@; fi

$(VENV)/.test: $(VENV)/.created pyproject.toml
	$(call say,3,Installing pytest and hypothesis and TensorFlow to compare with (large downloads))
	@$(BIN)/python -c "$$TEST_REQUIREMENTS" > $(VENV)/test-requirements.txt
	@$(PIP) install -r $(VENV)/test-requirements.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.created benchmarks/requirements.txt
	$(call say,3,Installing TensorFlow and the engines to compare with (large downloads))
	@$(PIP) install -r benchmarks/requirements.txt
	@touch $@

$(VENV)/.lint: $(VENV)/.created
	@echo "Installing ruff, cython-lint and mypy"
	@$(PIP) install ruff cython-lint mypy
	@touch $@

$(VENV)/.docs: $(VENV)/.created pyproject.toml
	@echo "Installing mkdocs and its theme"
	@$(PIP) install $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@
