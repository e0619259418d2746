# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: demo test test-fast test-faults test-long test-shard test-fuzz bench lint docs clean

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "== Python environment: $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "r1deploy needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "== installing python3-venv"; $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q python3-venv; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# What the controller itself calls, and nothing else: git, rsync, ssh.
$(VENV)/.tools: | $(VENV)/.ready
	@for tool in git rsync ssh; do command -v $$tool >/dev/null || missing=1; done; \
	  if [ -n "$$missing" ]; then echo "== installing git, rsync, openssh-client"; \
	    $(SUDO) apt-get update -q >/dev/null && $(SUDO) apt-get install -y -q git rsync openssh-client >/dev/null; fi
	@touch $@

# ENGINE=vllm serves with the real vLLM, on CPUs.
demo: $(VENV)/.ready $(VENV)/.tools
	@R1DEPLOY=$(CURDIR)/$(BIN)/r1deploy r1deploy/lab/demo.sh

# Two workers, each with a lab of its own. KEEP=1 leaves the labs.
define run-tests
@$(BIN)/python -m pytest -n 2 -m "$(1)" $(2); code=$$?; [ -n "$$KEEP" ] || $(BIN)/r1deploy lab down >/dev/null 2>&1; exit $$code
endef

test: $(VENV)/.ready $(VENV)/.tools
	$(call run-tests,not faults and not long)

# Sites, bundles, deliveries, weights, profiles, serve modes, the real engine: each a scenario of minutes.
test-long: $(VENV)/.ready $(VENV)/.tools
	$(call run-tests,long)

# The whole matrix of steps and faults; about an hour on two cores.
test-faults: $(VENV)/.ready $(VENV)/.tools
	$(call run-tests,faults)

# One of 8 parts of test-long and test-faults together, each within 20 minutes: SHARD=0..7, by default another one with
# each commit.
SHARD ?= $(shell echo $$(($$(git rev-list --count HEAD) % 8)))
test-shard: $(VENV)/.ready $(VENV)/.tools
	@echo "== part $(SHARD) of 8 of the long tests"
	$(call run-tests,long or faults,--shard $(SHARD)/8)

# Every border with 100 000 inputs each; hours.
test-fuzz: $(VENV)/.ready
	@FUZZ_EXAMPLES=100000 $(BIN)/python -m pytest -n 2 tests/unit/test_fuzz*.py

# Everything side by side, an hour and more: benchmarks/RESULTS.md and results.json. BENCH="rerun cli" runs these parts
# and leaves the others' numbers; ROUNDS=3 is quicker.
bench: $(VENV)/.ready $(VENV)/.tools
	@$(BIN)/python -m benchmarks $(BENCH) $(if $(ROUNDS),--rounds $(ROUNDS))

test-fast: $(VENV)/.ready
	@$(BIN)/python -m pytest -m "not lab"

lint: $(VENV)/.ready
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/ansible-lint --offline --profile production -q

# What the program and the roles say of themselves; then the site, its links checked.
docs: $(VENV)/.ready
	@$(BIN)/python docs/reference.py
	@$(BIN)/python -m tests.roles.readmes
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo "== docs/_build/index.html"

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist docs/_build
