# The front door. `make demo` and `make test` install what is missing, build, and run; nothing else is needed on a fresh Debian 12.
BUILD  ?= build
WERROR ?= OFF
CUDA   ?= AUTO
PYTHON ?= python3

.PHONY: all setup configure demo test test-emulation cuda gpu-bundle fuzz bench bench-hf forecast verify-hf mutate-cuda lint format clean

all: configure
	@cmake --build $(BUILD) --target hone hone_library fine_tune

setup:
	@scripts/setup.sh

configure: setup
	@cmake --preset release -B $(BUILD) -DHONE_WERROR=$(WERROR) -DHONE_CUDA=$(CUDA) --log-level=ERROR >/dev/null

## The main job: make a small mixture-of-experts checkpoint, fine-tune it on a chat data set, show what it learnt.
demo: configure
	@cmake --build $(BUILD) --target hone
	@demo/run.sh $(BUILD)/hone

## Every test.
test: configure
	@cmake --build $(BUILD)
	@scripts/test.sh $(BUILD)

## The kernels for NVIDIA cards, and training, resume and generation with them, on a card that the processor plays and that checks every access.
test-emulation: setup
	@cmake --preset cuda-emulation --log-level=ERROR >/dev/null
	@cmake --build build-cuda-emulation --target test_cuda_emulation test_golden test_emulated hone
	@scripts/test.sh build-cuda-emulation -L emulated

## The kernels for NVIDIA cards by nvcc, for every generation: needs CUDA's toolkit, no card. Fails where a kernel spills registers that is
## not known to, or comes to memory before it has waited for the kernel before. Without a driver hone must say so in one line.
cuda:
	@scripts/setup.sh --disassemblers
	@cmake --preset cuda --log-level=ERROR >/dev/null
	@cmake --build build-cuda --target hone
	@tools/cuda_resources.py build-cuda
	@tools/cuda_code.py build-cuda
	@scripts/check_cuda_start.sh build-cuda/hone

## build-cuda/hone-gpu-check.tar.xz: on a machine with a card, unpacked, ./gpu_check.sh [--minutes M] says what works there and how fast. Fetches
## NVIDIA's libraries (1.3 GB), for their headers: what was built without goes by kernels of our own there.
gpu-bundle:
	@scripts/setup.sh --cuda
	@$(MAKE) --no-print-directory cuda
	@cmake --build build-cuda --target test_cuda test_golden
	@scripts/gpu_bundle.sh build-cuda build-cuda/hone-gpu-check.tar.xz

## Tokenizers, the files beside them, configs, indexes, weights' headers, files of rows and recipes, 106,000 mutated ones, under ASan and UBSan
## (leaks are not looked for: that needs ptrace, which containers forbid).
fuzz: setup
	@cmake --preset asan --log-level=ERROR >/dev/null
	@cmake --build build-asan --target fuzz_files
	@pids=; for part in 'RowFuzz*' '-RowFuzz*'; do \
	  ASAN_OPTIONS=detect_leaks=0 build-asan/fuzz_files --gtest_brief=1 --gtest_filter="$$part" & pids="$$pids $$!"; \
	done 2>build-asan/fuzz.log; \
	for pid in $$pids; do wait $$pid || { tail -n 60 build-asan/fuzz.log; exit 1; }; done

## Each kernel beside the machine's ceiling, then a training step.
bench: configure
	@cmake --build $(BUILD) --target hone
	@scripts/bench.sh $(BUILD)/hone

## Training steps of the models in bench/ side by side with Transformers (PYTHON names an interpreter that has torch and transformers).
bench-hf: configure
	@cmake --build $(BUILD) --target hone
	@$(PYTHON) tools/bench_hf.py --hone $(BUILD)/hone

## The start card's memory line beside what is resident then, for many shapes of models and runs.
forecast: configure
	@cmake --build $(BUILD) --target hone
	@$(PYTHON) tools/forecast.py --hone $(BUILD)/hone

## What hone writes, read by Transformers (PYTHON as above).
verify-hf: configure
	@cmake --build $(BUILD) --target hone
	@$(PYTHON) tools/verify_hf.py --hone $(BUILD)/hone --goldens --random 4

## Bugs planted in the kernels for NVIDIA cards, one at a time: the emulator or the parity test sees each (an hour of two cores).
mutate-cuda: setup
	@cmake --preset cuda-emulation --log-level=ERROR >/dev/null
	@cmake --build build-cuda-emulation --target test_cuda_emulation
	@tests/cuda_emulation/mutate.py build-cuda-emulation

lint:
	@scripts/lint.sh $(BUILD)

format:
	@git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

clean:
	@rm -rf $(BUILD)
