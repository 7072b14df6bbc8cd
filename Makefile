PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin
TESTS ?= tests

export BENTOML_DO_NOT_TRACK := True

.PHONY: help serve develop test lint format bento image image-test test-upstream check-gpu verify-models peers clean

.DEFAULT_GOAL := serve

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile | expand -t 16

# What is installed to serve: with FOR=reader, all but the vision-language models
READY := .venv/ready$(if $(filter reader,$(FOR)),-reader)

serve: $(READY) tessdata  ## install what is needed (FOR=reader: no PyTorch), then serve on HOST:PORT (127.0.0.1:8000)
	$(BIN)/bentoml serve --host $(HOST) --port $(PORT)

develop: .venv/ready-dev tessdata  ## install what tests, benchmarks and notebooks need

test: lint tessdata  ## run the linters and TESTS (all); needs no network
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(TESTS)

lint: .venv/ready-dev  ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bento: .venv/ready  ## build a versioned Bento in BentoML's store
	$(BIN)/bentoml build

export FOR TORCH_INDEX COMPILER BASE_IMAGE IMAGE BENTO ENGINE
image: .venv/ready  ## build a Bento and an image FOR (reader, cpu, gpu); see scripts/image
	@scripts/image

OWN_BASE := localhost/chatvlmllm-base
image-test: .venv/ready-dev  ## build the reader image, run it, stop it under load
	@if [ -z "$$BASE_IMAGE" ] && command -v debootstrap >/dev/null; then \
		scripts/base_image $(OWN_BASE) && export BASE_IMAGE=$(OWN_BASE); \
	fi; \
	$(BIN)/python -m pytest -m image tests/deploy

test-upstream: .venv/ready-dev .venv-peers/ready  ## test models that a real vLLM holds, see CHATVLM_UPSTREAM
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m upstream tests/end_to_end/upstream

peers: .venv-peers/ready  ## install vLLM's CPU build, for benchmarks.vllm and test-upstream, into .venv-peers

clean:  ## remove .venv, .venv-peers and .tessdata
	rm -rf .venv .venv-peers .tessdata

.venv/ready: requirements.txt requirements-reader.txt requirements-models.txt client/pyproject.toml pyproject.toml
	@echo "Installing into .venv, about 3 minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --editable ./client
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/ready-reader: requirements-reader.txt client/pyproject.toml
	@echo "Installing into .venv, about a minute"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements-reader.txt
	$(BIN)/python -m pip install --quiet --editable ./client
	touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv-peers/ready: requirements-peers.txt scripts/peers
	@echo "Installing into .venv-peers, about 3 minutes"
	PYTHON=$(PYTHON) scripts/peers
	touch $@

.PHONY: tessdata
tessdata: $(READY)  # Tesseract's trained data, where it is not there yet
	@scripts/tessdata

check-gpu: .venv/ready-dev  ## check and measure the engine on this machine's GPU; needs no weights
	$(BIN)/python -m benchmarks.gpu

verify-models: .venv/ready-dev  ## measure MODEL on this machine, on SAMPLES too; needs its weights
	$(BIN)/python -m benchmarks.verify_models $(MODEL) $(if $(SAMPLES),--samples "$(SAMPLES)")
