# The two promises: `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := .stamps

.PHONY: demo test lint bench image test-image test-grafana mutants chaos detection-matrix matrix test-prometheus3 watched-days docs \
	exported-metrics dashboards dashboards-preview page-preview format clean tools

demo: $(STAMPS)/demo
	@$(BIN)/chatqueue demo $(ARGS)

# Two workers: a session runs two PostgreSQL servers a worker, and machines are small.
test: $(STAMPS)/test tools
	@$(BIN)/pytest -n 2 --dist worksteal --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --fail-under=95

lint: $(STAMPS)/lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMPS)/lint
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMPS)/test
	@.ci/tools bench
	@$(BIN)/python -m bench $(ARGS)

# With docker, podman or buildah, whichever is there.
image: $(STAMPS)/test
	@.ci/image chatqueue-exporter:latest
	@.ci/image chatqueue-exporter-demo:latest --build-arg 'EXTRAS=[demo]'

# Needs root, and builds a base of Debian's own packages first.
test-image: $(STAMPS)/test tools
	@.ci/tools image
	@$(BIN)/pytest -m long tests/image $(ARGS)

# Each guard and lock of the release taken away in turn: a named test must fail.
mutants: $(STAMPS)/test tools
	@$(BIN)/python -m tests.mutants.run $(ARGS)

# Every scenario of the demo against every alert rule, in compressed time: docs/detection-matrix.md.
detection-matrix: $(STAMPS)/test tools
	@$(BIN)/python -m tests.prometheus.matrix

# PostgreSQL 14 to 18, the Pythons of Debian's releases, the lowest dependencies: docs/matrix.md.
matrix: $(STAMPS)/test
	@$(BIN)/python -m pip install --quiet --group matrix
	@.ci/matrix $(ARGS)

# What asks Prometheus, on Prometheus 3: windows are open at the left there.
test-prometheus3: $(STAMPS)/test tools
	@.ci/prometheus3 $(ARGS)

# Every dashboard against the types of Grafana 10, 11, 12 and 13; needs node and npm.
test-grafana: $(STAMPS)/test
	@$(BIN)/python -m tests.grafana

# Three days of the demo's people, watched: what digests tell and what the report says of them;
# and how long a second page takes, by the clock.
watched-days: $(STAMPS)/test tools
	@$(BIN)/pytest -m long --ignore=tests/image $(ARGS)

# Ten minutes of daemons, operators and everything that can go wrong, judged from history triggers.
chaos: $(STAMPS)/test tools
	@$(BIN)/python -m tests.chaos $(ARGS)

# References that are generated from the code: configuration, metrics.
docs: $(STAMPS)/demo
	@$(BIN)/python -m tools.reference

# Names, types and labels of the demo's page, as tests/contracts promises them to other people.
exported-metrics: $(STAMPS)/test
	@$(BIN)/pytest -q tests/contracts/test_exported_metrics.py --write-exported-metrics

# The Grafana dashboards, from their Python; dashboards-preview draws them over simulated days.
dashboards: $(STAMPS)/test
	@$(BIN)/python -m tools.dashboards

dashboards-preview: $(STAMPS)/test
	@.ci/tools preview
	@$(BIN)/python -m pip install --quiet --group preview
	@$(BIN)/python -m tools.preview $(ARGS)

# Pictures of the live page, of the demo's.
page-preview: $(STAMPS)/test tools
	@$(BIN)/python -m tools.preview.page $(ARGS)

tools:
	@.ci/tools test

$(STAMPS)/venv:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/demo: $(STAMPS)/venv pyproject.toml
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/demo
	@$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(STAMPS)/lint: $(STAMPS)/test
	@$(BIN)/python -m pip install --quiet --group lint
	@touch $@

clean:
	rm -rf $(VENV) $(STAMPS) .bench .matrix .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
