PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin
TESTS ?= tests

export BENTOML_DO_NOT_TRACK := True

.PHONY: serve develop test lint format bento image image-test clean

serve: .venv/ready tessdata  ## serve the REST API on http://$(HOST):$(PORT)
	$(BIN)/bentoml serve --host $(HOST) --port $(PORT)

develop: .venv/ready-dev tessdata  ## install what tests and benchmarks need

test: lint tessdata  ## the whole test suite; reaches no network
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(TESTS)

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bento: .venv/ready  ## build a versioned Bento into BentoML's store
	$(BIN)/bentoml build

export FOR TORCH_INDEX BASE_IMAGE IMAGE BENTO ENGINE
image: .venv/ready  ## build a Bento and an image of it; scripts/image tells what may be set
	@scripts/image

OWN_BASE := localhost/chatvlmllm-base
image-test: .venv/ready-dev  ## build the reader's image, run it, stop it under load
	@if [ -z "$$BASE_IMAGE" ] && command -v debootstrap >/dev/null; then \
		scripts/base_image $(OWN_BASE) && export BASE_IMAGE=$(OWN_BASE); \
	fi; \
	$(BIN)/python -m pytest -m image tests/deploy

clean:
	rm -rf .venv .tessdata

.venv/ready: requirements.txt requirements-reader.txt requirements-models.txt
	@echo "Installing into .venv, about 3 minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.PHONY: tessdata
tessdata: .venv/ready  # Tesseract's trained data, where it is not there yet
	@scripts/tessdata

.PHONY: verify-models
verify-models: .venv/ready-dev  ## how well MODEL reads here, on SAMPLES too if given; needs its weights
	$(BIN)/python -m benchmarks.verify_models $(MODEL) $(if $(SAMPLES),--samples "$(SAMPLES)")
