# The commands a person types; CMakePresets.json holds the builds behind them.
PROMPT ?= a red apple
MODEL ?= data/small
OUTPUT ?= build/demo/demo.png
FUZZ_SECONDS ?= 60
# Compute capabilities to compile the CUDA backend for, as in 90a or "80;90a"; empty: without it.
CUDA ?=
# The layers whose tests read what others wrote, and the program itself.
PARSERS = base tensor io text cli
# Those of the training layer among them.
TRAIN_PARSERS = Recipe|CaptionedPictures|TensorCache|RunCheckpoints|JsonLinesMetrics|EvaluationPrompts|Scene
empty :=
space := $(empty) $(empty)
BUILD = cmake --preset $(1) $(2) > /dev/null && cmake --build --preset $(1)
FOR_CUDA = $(if $(CUDA),-DSINOPIA_CUDA=ON "-DSINOPIA_CUDA_ARCHITECTURES=$(CUDA)")

.PHONY: all build test asan aarch64 demo bench bench-peers count-instructions format check-format check-layers fuzz golden \
        test-datasets clean

all: build

build:
	@scripts/setup $(if $(CUDA),--cuda)
	@$(call BUILD,release,$(FOR_CUDA))

# Set-up, build, every test.
test: build
	@ctest --preset release -j 2

# The tests that read what others wrote, under AddressSanitizer and UndefinedBehaviorSanitizer.
asan:
	@scripts/setup
	@cmake --preset asan > /dev/null
	@cmake --build --preset asan --target $(addprefix test_,$(PARSERS) train)
	@ctest --preset asan -j 2 -L '^($(subst $(space),|,$(PARSERS)))$$'
	@ctest --preset asan -j 2 -R '^train\.($(TRAIN_PARSERS))'

# Cross compiles for 64-bit ARM and runs the tests of the kernels, and of what is built on them, under qemu.
EMULATED = base tensor backend ops nn io text diffusion models
aarch64:
	@scripts/setup --aarch64
	@cmake --preset aarch64 > /dev/null
	@cmake --build --preset aarch64 --target $(addprefix test_,$(EMULATED))
	@ctest --preset aarch64 -j 2 -L '^($(subst $(space),|,$(EMULATED)))$$'

# Set-up, build, a picture: by the small model of data/small, unless MODEL=FILE names another.
demo:
	@scripts/setup $(if $(CUDA),--cuda)
	@$(call BUILD,release,$(FOR_CUDA)) --target sinopia_app
	@MODEL='$(MODEL)' PROMPT='$(PROMPT)' OUTPUT='$(OUTPUT)' scripts/demo

bench:
	@scripts/setup --bench
	@$(call BUILD,release)
	@build/release/bench/sinopia_bench

# Instructions of a few kernels under callgrind, held to bench/instructions/expected.json.
count-instructions: build
	@bench/instructions/run

# The same work by diffusers on PyTorch and by stable-diffusion.cpp, on this machine, in one run.
bench-peers:
	@scripts/setup --bench
	@$(call BUILD,release)
	@bench/peers/run

format:
	@git ls-files '*.h' '*.cpp' '*.cu' | xargs -r clang-format -i

check-format:
	@git ls-files '*.h' '*.cpp' '*.cu' | xargs -r clang-format --dry-run -Werror && echo "format: as it should be"

check-layers:
	@tools/check_layers

fuzz:
	@scripts/setup --fuzz
	@$(call BUILD,fuzz)
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' scripts/fuzz

# Writes the reference values of tests/golden anew with the pinned references.
golden:
	@scripts/setup --bench
	@tools/golden/run

# The tests of what builds pictures with captions for training; needs no network once its Python packages are there.
test-datasets:
	@"$$(tools/datasets/build --python)" -m unittest discover -s tools/datasets/tests

clean:
	@rm -rf build
