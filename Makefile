# The project's commands. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-import setup-words gpu run build trainer test test-sherpa conformance fuzz concurrency lint doc core deny advisories check-all bench demo install

# cargo on the PATH, else in rustup's default folder.
CARGO ?= $(shell command -v cargo || ls $(HOME)/.cargo/bin/cargo /usr/local/cargo/bin/cargo 2>/dev/null | head -n 1 | grep . || echo cargo)
export CARGO
# Arguments for `expressd run`, `expressd bench`.
ARGS ?=
# The recording for `make bench`.
REPLAY ?= config/demo/demo.mp4
COMMA := ,
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -e 's/:[^#]*## /\t/' | awk -F '\t' '{ printf "  make %-13s %s\n", $$1, $$2 }'

setup: ## install the dependencies of building and running
	@sh config/setup/setup.sh run

setup-test:
	@sh config/setup/setup.sh test

setup-import: ## fetch third-party weights, for `expressd-train import`
	@sh config/setup/setup.sh import

setup-words: ## fetch and build PocketSphinx, for [speech] transcriber = "pocketsphinx"
	@sh config/setup/setup.sh words

gpu: ## fetch ONNX Runtime for NVIDIA's GPUs (1.4 GB, once): "auto" then uses one
	@sh config/setup/setup.sh gpu

# Further features, separated by commas. Daemon: sherpa. Trainer: train-torch, train-vulkan,
# train-cuda.
FEATURES ?=
DAEMON_FEATURES = $(if $(findstring sherpa,$(FEATURES)),--features sherpa)
# The library that the crate of sherpa-onnx links.
SHERPA_HERE = $(CURDIR)/.deps/sherpa
export SHERPA_ONNX_LIB_DIR ?= $(SHERPA_HERE)

run: setup ## set up, build, start the daemon: make run ARGS="--replay FILE"
	@$(MAKE) --no-print-directory build
	@exec $(CARGO) run --release --quiet $(DAEMON_FEATURES) --bin expressd -- run --demonstration $(ARGS)

build: ## build the daemon and its bundle's generated files; FEATURES=sherpa
	$(if $(DAEMON_FEATURES),@test "$(SHERPA_ONNX_LIB_DIR)" != "$(SHERPA_HERE)" || sh config/setup/setup.sh sherpa)
	$(CARGO) build --release $(DAEMON_FEATURES) --bin expressd
	$(CARGO) run --release --quiet $(DAEMON_FEATURES) --bin expressd -- prepare

TORCH = $(findstring train-torch,$(FEATURES))
# LIBTORCH, or LIBTORCH_USE_PYTORCH=1 in a virtual environment with torch 2.9.0, selects another
# LibTorch, for example one with CUDA.
export LIBTORCH ?= $(if $(LIBTORCH_USE_PYTORCH),,$(CURDIR)/.deps/libtorch)
# The built trainer's search path for LibTorch.
TORCH_ROOT = $(or $(LIBTORCH),$(shell python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))'))

trainer: setup ## build expressd-train (Burn: ten minutes on two cores) and the daemon; FEATURES=train-torch, train-vulkan, train-cuda
	@$(MAKE) --no-print-directory build
	$(if $(TORCH),@test "$(LIBTORCH)" != "$(CURDIR)/.deps/libtorch" || sh config/setup/setup.sh torch)
	$(CARGO) rustc --release --no-default-features --features train,capture,$(FEATURES) --bin expressd-train -- $(if $(TORCH),-C link-arg=-Wl$(COMMA)-rpath$(COMMA)$(TORCH_ROOT)/lib)

# The Python client's package, for the client tests.
test: export PYTHONPATH = $(CURDIR)/.deps/python
# Tests with missing requirements append their names to this list. With EXPRESSD_REQUIRE_MATERIAL
# set, they make `make test` fail.
test: export EXPRESSD_TESTS_NOT_RUN = $(abspath $(TARGET_DIR))/tests-not-run.txt
test: setup-test ## set up and run every test: the daemon's, then the trainer's
	@$(MAKE) --no-print-directory build
	@rm -f "$$EXPRESSD_TESTS_NOT_RUN"
	$(CARGO) test --release
	$(CARGO) test --release --features corpus --lib train::extract
	$(CARGO) test --release --no-default-features --features train,capture --lib --bins
	@test ! -s "$$EXPRESSD_TESTS_NOT_RUN" || sh tests/not_run.sh "$$EXPRESSD_TESTS_NOT_RUN"

test-sherpa: setup-test ## the tests of [speech] transcriber = "sherpa:<folder>"
	@$(MAKE) --no-print-directory build FEATURES=sherpa
	$(CARGO) test --release --features sherpa --lib transcribe
	$(CARGO) test --release --features sherpa --test it transcripts

conformance: setup-test ## RFC 6455 on raw sockets: the cases of Autobahn's suite, and mutated frames
	$(CARGO) test --release --test it -- protocol::conformance protocol::mutations

# Seconds for each target. FUZZ selects targets by a part of their names, for example
# FUZZ=mutated_headers.
FUZZ_SECONDS ?= 120
FUZZ ?= mutated_
FUZZ_INPUTS = $(abspath $(TARGET_DIR))/fuzz
# The input of a run that was aborted, to check it again: make fuzz FUZZ=mutated_headers
# FUZZ_REPLAY=target/fuzz/container.input
FUZZ_REPLAY ?=

fuzz: export EXPRESSD_FUZZ_SECONDS = $(FUZZ_SECONDS)
fuzz: export EXPRESSD_FUZZ_INPUTS = $(FUZZ_INPUTS)
# For this crate alone: Cargo.toml excludes the dependencies, which are thus built once.
fuzz: export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS = true
fuzz: export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS = true
fuzz: setup-test ## mutated inputs for every parser: make fuzz FUZZ_SECONDS=600
	@mkdir -p $(FUZZ_INPUTS)
	$(if $(FUZZ_REPLAY),EXPRESSD_FUZZ_REPLAY=$(abspath $(FUZZ_REPLAY))) $(CARGO) test --release --features corpus --lib -- $(FUZZ) --nocapture

concurrency: setup-test ## the queues between threads, under a model checker
	$(CARGO) test --release --features shuttle --lib concurrency::

lint: setup-test ## formatting and lints, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	$(CARGO) clippy --release --no-default-features --features train,capture --all-targets -- -D warnings

doc: setup ## the library's documentation, warnings denied
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --release --no-deps --lib --document-private-items

core: setup-test ## build and test the library without features
	@$(MAKE) --no-print-directory build
	$(CARGO) test --release --no-default-features --lib

DENY_VERSION = 0.20.2
DENY = .deps/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

$(DENY):
	$(CARGO) install --locked --version $(DENY_VERSION) --root .deps/cargo-deny-$(DENY_VERSION) cargo-deny

deny: $(DENY) ## licences, sources and versions of the dependencies, by config/deny.toml
	$(DENY) --config config/deny.toml check licenses bans sources

advisories: $(DENY) ## known vulnerabilities of the dependencies; needs the network
	$(DENY) --config config/deny.toml check advisories

check-all: lint doc core test conformance concurrency test-sherpa deny ## every check there is: 90 minutes and more from nothing

bench: setup ## the tables of tests/bench/README.md: make bench REPLAY=FILE ARGS="--subjects 2"
	@$(MAKE) --no-print-directory build
	@exec $(CARGO) run --release --quiet --bin expressd -- bench --replay $(REPLAY) $(ARGS)

demo: ## generate the demonstration recording
	@sh config/setup/setup.sh demo
	/usr/bin/python3 config/demo/make_demo.py config/demo/demo.mp4

install: ## copy the built daemon into PREFIX (default /usr/local); after make build
	install -D -m 755 $(TARGET_DIR)/release/expressd $(DESTDIR)$(PREFIX)/bin/expressd
	install -d $(DESTDIR)$(PREFIX)/lib/expressd $(DESTDIR)$(PREFIX)/share/expressd $(DESTDIR)$(PREFIX)/lib/systemd/system
	cp -a .deps/onnxruntime/. $(DESTDIR)$(PREFIX)/lib/expressd/
	test ! -e .deps/gpu || cp -aL --remove-destination .deps/gpu/. $(DESTDIR)$(PREFIX)/lib/expressd/
	cp -a .deps/silero_vad/silero_vad_16k_sequence.onnx $(DESTDIR)$(PREFIX)/lib/expressd/
	test ! -e .deps/pocketsphinx || cp -a .deps/pocketsphinx $(DESTDIR)$(PREFIX)/lib/expressd/
	test ! -e .deps/sherpa || cp -a .deps/sherpa $(DESTDIR)$(PREFIX)/lib/expressd/
	cp -a models $(DESTDIR)$(PREFIX)/share/expressd/
	install -D -m 644 config/demo/demo.mp4 $(DESTDIR)$(PREFIX)/share/expressd/config/demo/demo.mp4
	test -e $(DESTDIR)$(SYSCONFDIR)/expressd/expressd.toml || install -D -m 644 config/expressd.toml $(DESTDIR)$(SYSCONFDIR)/expressd/expressd.toml
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' systemd/expressd.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/expressd.service
