# The two commands to begin with are `make run` and `make test`.
.DEFAULT_GOAL := help

GO      ?= go
BIN     := bin/hostsched
TOOLS   := -modfile=internal/tools/go.mod
RUNARGS ?=
# What is tested, and with which flags of go test.
PACKAGES  ?= ./...
TESTFLAGS ?=

# The database of the tests and of the benchmark: mariadb (the tests then run on
# SQLite, too), mysql or sqlite.
ifeq ($(origin DATABASE),undefined)
DATABASE := $(or $(HOSTSCHED_TEST_DATABASE),mariadb)
endif
export HOSTSCHED_TEST_DATABASE := $(DATABASE)

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/hostsched
	$(GO) build -buildvcs=auto -o $(BIN) ./cmd/hostsched

.PHONY: run
run: build ## a lab to try: embedded etcd, SQLite, three replicas, two agents (RUNARGS="--hosts 200 --agents 4")
	./$(BIN) dev $(RUNARGS)

.PHONY: test-deps
test-deps:
	@deploy/install-test-deps $(DATABASE) promtool chromium

.PHONY: test
test: test-deps ## run all tests, on private MariaDB and etcd servers and on SQLite (DATABASE=mysql: on MySQL)
	$(GO) test -timeout 15m $(TESTFLAGS) $(PACKAGES)
	cd internal/tools && $(GO) test ./...

.PHONY: test-race
test-race: test-deps ## run all tests under the race detector (DATABASE=mysql)
	$(GO) test -race -timeout 30m ./...

.PHONY: test-golden
test-golden: test-deps ## play recorded scenarios on one database (DATABASE=mysql|mariadb|sqlite HOSTSCHED_GOLDEN_DIR=DIR)
	$(GO) test -c -o bin/store.test ./store
	cd store && ../bin/store.test -test.timeout 15m -test.run '^TestGolden$$/^$(DATABASE)$$'

# Chosen sizes are measured alone; without a choice, everything is. BENCH chooses parts.
comma := ,
ifeq ($(origin BENCH_SIZES),undefined)
BENCH           ?= ticks,plans,service,api,runs
BENCH_LATENCY   ?= 2m
BENCH_FAILOVERS ?= 5
BENCH_DAYS      ?= 2
endif
BENCH           ?= ticks,plans,service
BENCH_SIZES     ?= 1000x2000,5000x10000,10000x20000,100000x200000
BENCH_LATENCY   ?= 0
BENCH_FAILOVERS ?= 0
BENCH_DAYS      ?= 0
BENCH_JSON      ?=

.PHONY: bench
bench: build test-deps ## measure on a private server, and the planner alone (BENCH=api,runs DATABASE=mysql BENCH_SIZES=1000x2000 BENCH_JSON=FILE)
	$(GO) run ./internal/bench -database $(DATABASE) -hostsched $(BIN) -parts "$(BENCH)" -sizes "$(BENCH_SIZES)" -json "$(BENCH_JSON)" -latency $(BENCH_LATENCY) -failovers $(BENCH_FAILOVERS) -days $(BENCH_DAYS)
ifneq ($(filter plans,$(subst $(comma), ,$(BENCH))),)
	$(GO) test -run '^$$' -bench . -benchmem ./scheduler
endif

CHAOS_MINUTES ?= 2
CHAOS_SEED    ?= 1
CHAOS_JSON    ?=
CHAOS_RUNS    ?=
CHAOS_FLAGS   ?=
CLUSTER       ?=

.PHONY: chaos
chaos: build test-deps ## a real cluster under random faults, judged by its database (CHAOS_MINUTES=30 CHAOS_SEED=7 CHAOS_JSON=FILE CHAOS_RUNS=1: also people and agents that run commands on hosts; DATABASE=mysql CLUSTER=galera|group)
	$(GO) run ./internal/chaos $(if $(CHAOS_RUNS),-runs) -database $(DATABASE) -hostsched $(BIN) -minutes $(CHAOS_MINUTES) -seed $(CHAOS_SEED) -cluster "$(CLUSTER)" -json "$(CHAOS_JSON)" $(CHAOS_FLAGS)

PROFILE_SIZE ?= 10000x20000

.PHONY: profile
profile: build test-deps ## where ticks, and the planner alone, spend their time (PROFILE_SIZE=10000x20000); writes ticks.prof, plan.prof
	$(GO) run ./internal/bench -database $(DATABASE) -hostsched $(BIN) -parts ticks -sizes "$(PROFILE_SIZE)" -cpuprofile ticks.prof
	$(GO) tool pprof -top -cum -nodecount 40 ticks.prof
	$(GO) test -run '^$$' -bench 'MakePlan/optimal/$(PROFILE_SIZE)' -benchmem -cpuprofile plan.prof -o $(BIN)-plan.test ./scheduler
	$(GO) tool pprof -top -cum -nodecount 40 $(BIN)-plan.test plan.prof

.PHONY: screenshots
screenshots: build ## take the pictures of the console in docs/screenshots, with hostsched dev
	@deploy/install-test-deps chromium
	$(GO) run ./internal/screenshots -hostsched $(BIN)

.PHONY: package
package: ## packages for Debian and Red Hat, in bin/packages
	deploy/packages/build bin/packages

.PHONY: package-test
package-test: package ## install, run and remove the packages in a Debian of their own; needs root
	deploy/packages/check bin/packages

.PHONY: image
image: ## a container image and the list of what it is made of, in bin/image; needs no daemon
	deploy/image/build bin/image

.PHONY: lint
lint: ## run the linters, at the version pinned in internal/tools/go.mod, and look for known vulnerabilities
	$(GO) vet ./...
	$(GO) tool $(TOOLS) golangci-lint run ./...
	deploy/vulncheck --may-be-away

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities; fails if their database cannot be reached
	deploy/vulncheck

.PHONY: generate
generate: ## format the code, tidy the modules, and write anew what is written from the code
	gofmt -w cmd deploy election internal scheduler shard store
	$(GO) mod tidy
	cd internal/tools && $(GO) mod tidy
	$(GO) generate ./internal/...
	$(GO) test ./cmd/hostsched -run '^TestReference$$' -update
