# The two commands to begin with are `make run` and `make test`.
.DEFAULT_GOAL := help

GO      ?= go
BIN     := bin/hostsched
TOOLS   := -modfile=internal/tools/go.mod
RUNARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/hostsched
	$(GO) build -o $(BIN) ./cmd/hostsched

.PHONY: run
run: build ## a simulated lab: embedded etcd, SQLite, three replicas (RUNARGS="--hosts 200")
	./$(BIN) dev $(RUNARGS)

.PHONY: test-deps
test-deps:
	@deploy/install-test-deps

.PHONY: test
test: test-deps ## run all tests, on private MariaDB and etcd servers
	$(GO) test -timeout 15m ./...

.PHONY: test-race
test-race: test-deps ## run all tests under the race detector
	$(GO) test -race -timeout 30m ./...

BENCH_SIZES ?= 1000x2000,5000x10000,10000x20000
BENCH_JSON  ?=

.PHONY: bench
bench: test-deps ## measure ticks on a private MariaDB (BENCH_SIZES=1000x2000 BENCH_JSON=FILE), and the planner alone
	$(GO) run ./internal/bench -sizes "$(BENCH_SIZES)" -json "$(BENCH_JSON)"
	$(GO) test -run '^$$' -bench . -benchmem ./scheduler

.PHONY: lint
lint: ## run the linters, at the version pinned in internal/tools/go.mod
	$(GO) vet ./...
	$(GO) tool $(TOOLS) golangci-lint run ./...

.PHONY: generate
generate: ## format the code and tidy the modules
	gofmt -w cmd election internal scheduler shard store
	$(GO) mod tidy
	cd internal/tools && $(GO) mod tidy
