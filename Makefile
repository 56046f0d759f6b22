# The two commands of a fresh machine: `make rpi` or `make jetson` (the main job) and `make test`.
VENV ?= .venv
PYTHON ?= python3
TARGET ?= rpi5
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BINDINGS := .cache/tensorrt-bindings/.ready

# Expanded where it is used: each goal has its own TARGET.
RUN_ARGS = --target $(TARGET)
ifdef MODEL
RUN_ARGS += --model $(MODEL)
endif
ifdef DATA
RUN_ARGS += --data $(DATA)
endif
ifdef IMGSZ
RUN_ARGS += --imgsz $(IMGSZ)
endif
ifdef PRUNE
RUN_ARGS += --prune $(PRUNE)
endif
ifdef EPOCHS
RUN_ARGS += --epochs $(EPOCHS)
endif
ifdef NAME
RUN_ARGS += --name $(NAME)
endif

.PHONY: help install rpi jetson host test format clean

help: ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(READY) ## Make the environment (.venv)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[host,jetson,qat,dev]'
	touch $(READY)

# A verdict other than pass ends with its own exit code (1 fail, 2 bad input, 3 unproven). Without the device on the
# desk `unproven` is the best there is, so make doesn't call that a failure (rpi, jetson).
rpi: $(READY) ## Raspberry Pi bundle: MODEL= DATA= IMGSZ= PRUNE= EPOCHS= TARGET=rpi4|rpi5; no MODEL: the quickstart
	@$(BIN)/yolo-slim run $(RUN_ARGS) $(ARGS) || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

jetson: TARGET = jetson-orin-nano
jetson: $(READY) ## Jetson bundles (TensorRT FP16 and INT8), the same settings; TARGET=jetson-orin-nano|jetson-orin-nx|...
	@$(BIN)/yolo-slim run $(RUN_ARGS) $(ARGS) || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

host: TARGET = host
host: $(READY) ## The same for this workstation
	@$(BIN)/yolo-slim run $(RUN_ARGS) $(ARGS)

# NVIDIA's Python bindings of five TensorRT versions; without a network their tests skip.
$(BINDINGS): scripts/trt_contract.py $(READY)
	@$(BIN)/python scripts/trt_contract.py --fetch

test: $(READY) $(BINDINGS) ## ruff, mypy and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n logical --dist loadfile

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and caches (never your runs)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .quickstart
