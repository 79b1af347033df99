# make demo     train, translate and score from nothing, on two CPU cores
# make test     ruff, mypy and the quick tests
# make test-long  the tests that take minutes
# make page     a page in the browser over the demo's model
# make test-gpu  what only a CUDA device can show, into build/gpu/report.json
# make bench    what a step costs against other ways, into docs/performance.md; it says how long it takes at most
# make tables   the tables of documents, from the reports of earlier runs
# make docs     the documents as a site, in build/site
# Uses the active virtual environment, or makes .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
ENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
PY := $(ENV)/bin/python
STAMP := $(ENV)/.sparqle-installed
export PATH := $(abspath $(ENV))/bin:$(PATH)
# Keep Hugging Face libraries from looking for a network in tests and demo.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install test lint types unit test-long test-gpu docs demo page voice-prompts whisper-encoder pretrained-llm ablations tables bench clean

install: $(STAMP)

$(PY):
	$(PYTHON) -m venv $(ENV)

# A torch that is there already (say, a CUDA build) is kept as it is.
$(STAMP): setup.py constraints.txt | $(PY)
	@mkdir -p build
	@if $(PY) -c "import torch" 2>/dev/null; then grep -v "^torch" constraints.txt; else cat constraints.txt; fi > build/constraints.txt
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --constraint build/constraints.txt --editable ".[demo,dev,gguf,lora,page,quantized,report,trainer]"
	@touch $(STAMP)

test: lint types unit

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP)
	$(PY) -m mypy

# Two processes of one thread each. A file's tests share their models, so they stay in one process; the files come in the
# order of their folders, whose last are quick ones, so that both processes end together.
unit: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder --durations=10

# Not run on a GPU so far.
test-gpu: $(STAMP)
	$(PY) -m pytest tests/gpu/test_gpu.py -rs

test-long: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m long --durations=0

# Strict: a dead link or anchor ends it.
docs: $(STAMP)
	$(PY) -m properdocs build --config-file mkdocs.yml

demo: $(STAMP)
	$(PY) examples/demo/run.py

DEMO := build/demo/stage2/checkpoint_last.pt
page: $(STAMP)
	@test -f $(DEMO) || { echo "$(DEMO) is not there; run make demo first, which trains it"; exit 1; }
	$(ENV)/bin/sparqle page --model $(DEMO) --example build/demo/manifests/test_fr.tsv

voice-prompts: $(STAMP)
	$(PY) examples/voice_prompts/run.py

whisper-encoder: $(STAMP)
	$(PY) examples/whisper_encoder/run.py

pretrained-llm: $(STAMP)
	$(PY) examples/pretrained_llm/run.py

# Tables of documents, from the reports that they name, where these are there.
tables: $(STAMP)
	$(PY) examples/tables.py

bench: $(STAMP)
	$(PY) benchmarks/run_all.py

ablations: $(STAMP)
	$(PY) examples/ablations/run.py

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
