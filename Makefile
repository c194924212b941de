# The door for people and for CI: the same commands, run from this folder. Paths are relative, so that a folder whose
# name has spaces works. PIP_ARGS is handed to every `pip install` (another index, say), PYTEST_ARGS to pytest.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PY := .venv/bin/python
PIP_ARGS ?=
PYTEST_ARGS ?=
# Vectors depend on torch's version: it moves only when somebody changes this line, measures again and runs `make lock`.
HOLD := torch==2.13.0
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check --quiet $(PIP_ARGS)

# Prints the first Python of a version we support that can run a statement; a name on the PATH alone proves nothing.
define FIND_PYTHON
for candidate in python3.13 python3.12 python3.11 python3; do \
	if "$$candidate" -c '$(1); import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then \
		echo "$$candidate"; break; \
	fi; \
done
endef

# Prints name==version for each package in pip's report of what it would install.
define PRINT_LOCKED
import json, re, sys
left_out = re.compile("embedmill|pip|setuptools|wheel|triton|nvidia-(?!ml-py).*|cuda.*")
found = [(p["metadata"]["name"], p["metadata"]["version"]) for p in json.load(open(sys.argv[1]))["install"]]
for name, version in sorted(found, key=lambda pair: pair[0].lower()):
    if not left_out.fullmatch(name.lower()):
        print(name + "==" + version.split("+")[0])
endef
export PRINT_LOCKED

.PHONY: help demo up test check alerts-test chart-test chaos machines fuzz compose-test bench bench-gpu bench-sts dist dist-test \
	sbom licences audit lock clean

help: ## Show this help
	@echo "Usage: make TARGET"
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

demo: .venv/.demo ## Embed the examples through a real queue on this machine, and show what came of them
	@$(PY) examples/demo.py

up: .venv/.demo ## Run everything on this machine until Ctrl-C: Redis, database, one worker
	@$(PY) -m embedmill up

test: check .venv/bin/helm ## Run the checks and the whole test suite
	@$(PY) -m compileall -q embedmill producer storage worker tests # tests start some thousand processes
	@$(PY) -m pytest -n 3 --dist loadfile $(PYTEST_ARGS)

check: .venv/.dev ## Run ruff, mypy --strict and import-linter
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

chart-test: .venv/bin/helm .venv/bin/helm3 ## Render the Helm chart in every form, check it against eight versions of Kubernetes, and run its pods
	@CHART=all $(PY) -m pytest tests/chart tests/service/test_chart.py $(PYTEST_ARGS)

chaos: .venv/.dev ## Run the whole fault suite, some hours; PART=nemesis FAULTS=300 SEED=1 MINUTES=30 TEXTS=10000000
	@$(PY) -m tests.faults.chaos $(if $(PART),--part $(PART)) $(if $(filter-out full,$(FAULTS)),--faults $(FAULTS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(TEXTS),--texts $(TEXTS))

alerts-test: ## Try every alert rule with Prometheus' own tool (Debian: apt-get install prometheus)
	@cd deploy/prometheus && promtool check rules alerts.yml && promtool test rules alerts_test.yml

machines: .venv/.dev ## Cut off, slow and reboot hosts in network namespaces, as root; TLS, PgBouncer and clocks in their long form
	@$(PY) -m tests.machines.measure

.PHONY: upgrade-test
upgrade-test: .venv/.dev ## Upgrade under load, with processes of the version before beside today's; some minutes
	@FAULTS=full $(PY) -m pytest tests/upgrades tests/faults/test_migrations_under_load.py $(PYTEST_ARGS)

.PHONY: data-test
data-test: .venv/.dev ## Back up, restore and move in earnest, and look at the plans of 200,000 chunks; some minutes
	@FAULTS=full $(PY) -m pytest tests/storage/test_layout.py tests/service/test_data.py \
		tests/service/test_point_in_time.py tests/faults/test_restores.py $(PYTEST_ARGS)

fuzz: .venv/.dev ## Fuzz every route by its OpenAPI document, an hour or more; CASES=50000 SEED=1 AUTH=keys
	@$(PY) -m tests.service.fuzz $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED)) $(if $(AUTH),--auth $(AUTH))

compose-test: .venv/.dev ## Build, run, break, upgrade and remove the containers, half an hour; LOG=docs/compose-test.log PART=operating
	@$(PY) -m tests.compose $(if $(PART),--part $(PART)) $(if $(LOG),--log '$(LOG)') $(if $(DOCKER_BUILD),--docker-build '$(DOCKER_BUILD)')

.PHONY: cluster-test
cluster-test: .venv/.dev .venv/bin/helm .venv/bin/helm3 ## Install, use, break, upgrade and remove the chart in the cluster of KUBECONFIG, half an hour; REGISTRY TAG NEXT_TAG
	@$(PY) -m tests.cluster $(if $(LOG),--log '$(LOG)')

bench: .venv/.bench $(if $(filter-out throughput base,$(PART)),,.venv-infinity/.made) ## Measure all of docs/performance.md, an hour or more; PART=throughput RESUME=1 TEXTS="FILE ..." MACHINE=matrix-unit
	@$(PY) -m benchmarks $(if $(PART),--part $(PART)) $(if $(RESUME),--resume) $(if $(TEXTS),--texts $(TEXTS)) $(if $(MACHINE),--machine $(MACHINE))

.PHONY: int8-test
int8-test: .venv/.dev ## Quantise the default model with OpenVINO and compare its vectors
	@INT8=all $(PY) -m pytest tests/engine/openvino $(PYTEST_ARGS)

bench-gpu: ## Measure the engine on this machine's GPU, with any python3 that has torch and transformers: PY=python3
	@$(PY) -m benchmarks.gpu

bench-sts: .venv/.bench ## Correlate cosines with people's scores: make bench-sts CSV=pairs-and-scores.csv
	@$(PY) -m benchmarks.sts '$(or $(CSV),$(error Say which file: make bench-sts CSV=FILE))'

dist: .venv/.dev ## Build the source archive and the wheel into dist/, to the same bytes for the same commit
	@$(PY) deploy/dist.py dist

dist-test: .venv/.dev ## Build twice and compare, and install from the source archive without an index
	@DIST=all $(PY) -m pytest tests/test_packaging.py $(PYTEST_ARGS)

sbom: .venv/.dev ## Write what is in the images into dist/*.cdx.json, as CycloneDX has it
	@mkdir -p dist
	@for image in base worker; do \
		cat deploy/locks/$$image.txt > dist/locked.txt; \
		[ $$image = base ] || cat deploy/locks/torch-cuda.txt deploy/locks/models.txt >> dist/locked.txt; \
		$(PY) -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible --of JSON \
			-o dist/embedmill-$$image.cdx.json dist/locked.txt || exit 1; \
	done; rm dist/locked.txt; ls dist/*.cdx.json

licences: .venv/.dev ## Write docs/licences.md from the metadata of what the images hold
	@$(PY) -m deploy.licences

audit: .venv/.dev ## Look for known holes in what the images hold; asks an advisory service
	@mkdir -p build
	@for lock in base worker torch-cuda torch-cpu models build; do \
		: advisories know versions without the name of a build; \
		sed 's/+cpu / /' deploy/locks/$$lock.txt > build/audited.txt; \
		$(PY) -m pip_audit --strict --disable-pip --require-hashes -r build/audited.txt || exit 1; done; rm build/audited.txt

lock: .venv/.made ## Resolve everything anew into constraints.txt and deploy/locks; CPU_INDEX=FOLDER_OR_URL for CPU torch
	@mkdir -p build
	@$(PY) -m pip install --disable-pip-version-check --quiet --dry-run --ignore-installed --report build/lock.json \
		$(PIP_ARGS) '.[api,dev]' async-timeout '$(HOLD)'
	@{ \
		echo '# Exact versions of everything, for reproducible installs: pip install -c constraints.txt ...'; \
		echo '# Written by `make lock` from the ranges in pyproject.toml; do not edit by hand. Local build tags (+cpu)'; \
		echo '# are taken off and the libraries of CUDA builds left out: each build of torch names its own.'; \
		$(PY) -c "$$PRINT_LOCKED" build/lock.json; \
	} > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm build/lock.json
	@$(PIP_INSTALL) -c constraints.txt uv
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) deploy/lock.py $(if $(CPU_INDEX),--cpu-index $(CPU_INDEX))
	@echo "constraints.txt and deploy/locks are written; git diff shows what changed."

clean: ## Remove caches, builds and the demo's output; .venv stays, but is checked again
	@rm -rf build dist demo-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
	@rm -f .venv/.made .venv/.demo .venv/.dev

# What follows makes .venv. Each stamp says what is installed, and is older than what it was made from only after an edit.

.venv/.made:
	@python=$$($(call FIND_PYTHON,import ensurepip)); \
	if [ -z "$$python" ]; then \
		python=$$($(call FIND_PYTHON,pass)); \
		if [ -z "$$python" ]; then \
			echo "Embedmill needs Python 3.11, 3.12 or 3.13, and found none on the PATH." >&2; \
		else \
			echo "$$python cannot make virtual environments: its ensurepip is missing." \
				"On Debian and Ubuntu: apt-get install python3-venv" >&2; \
		fi; \
		exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		echo "Making .venv with $$("$$python" -V)"; "$$python" -m venv --clear .venv; \
	fi
	@touch .venv/.made

.venv/.demo: pyproject.toml constraints.txt .venv/.made
	@echo "Installing into .venv; the first time takes some minutes."
	@$(PIP_INSTALL) -c constraints.txt -e '.[demo]'
	@touch .venv/.demo

.venv/.dev: pyproject.toml constraints.txt .venv/.made
	@echo "Installing into .venv; the first time takes some minutes."
	@$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch .venv/.demo .venv/.dev

# Where Helm cannot be had, the tests that need it are left out, and say so; in CI they fail where it could be had.
.venv/bin/helm: tests/chart/helm.txt .venv/.dev
	@$(PY) -m tests.chart.gethelm || true

.venv/bin/helm3: tests/chart/helm.txt .venv/.dev
	@$(PY) -m tests.chart.gethelm --all

.venv/.bench: .venv/.dev
	@$(PIP_INSTALL) -c constraints.txt -e '.[bench]'
	@touch .venv/.bench

# A peer in an environment of its own, since it needs an older transformers; where it cannot be made, it is left out.
.venv-infinity/.made:
	@echo "Installing Infinity into .venv-infinity, to be measured beside."
	@$(PY) -m venv .venv-infinity
	@.venv-infinity/bin/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) '$(HOLD)' \
		&& .venv-infinity/bin/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) \
			'infinity-emb[torch]==0.0.78' 'transformers==4.57.6' \
		&& touch .venv-infinity/.made || echo "Infinity could not be installed: it is left out." >&2
