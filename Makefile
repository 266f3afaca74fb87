# make help lists what there is. Needs Go; everything else is fetched by it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

BINARIES := vda_portal vda_monitor vda_dn_agent vda_cn_agent vda_tgt vda_rpc vda_db vda_cli vda_csi vda_sandbox
export CGO_ENABLED ?= 0
# As the programs are built, so that what tests and checks build is built once.
export GOFLAGS ?= -trimpath
# What --version says; the commit is recorded by Go itself, or is COMMIT=.
VERSION ?= $(shell git describe --tags --match 'v*' 2>/dev/null || echo devel)
STAMP := -X github.com/virtual-disk-array/vda/program.version=$(VERSION) -X github.com/virtual-disk-array/vda/program.commit=$(COMMIT)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## all programs, static, into bin/
	@mkdir -p bin
	go build -trimpath -ldflags "-s -w $(STAMP)" -o bin/ $(BINARIES:%=./cmd/%)

dist: build ## out/vda.tar.gz: the programs in one archive
	@mkdir -p out
	tar -C bin --owner=0 --group=0 -czf out/vda.tar.gz $(BINARIES)

packages: build ## out/packages: debs and rpms of portal, monitor, dn, cn and cli
	VERSION=$(VERSION) packaging/build.sh out/packages

installed: packages ## docs/install.md typed on a server and a Linux host with systemd, a reboot, a power cut (root, Debian with mmdebstrap)
	go test -tags e2e -count=1 -timeout 20m -v -run 'TestInstall$$' ./test/packages

images: build ## out/images: an OCI image per program, to be loaded with docker load or podman load
	go run ./packaging/images -version $(VERSION)

# sandbox, tutorial, failover, chaos: DATA_PLANE=vda (default), spdk, mixed or
# mixed:NODE,NODE with SPDK_TGT=/path/to/spdk_tgt; docs/spdk.md says how each
# is arranged.
sandbox: build ## a whole cluster on this machine, proven with I/O, in a minute; DATA_PLANE= SPDK_TGT=
	bin/vda_sandbox

tutorial: dist ## the multi-server tutorial, every command, on ten hosts (root, Debian); DATA_PLANE= SPDK_TGT=
	CI=$(CI) go test -tags e2e -count=1 -timeout 20m -v -run 'TestTutorial|TestLinuxHost|TestGettingStarted' ./test/e2e

# ROUNDS: how many faults, and how many power cuts; as many as a merge needs when empty.
failover: dist ## a Linux host through ROUNDS= faults: fio with verification, all paths back; it finds its controllers (root, Debian); DATA_PLANE= SPDK_TGT=
	CI=$(CI) ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -timeout $$((20 + 2 * $(or $(ROUNDS),0)))m -v -run 'TestFailover|TestAllPathsComeBack' ./test/e2e
	CI=$(CI) go test -tags e2e -count=1 -timeout 20m -v -run 'TestHostDiscovers' ./test/e2e

mirror: dist ## deaths in the middle of conversions, moves and drains; a Linux host's fio through them (root, Debian); DATA_PLANE= SPDK_TGT=
	go test -tags e2e -count=1 -timeout 20m -v -run 'TestDeathsInChanges' ./test/chaos
	CI=$(CI) go test -tags e2e -count=1 -timeout 20m -v -run 'TestMirroredArray' ./test/e2e

csi: dist ## the CSI driver on loop devices, and on a Linux host's kernel: mounts, deaths of the primary and of the driver, copies, a restart (root, Debian)
	go test -count=1 -timeout 20m -run 'TestFaults$$' ./test/csi -args -seeds 50
	go test -tags e2e -count=1 -timeout 20m -v ./csi/linux
	CI=$(CI) go test -tags e2e -count=1 -timeout 20m -v -run 'TestCSI$$' ./test/e2e

volumes: dist ## what a Linux host does with volumes: snapshots of ext4 and XFS, read-only mounts, growth under fio, clones (root, Debian)
	CI=$(CI) go test -tags e2e -count=1 -timeout 20m -v -run 'TestVolumes$$' ./test/e2e

charts: ## the Helm charts and the examples for Kubernetes: lint, templates, and all of it against Kubernetes' types
	go -C test/helm test -count=1 -timeout 20m ./...

rounds: ## ROUNDS= (100) rounds of snapshot, writes, failover, rollback and comparison, the pause of snapshots, and what limits let through; SPDK_TGT= adds a cn and a dn on SPDK
	SNAPSHOT_ROUNDS=$(or $(ROUNDS),100) go test -tags rounds ./agent/cn -run 'TestRounds|TestSnapshotPause|TestLimitFigures' -count=1 -v -timeout 60m

scale: ## how long a thousand arrays wait when the one node of all their primaries dies
	VDA_SCALE=1000 go test -count=1 -timeout 60m -v -run 'TestMany' ./test/controlplane

NODES ?= 100
MONITORS ?= 2
scale-sim: build ## what NODES= models of nodes (several sizes: NODES='100 1000') with ARRAYS= arrays cost a real portal and MONITORS= monitors on PostgreSQL
	NODES='$(NODES)' ARRAYS=$(ARRAYS) MONITORS=$(MONITORS) BEAT=$(BEAT) SVG=$(abspath $(SVG)) go test -tags e2e -count=1 -timeout 60m -v -run 'TestSteps' ./test/scale

scale-crowd: build ## one node with ARRAYS= (1000) primaries dies, in a cluster of 4 and in one of NODES= (1000) models of nodes, with MONITORS= on PostgreSQL
	NODES='$(NODES)' ARRAYS=$(ARRAYS) MONITORS=$(MONITORS) BEAT=$(BEAT) go test -tags e2e -count=1 -timeout 60m -v -run 'TestCrowdedNode' ./test/scale

CONNECTIONS ?= 10000
STRIPES ?= 5
scale-node: build ## one vda_tgt with ARRAYS= (1000) exported arrays, one with STRIPES= times as many vds, CONNECTIONS= of hosts: cost of one more, memory, kill -9
	ARRAYS=$(ARRAYS) STRIPES=$(STRIPES) CONNECTIONS=$(CONNECTIONS) go test -tags e2e -count=1 -timeout 60m -v -run 'TestOneNode' ./test/scale

MINUTES ?= 5
SEED ?= $(shell date +%s)
chaos: build ## faults by SEED for MINUTES on real processes, checked by a host (root, Debian); REDUNDANCY= LOSSES= CHANGES=1 VOLUMES=1 SECURED=1 DATA_PLANE= SPDK_TGT=
	LOSSES=$(LOSSES) SECURED=$(SECURED) MINUTES=$(MINUTES) SEED=$(SEED) REDUNDANCY=$(REDUNDANCY) CHANGES=$(CHANGES) VOLUMES=$(VOLUMES) go test -tags e2e -count=1 -timeout 10h -v -run 'TestChaos$$' ./test/chaos

SEEDS ?= 1000
sim: ## the control plane, secured, in one process and fake time, faults by SEEDS seeds; CHANGES=1 changes arrays beside, VOLUMES=1 snapshots them, rolls back, clones them and has them grow
	go test -count=1 -timeout 3h -v -run 'TestSeeds$$' ./sim -args -seeds $(SEEDS) $(if $(CHANGES),-changes) $(if $(VOLUMES),-volumes)

move: build ## a dn and a cn move from vda_tgt to SPDK_TGT= and back under a host's load (root, Debian)
	go test -tags e2e -count=1 -timeout 20m -v -run 'TestMoveBetweenDataPlanes' ./test/chaos

upgrade: build ## a cluster of the programs that test/chaos/previous names becomes one of these, under a host's load (root, Debian)
	go test -tags e2e -count=1 -timeout 20m -v -run 'TestUpgrade' ./test/chaos

conformance: build ## JSON-RPC and NVMe/TCP suite on vda_tgt, and on spdk_tgt with SPDK_TGT=; DATA_PLANE= for one of them
	go test -count=1 -timeout 20m ./test/conformance/...

browser: build ## the portal's pages in Chromium: stories, accessibility, a failover; ARGS=-update draws docs/images again
	CI=$(CI) go test -tags e2e -count=1 -timeout 20m -v -run 'TestPages' ./test/browser -args $(ARGS)

bench: build ## speed of the data plane into docs/performance.md; SPDK_TGT= and SPDK_PERF= compare with SPDK
	go build -o bin/bench ./test/bench
	bin/bench -seconds 1 -doc docs/performance.md
	go test -count=1 -v -run 'TestResyncOfATebibyte|TestHostsBesideARepair' ./module/mirror/core
	go test -tags rounds -count=1 -v -run 'TestCloneOfAGiB' ./test/csi

test: ## everything: lint, unit tests with the race detector, sandbox, tutorial
	@test/all.sh

check: ## gofmt, vet, staticcheck, generated code, imports
	@test/check.sh

generate: ## regenerate what is generated (api, docs/openapi.swagger.json)
	go generate ./api

clean: ## remove bin/ and out/
	rm -rf bin out

.PHONY: help charts rounds build dist packages installed images sandbox tutorial failover mirror csi volumes scale scale-sim scale-crowd scale-node chaos sim move upgrade conformance browser bench test check generate clean
