# Two commands: `make demo` shows facetd at work, `make test` proves what it promises.
# Both set up what they need; scripts/setup says which packages where it may not install them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# Where the real faces are. Without them the tests use synthetic ones and say what is not proved.
FACETD_DATA ?= ../shared/data
REAL_FACES := $(FACETD_DATA)/lfw_mobilefacenet128_lowres_derived/lfw_mobilefacenet128_lowres_derived
export FACETD_DATA

# How often `make torture` kills the daemon.
KILLS ?= 500
# How long `make fuzz` takes over each target.
SECONDS_EACH ?= 60

.PHONY: help demo test torture fuzz build deb licences runtime load-test soak real-model compare sweep shipped-models demo-model fixtures clean

help:
	@echo "make demo         a broker, a stream of synthetic faces and the daemon, in one process"
	@echo "make test         every test; with FACETD_DATA on real faces too"
	@echo "make torture      kill -9 at random and at every failpoint, $(KILLS) times, with a real Kafka (an hour)"
	@echo "make fuzz         libFuzzer on whatever takes foreign bytes, $(SECONDS_EACH) seconds each (needs a nightly Rust)"
	@echo "make deb          a Debian package of facetd as a service, in target/debian"
	@echo "make licences     whether what facetd is built from has licences and sources that deny.toml allows"
	@echo "make load-test    faces a second through the engine and through Kafka, beside each stage's ceiling"
	@echo "make soak         half an hour (SECONDS) at 80 % (RATE) of capacity: does memory, descriptors or the state grow"
	@echo "make real-model   train the model for the real faces of FACETD_DATA (minutes; needs torch, 5 GB)"
	@echo "make compare      other clustering methods, the model's stages and facetd on those faces, as a table (an hour; needs torch)"
	@echo "make sweep        the paper's tables 5 and 6 on those faces (half an hour; needs torch)"
	@echo "make shipped-models  train the shipped models again, for 128, 256 and 512 values (an hour; needs torch)"
	@echo "make demo-model   train the demo's model again"

demo: build
	target/release/facetd demo

build: runtime page/dist/index.html
	cargo build --release --locked

# The page that the binary serves. A browser of its own is not fetched with it.
page/dist/index.html: page/package-lock.json page/index.html page/vite.config.ts $(shell find page/src page/public -type f 2>/dev/null)
	@scripts/setup system runtime
	PATH="$$(scripts/setup node):$$PATH" && cd page && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

page: page/dist/index.html

# ONNX Runtime's library, and the packages to build with.
runtime:
	@scripts/setup system build runtime
	@scripts/setup runtime >/dev/null

test:
	scripts/test

torture: runtime
	KILLS=$(KILLS) cargo test --release --locked --features failpoints --test survives_kill -- --nocapture

# Without a sanitizer: the one place with unsafe code maps files, which no target does. Memory is counted all the same.
fuzz:
	cargo fuzz --version >/dev/null || cargo install cargo-fuzz --locked
	cargo +nightly fuzz build --sanitizer none
	for target in $$(cargo fuzz list); do \
		echo "== $$target"; \
		cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(SECONDS_EACH) -max_len=65600 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1; \
	done

# As a service: program, unit, models, ONNX Runtime, man pages, completions.
deb: build
	cargo deb --version >/dev/null 2>&1 || cargo install cargo-deb --locked --version 3.8.0
	mkdir -p target/completions
	target/release/facetd man --out target/man
	target/release/facetd completions bash >target/completions/facetd.bash
	target/release/facetd completions zsh >target/completions/_facetd
	target/release/facetd completions fish >target/completions/facetd.fish
	cargo deb --locked --no-build --strip --output target/debian/

# What deny.toml allows to be built in. The tool runs for seconds and takes minutes to optimise.
licences:
	cargo deny --version >/dev/null 2>&1 || CARGO_PROFILE_RELEASE_OPT_LEVEL=0 cargo install cargo-deny --locked --version 0.20.2
	cargo deny --locked check bans licenses sources

load-test: runtime
	cargo bench --locked --bench load

soak: runtime
	cargo bench --locked --bench soak

real-model: target/real/model/model.toml

# Trained on the training half of the people; the test half is written beside it.
target/real/model/model.toml: $(wildcard models/train/src/facetd_train/*.py) models/train/requirements.lock
	scripts/setup system test
	models/train/run split --features $(REAL_FACES).bin --labels $(REAL_FACES).meta --dimension 128 --out target/real
	models/train/run fit --preset real --features $(REAL_FACES).bin --labels $(REAL_FACES).meta --out target/real/model

# The model that the comparison is about: LP with edge features, and each module alone.
target/compare/model/model.toml: $(wildcard models/train/src/facetd_train/*.py) models/train/requirements.lock
	scripts/setup system test
	models/train/run fit --preset real-edges --stages --features $(REAL_FACES).bin --labels $(REAL_FACES).meta \
		--out target/compare/model --keep target/compare/kept

# Each method's parameters are chosen on validation identities; comparison.md and .svg, and stream.md, in target/compare.
compare: build target/compare/model/model.toml
	models/train/run compare --features $(REAL_FACES).bin --labels $(REAL_FACES).meta \
		--model target/compare/model --facetd target/release/facetd --out target/compare

# Goes on where an earlier one was interrupted; target/sweep/sweep.md.
sweep:
	scripts/setup system test
	models/train/run sweep --preset real-edges --features $(REAL_FACES).bin --labels $(REAL_FACES).meta --out target/sweep

shipped-models: build
	scripts/setup system test
	for dimension in 128 256 512; do \
		faces="--kind varied --faces 150000 --dimension $$dimension --seed 1"; \
		target/release/facetd synth $$faces --out target/varied-$$dimension; \
		models/train/run fit --preset varied --data "facetd synth $$faces" \
			--features target/varied-$$dimension/features.bin --labels target/varied-$$dimension/labels.meta \
			--out models/varied-$$dimension --keep target/varied-$$dimension/kept; \
	done

demo-model: build
	target/release/facetd synth --faces 30000 --dimension 128 --seed 1 --out target/synthetic
	models/train/run fit --preset demo --features target/synthetic/features.bin --labels target/synthetic/labels.meta --out models/demo-128

fixtures:
	models/train/run fixtures --out tests/fixtures/model

clean:
	scripts/kafka stop --purge || true
	cargo clean
