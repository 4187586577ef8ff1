# `make demo` and `make test` need Python 3.10-3.13, make and git; they make their own environment in .venv.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test mobile-test executorch-test lint format wheelhouse clean

help:
	@echo "make demo   the whole chain on synthetic radiographs, in $(DEMO)/"
	@echo "make test   all tests (real-data tests where CXR_DATA names the folder)"
	@echo "make mobile-test  C++, Java, a phone's browser and ExecuTorch against the full model; skips what lacks its tools, by name"
	@echo "make executorch-test  .pte files in an environment of their own"
	@echo "make lint   style, types, imports between the parts"
	@echo "make wheelhouse  wheels for devices without a network, x86-64 and aarch64"
	@echo "make clean  remove environments and $(DEMO)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	$(BIN)/python -m compileall -q edge_runtime
	@touch $@

demo: $(STAMP)
	@echo "== 1/6 draw synthetic radiographs"
	$(BIN)/python -m train data phantom --out $(DEMO)/phantoms --count 100 --size 256
	@echo "== 2/6 train on them (a few minutes)"
	$(BIN)/python -m train fit --data $(DEMO)/phantoms --recipe quick --out $(DEMO)/run
	@echo "== 3/6 export and quantize"
	$(BIN)/python -m export build --run $(DEMO)/run --data $(DEMO)/phantoms --out $(DEMO)/bundle
	@echo "== 4/6 parity with the full model"
	$(BIN)/python -m export parity $(DEMO)/bundle --run $(DEMO)/run --data $(DEMO)/phantoms --split test --no-gate
	@echo "== 5/6 the device tests itself"
	$(BIN)/edge-runtime selftest $(DEMO)/bundle
	@echo "== 6/6 answer DICOM files"
	$(BIN)/edge-runtime predict $(DEMO)/bundle $(DEMO)/phantoms/dicom --csv $(DEMO)/answers.csv --heatmaps $(DEMO)/heatmaps
	@echo
	@echo "Answers: $(DEMO)/answers.csv   heat maps: $(DEMO)/heatmaps   parity: $(DEMO)/bundle/reports"
	@echo "The page:  $(BIN)/edge-runtime serve $(DEMO)/bundle --port 8080 --no-login   then open http://127.0.0.1:8080"

test: $(STAMP)
	$(BIN)/python -m pytest

# The browser's packages come by lock file. Debian: apt-get install cmake ninja-build g++ libpng-dev libjpeg-dev
# openjdk-17-jdk-headless chromium npm aapt android-framework-res. EXECUTORCH_VENV= leaves ExecuTorch out.
mobile-test: $(STAMP)
	@if command -v npm >/dev/null; then npm ci --ignore-scripts --silent --prefix mobile_demo/web; \
	else echo "SKIPPED: the browser's packages (no npm here; Debian: apt-get install npm)"; fi
	$(BIN)/python -m pytest tests/mobile -rs
	@if [ -z "$(EXECUTORCH_VENV)" ]; then echo "SKIPPED: ExecuTorch (EXECUTORCH_VENV is empty)"; \
	elif $(MAKE) $(EXECUTORCH_VENV)/.installed; then $(MAKE) executorch-test; \
	else echo "SKIPPED: ExecuTorch (its environment could not be made)"; fi

# ExecuTorch brings its own pins, so it has an environment of its own.
EXECUTORCH_VENV ?= .venv-executorch
$(EXECUTORCH_VENV)/.installed: pyproject.toml constraints.txt constraints-executorch.txt
	$(PYTHON) -m venv $(EXECUTORCH_VENV)
	$(EXECUTORCH_VENV)/bin/pip install --quiet --constraint constraints.txt --constraint constraints-executorch.txt torch torchvision
	$(EXECUTORCH_VENV)/bin/pip install --quiet --constraint constraints.txt --constraint constraints-executorch.txt \
	    --editable '.[train,executorch]' pytest pytest-timeout
	@touch $@

executorch-test: $(EXECUTORCH_VENV)/.installed
	CXR_REQUIRE=executorch $(EXECUTORCH_VENV)/bin/python -m pytest tests/export/test_executorch.py -rs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# with the extras node and openvino, so that every command can be installed from the stick
wheelhouse: $(STAMP)
	$(BIN)/python offline/wheelhouse.py --out wheelhouse --extra node --extra openvino

clean:
	rm -rf $(VENV) $(EXECUTORCH_VENV) $(DEMO)
