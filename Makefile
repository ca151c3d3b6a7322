# `make demo` and `make test` set up what they need in .venv and .tox, once.

# Those that pyproject.toml has tox environments for, and the one that `make test` compiles for.
VERSIONS := 3.14 3.13 3.12 3.11 3.10
COMPILED := 3.13
# Those that what the library needs is tested on in its oldest versions: one of them.
OLDEST := 3.10 3.11

# The first Python on the machine that is new enough; `make PYTHON=...` takes another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
PYTHON ?= $(shell for python in python3 $(addprefix python,$(VERSIONS)); do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin

# Pythons that pyenv has, but does not offer: tox looks for interpreters on the path.
comma := ,
space := $(subst ,, )
SHIMS := $(filter %/shims,$(subst :, ,$(PATH)))
PYENVS := $(sort $(or $(PYENV_ROOT),$(HOME)/.pyenv) $(SHIMS:/shims=))
export PATH := $(PATH):$(subst $(space),:,$(wildcard $(addsuffix /versions/*/bin,$(PYENVS))))

.PHONY: demo test lint test-others test-compiled interop-rust bench bench-quick format clean

demo: $(VENV)/.ready
	@$(BIN)/python -m examples.demo

# The default Python comes last, so that its count of tests does.
test: lint test-others
	$(BIN)/python -m pytest

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tox = $(BIN)/tox run-parallel --parallel-no-spinner -e $(subst $(space),$(comma),$(strip $(1)))

# tox fails if it finds none of them: the one in .venv may be the only Python here.
test-others: MINE = $(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# Run, not only looked for: pyenv has a shim for each, which fails for all but those chosen.
test-others test-compiled: HERE = $(shell for version in $(VERSIONS); do \
	for folder in $(subst :, ,$(PATH)); do \
	if $$folder/python$$version -c '' 2>/dev/null; then echo $$version; break; fi; done; done)
test-others: COMPILER = $(shell command -v $(CC))
test-others: OTHERS = $(filter-out $(MINE),$(HERE)) \
	$(if $(COMPILER),$(addprefix compiled-,$(filter $(COMPILED),$(HERE)))) \
	$(if $(filter $(OLDEST),$(HERE)),oldest)
test-others: $(VENV)/.ready-dev
	$(if $(COMPILER),,@echo "There is no C compiler: the compiled build is not tested." >&2)
	$(if $(strip $(OTHERS)),$(call tox,$(OTHERS)))

# An installation with the accelerator for each Python, and the tests on that.
test-compiled: $(VENV)/.ready-dev
	$(call tox,$(addprefix compiled-,$(HERE)))

# Programs on the published crates of protosocket, built from tests/interop/rust, against ours.
interop-rust: $(VENV)/.ready-dev
	@command -v cargo >/dev/null || { \
		echo "make interop-rust needs cargo: see https://rustup.rs" >&2; exit 1; }
	$(BIN)/python -m pytest tests/interop

bench: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks full

bench-quick: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks quick

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.ready: pyproject.toml
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { \
		echo "Python 3.10 or later is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; \
		exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	PROTOSOCKET_ACCELERATE=0 $(BIN)/python -m pip install -qq --editable ".[codegen,msgpack]"
	@touch $@

$(VENV)/.ready-%: $(VENV)/.ready
	$(BIN)/python -m pip install -qq --group $*
	@touch $@

clean:
	rm -rf $(VENV) .tox tests/interop/rust/target build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
