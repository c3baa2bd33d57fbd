# Every target is one line of help; what it does lives in Go or in scripts/.
SHELL := bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/reevehq/reeve/internal/process.Version=$(VERSION)
BINARIES := reeve reeve-gateway reeve-custodian reeve-authority reeve-auditor

.PHONY: help build up test test-real drill bench bench-revocation bench-audit bench-large lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the five binaries, in bin/
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(BINARIES))

up: build ## build, then start the demo on this machine (DIR=./demo); Ctrl-C stops it
	@exec bin/reeve up --dir $(or $(DIR),./demo)

test: ## all tests that need only Go, Node 20 and a C compiler
	scripts/test checks unit e2e

test-real: ## the tests that need root, strace, nginx or chromium
	scripts/test real

drill: build ## take the gateway over and show what it got
	bin/reeve drill

bench: build ## measure reeve against a plain proxy and nginx, then revocation, then an auditor; docs/benchmarks.md has a run
	go run ./bench
	@$(MAKE) --no-print-directory bench-revocation bench-audit

bench-revocation: build ## revoke keys under use over 3 custodians, 10 gateways and 1,000 subscribers; partition; restarts
	go run ./bench -revocation -subscribers 1000 -trials 100

bench-audit: build ## 5 million entries: appended, published, verified, cosigned, indexed, asked about; whole commands
	go run ./bench -audit -entries 5000000

bench-large: ## 100 million generated entries, hashed and indexed, their leaves not stored
	go run ./bench -audit -generated -entries 100000000

lint: ## staticcheck and govulncheck, at the versions that CI uses
	scripts/lint

clean: ## remove bin/ (the demo stays)
	rm -rf bin
