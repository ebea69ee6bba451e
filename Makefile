# `make` or `make help` lists the targets.  Everything happens in .venv; nothing outside this folder is touched.

PYTHON ?= python3
OLDEST_PYTHON ?= $(PYTHON)
NEWEST_PYTHON ?= $(PYTHON)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := pytest -n auto --dist worksteal
SOURCES := setup.py pyproject.toml $(foreach kind,pyx pxd pyx.in,$(wildcard pymec/kernels/*/*.$(kind)))

.DEFAULT_GOAL := help
.PHONY: help demo test smoke fuzz guided test-debug test-serial asan ubsan tsan valgrind soak huge mutants
.PHONY: memtest docs annotate speed profile profile-quick lint sdist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/built: $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

# One stamp per set of extras, so that `make demo` installs no more than it needs.  The installed pymec satisfies
# the requirement: pip adds what the extras ask for, and compiles nothing.
$(VENV)/installed-%: $(VENV)/built
	$(BIN)/pip install --quiet "pymec[$*]"
	@touch $@

demo: $(VENV)/installed-profile ## install, run the paper's experiment, write report/index.html
	$(BIN)/pymec report

test: $(VENV)/installed-test ## install and run the tests
	$(BIN)/$(PYTEST)

smoke: $(VENV)/installed-test ## a minute's choice of the tests
	$(BIN)/$(PYTEST) -m smoke

fuzz: $(VENV)/installed-test ## 20,000 random cases of every property that a convolution has: some hours
	$(BIN)/$(PYTEST) --hypothesis-profile=fuzz tests/test_properties.py

guided: $(VENV)/installed-test ## wrong arguments, chosen by what they reach (atheris): ten minutes
	$(BIN)/pip install --quiet atheris
	for property in arguments sizes; do \
		$(BIN)/python tests/guided.py $$property -max_total_time=300 -max_len=512 -len_control=0 || exit 1; done

docs: $(VENV)/installed-docs ## build the site into docs/_build/html, warnings as errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

test-debug: ## build with every Cython check and .pyx lines on, for NEWEST_PYTHON: every kernel against its oracle
	test -x .venv-debug/bin/python || $(NEWEST_PYTHON) -m venv .venv-debug
	PYMEC_DEBUG=1 PYMEC_PROFILE=1 .venv-debug/bin/pip install --quiet ".[test]"
	.venv-debug/bin/$(PYTEST) -m "not memory and not slow" -k oracle tests/test_algorithms.py tests/test_grads.py
	.venv-debug/bin/$(PYTEST) -m "not memory and not slow" tests/test_paper.py tests/test_defects.py
	.venv-debug/bin/$(PYTEST) tests/test_tracking.py -k native_stacks
	.venv-debug/bin/$(PYTEST) -m smoke

# Beside the oldest versions that are allowed, where there are wheels of them: numpy 2.0 has none for Python 3.13.
test-serial: $(VENV)/installed-dev ## build the sdist without OpenMP, for OLDEST_PYTHON: a choice of the tests
	rm -rf dist && $(BIN)/python -m build --sdist --outdir dist
	test -x .venv-serial/bin/python || $(OLDEST_PYTHON) -m venv .venv-serial
	PYMEC_NO_OPENMP=1 .venv-serial/bin/pip install --quiet "$$(echo dist/*.tar.gz)[test]" \
		$$(.venv-serial/bin/python -c 'import sys; print("-c tests/oldest.txt" * (sys.version_info < (3, 13)))')
	.venv-serial/bin/$(PYTEST) -m "not memory and not slow" tests/test_threads.py tests/test_paper.py
	.venv-serial/bin/$(PYTEST) -m smoke

# A sanitizer's runtime is loaded before Python, which was built without it.  Its first report ends the test process.
# ThreadSanitizer learns from LLVM's tool Archer which threads OpenMP has synchronised: no report is suppressed.
SANITIZED := --hypothesis-profile=sanitized -m "not memory and not slow" $(foreach name, \
	algorithms grads paper properties register_tiles direct_grouped depthwise_grads direct_dots slices planes \
	direct_planes layouts winograd tiled zero_copy,tests/test_$(name).py)
CLANG ?= clang

asan ubsan: ## run the kernels' tests under GCC's AddressSanitizer, or its UndefinedBehaviorSanitizer
tsan: ## the same under ThreadSanitizer: needs clang (CLANG=clang-19) and LLVM's libomp with its tool Archer

asan: SANITIZER = address
ubsan: SANITIZER = undefined
asan ubsan:
	test -x .venv-$@/bin/python || $(PYTHON) -m venv .venv-$@
	PYMEC_SANITIZE=$(SANITIZER) CC=gcc .venv-$@/bin/pip install --quiet ".[test]"
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD=$$(gcc -print-file-name=lib$@.so) .venv-$@/bin/$(PYTEST) $(SANITIZED)

tsan:
	test -x .venv-tsan/bin/python || $(PYTHON) -m venv .venv-tsan
	PYMEC_SANITIZE=thread CC=$(CLANG) .venv-tsan/bin/pip install --quiet ".[test]"
	OMP_TOOL_LIBRARIES=$$($(CLANG) -print-file-name=libarcher.so) \
		TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" \
		LD_PRELOAD=$$($(CLANG) -print-file-name=libclang_rt.tsan-x86_64.so) .venv-tsan/bin/$(PYTEST) $(SANITIZED)

valgrind: $(VENV)/installed-test ## one call of every algorithm under valgrind's memcheck
	$(BIN)/python tests/one_pass.py --valgrind

soak: $(VENV)/installed-test ## 200,000 mixed calls: right, and in flat memory
	$(BIN)/python tests/soak.py

huge: $(VENV)/installed-test ## arrays of more than 2³¹ elements, three operations: needs 20 GiB, and about two hours
	$(BIN)/python tests/huge.py

mutants: $(VENV)/installed-test ## faults put into the code by hand, which the tests must find
	$(BIN)/python tests/mutants.py

memtest: $(VENV)/installed-profile ## predicted against measured bytes: layer × algorithm × batch × threads × dtype
	$(BIN)/python profiling/memory_sweep.py

annotate: $(VENV)/installed-test ## write the annotated HTML of every kernel beside its source
	PYMEC_ANNOTATE=1 $(BIN)/python setup.py build_ext --inplace

speed: $(VENV)/installed-profile ## time mec, which is tuned MEC, against im2col on the paper's layers
	$(BIN)/python profiling/speed.py

# Only what the stores in profiling/results don't know is measured: an interrupted run goes on where it stopped.
profile: $(VENV)/installed-profile ## measure all that the README and the site show, and write the tables: an hour
	$(BIN)/python profiling/all.py

profile-quick: $(VENV)/installed-profile ## the same of a few layers, with short timings: under five minutes
	$(BIN)/python profiling/all.py --quick

lint: $(VENV)/installed-dev ## ruff, cython-lint, codespell, mypy, stubtest; no Python inside the kernels
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(abspath $(BIN)):$$PATH" cython-lint pymec
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tests/stubtest-allowlist.txt $(STUBS)
	$(BIN)/$(PYTEST) tests/annotated.py

STUBS := $(subst /,.,$(patsubst %.pyi,%,$(wildcard pymec/kernels/*/*.pyi)))

sdist: $(VENV)/installed-dev ## build the sdist and the wheel into dist/
	$(BIN)/python -m build --outdir dist

clean: ## remove what was built, but not the environments
	rm -rf build dist report docs/_build docs/auto_tutorials docs/_static/annotated docs/reference/kernels *.egg-info
	rm -f pymec/kernels/*.c pymec/kernels/*.so $(foreach kind,c so html,pymec/kernels/*/*.$(kind))
	rm -f $(patsubst %.in,%,$(wildcard pymec/kernels/*/*.pyx.in)) pymec/kernels/shared/_blas_int.pxi
