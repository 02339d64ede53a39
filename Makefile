# Every target sets up what it needs. A fresh machine needs Python 3.11 or later with its headers, a C compiler
# and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
# Tests wait for each other's threads and for the disk more than they compute, so twice as many processes as CPUs are
# not too many. PYTEST_JOBS=0 runs them one after the other.
PYTEST_JOBS ?= 4
PYTEST_ARGS ?=
BENCH_ARGS ?=
POWERCUT_ARGS ?=
# For each of the fuzzers.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= segment hint manifest directory
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
BENCH_INSTALLED := $(VENV)/.bench-installed
FUZZ_INSTALLED := $(VENV)/.fuzz-installed
CONSOLE_INSTALLED := console/node_modules/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

SOURCES := $(shell find src -name '*_cy.py' -o -name '*.pxd' -o -name '*.h')

.PHONY: console console-check console-compare console-pictures browser help build test demo lint format check package bench guard sanitize sanitize-threads powercut fuzz clean distclean

help:
	@echo "make test      set up and run the tests         make demo      set up and show the store at work"
	@echo "make lint      style, format and types          make check     lint and test"
	@echo "make format    rewrite the sources' format      make package   build, install and try a wheel"
	@echo "make bench     measure against other stores     make build     compile what changed, in place"
	@echo "make sanitize  the engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make sanitize-threads  threads under ThreadSanitizer"
	@echo "make guard     count the instructions of each operation against those kept"
	@echo "make powercut  cut the power under stores on real file systems (as root)"
	@echo "make fuzz      fuzz what reads files, a while"
	@echo "make console   build the console's bundle       make console-check  is the bundle what the sources make"
	@echo "make console-pictures  take the pictures of docs/console.md"
	@echo "make browser   install a Chromium, for the tests of the console"
	@echo "make clean     remove what was built            make distclean and the virtual environment"

$(INSTALLED): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -e '.[cli,codecs,dev,otel,server,top]'
	@touch $(INSTALLED) $(BUILT)

# The installation has compiled everything already; the second make looks at the stamps afresh and so does not
# compile it again.
build: $(INSTALLED)
	@$(MAKE) --no-print-directory --silent $(BUILT)

$(BUILT): $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $(BUILT)

test: build
	$(BIN)/python -m pytest -m "not packaging and not lint" -n $(PYTEST_JOBS) --dist worksteal $(PYTEST_ARGS)

demo: build
	$(BIN)/flash-kv demo

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m lint -n $(PYTEST_JOBS) tests/meta $(PYTEST_ARGS)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test

package: build
	$(BIN)/python -m pytest -m packaging $(PYTEST_ARGS)

# The package itself is installed already, so this brings only what the extra names.
$(BENCH_INSTALLED): $(INSTALLED)
	$(PIP) install --quiet 'flash-kv[bench]'
	@touch $(BENCH_INSTALLED)

bench: $(BENCH_INSTALLED) build
	$(BIN)/flash-kv bench $(BENCH_ARGS)

# Where there is no valgrind nothing is counted, and it says so.
guard: build
	$(BIN)/python -m benchmarks.instructions --check

# Builds of their own, in build/sanitize.
sanitize: build
	$(BIN)/python tests/sanitizers/run.py address -n $(PYTEST_JOBS) --dist worksteal $(PYTEST_ARGS)

sanitize-threads: build
	$(BIN)/python tests/sanitizers/run.py thread $(PYTEST_ARGS)

# What is missing here and cannot be installed is not tried, and the runner says so.
powercut: build
	@missing=; for tool in linux.uml mkfs.xfs mkfs.ext4; do command -v $$tool >/dev/null || missing=$$tool; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get install --yes --no-install-recommends user-mode-linux xfsprogs e2fsprogs || echo "not installed: $$missing"; \
	fi
	$(BIN)/python tests/powercut/run.py $(POWERCUT_ARGS)
	FLASH_KV_TEST_POWERCUTS=all $(BIN)/python -m pytest tests/powercut $(PYTEST_ARGS)

$(FUZZ_INSTALLED): $(INSTALLED)
	$(PIP) install --quiet 'flash-kv[fuzz]'
	@touch $(FUZZ_INSTALLED)

fuzz: $(FUZZ_INSTALLED) build
	@set -e; for target in $(FUZZ_TARGETS); do $(BIN)/python -m fuzz $$target $(FUZZ_SECONDS); done

# The bundle is committed, so that nobody but who changes the console needs Node.js.
$(CONSOLE_INSTALLED): console/package.json console/package-lock.json
	cd console && npm ci --no-audit --no-fund --loglevel=error
	@touch $(CONSOLE_INSTALLED)

console: $(CONSOLE_INSTALLED)
	cd console && npm run --silent build

# The console's own tests, and whether the committed bundle is, byte for byte, what the sources make.
console-check:
	@if ! command -v npm >/dev/null; then echo "console-check: skipped, there is no npm here"; \
	elif ! $(MAKE) --no-print-directory $(CONSOLE_INSTALLED); then \
		echo "console-check: skipped, npm cannot install what it needs"; \
	else $(MAKE) --no-print-directory console-compare; fi

console-compare: $(CONSOLE_INSTALLED)
	cd console && npm test --silent && CONSOLE_OUT=../build/console npm run --silent build
	diff --recursive --brief build/console src/flash_kv/server/console

console-pictures: build
	$(BIN)/python -m benchmarks.console_pictures

# As root on Debian; elsewhere, and where it cannot be had, the tests that need it are skipped and say so.
browser:
	@if command -v chromium >/dev/null || [ -n "$$FLASH_KV_TEST_CHROMIUM" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; } >/dev/null 2>&1 \
			|| echo "not installed: chromium"; \
	else echo "there is no Chromium here; install one or set FLASH_KV_TEST_CHROMIUM"; fi

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(BUILT)
	find src -name '*_cy.c' -delete -o -name '*_cy.html' -delete -o -name '*_cy.*.so' -delete
	find src tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) console/node_modules
