package conformance

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
	"github.com/virtual-disk-array/vda/spdk/spdktest"
)

// TestTypedMethods calls every typed method of packages spdk and spdktest that the other tests
// here do not call, so that its parameters and results are known to fit both data
// planes.
func TestTypedMethods(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		t.Run("process", p.sub(typedProcess))
		t.Run("bdev", p.sub(typedBdevs))
		t.Run("lvol", p.sub(typedLvols))
		t.Run("nvmf", p.sub(typedNvmf))
	})
}

// sub runs f as a part of the plane's test.
func (p *plane) sub(f func(*testing.T, *plane)) func(*testing.T) {
	return func(t *testing.T) {
		q := *p
		q.t = t
		f(t, &q)
	}
}

// TestEveryTypedMethodIsCalled keeps the promise of TestTypedMethods. Methods that
// vda_tgt alone has may be called by the tests of vdatgt instead.
func TestEveryTypedMethodIsCalled(t *testing.T) {
	read := func(pattern string) string {
		var all strings.Builder
		files := must[[]string](t)(filepath.Glob(pattern))
		for _, f := range files {
			all.Write(must[[]byte](t)(os.ReadFile(f)))
		}
		return all.String()
	}
	calls := read("*_test.go")
	methods := regexp.MustCompile(`(?m)^func \((?:a API|m Methods)\) ([A-Z]\w*)\(`).
		FindAllStringSubmatch(read("../../spdk/*.go")+read("../../spdk/spdktest/*.go"), -1)
	own := calls + read("../../vdatgt/*_test.go")
	for _, m := range methods {
		calls := calls
		if strings.HasPrefix(m[1], "Vda") { // SPDK has no such method
			calls = own
		}
		if !regexp.MustCompile(`\.` + m[1] + `\b`).MatchString(calls) {
			t.Errorf("no test here calls %s of package spdk or spdktest", m[1])
		}
	}
	if len(methods) < 50 {
		t.Errorf("found %d methods only: the test looks for what they no longer look like", len(methods))
	}
}

func typedProcess(t *testing.T, p *plane) {
	ctx := t.Context()
	if v := must[*spdk.Version](t)(p.GetVersion(ctx)); !v.AtLeast(23, 1) {
		t.Errorf("version %+v", v)
	}
	all, current := must[[]string](t)(p.GetMethods(ctx, false)), must[[]string](t)(p.GetMethods(ctx, true))
	if len(all) <= len(current) || len(current) < 40 {
		t.Errorf("%d methods, %d now", len(all), len(current))
	}
	if s := must[*spdktest.ThreadStats](t)(p.ThreadGetStats(ctx)); s.TickRate == 0 || len(s.Threads) == 0 || s.Threads[0].Busy == 0 {
		t.Errorf("threads: %+v", s)
	}
	a, b := must[string](t)(p.StartID(ctx)), must[string](t)(p.StartID(ctx))
	if a != b || a == "" {
		t.Errorf("start ids %q and %q", a, b)
	}
}

func typedBdevs(t *testing.T, p *plane) {
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "disk")
	p.ok(os.WriteFile(file, make([]byte, 1<<20), 0o600))
	if name := must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{BlockSize: 512, NumBlocks: 8192})); name != "Malloc0" {
		t.Errorf("the first malloc bdev without a name is %q", name)
	}
	must[string](t)(p.BdevNullCreate(ctx, spdktest.NullCreate{Name: "N", BlockSize: 512, NumBlocks: 8192}))
	must[string](t)(p.BdevAioCreate(ctx, spdk.AioCreate{Name: "A", Filename: file, BlockSize: 512}))
	p.ok(os.Truncate(file, 2<<20))
	p.ok(p.BdevAioRescan(ctx, "A"))
	if b := must[*spdk.Bdev](t)(p.BdevGet(ctx, "A", 100)); b.Bytes() != 2<<20 || b.Claimed {
		t.Errorf("after the file has grown: %+v", b)
	}
	var can []struct {
		IO map[string]bool `json:"supported_io_types"`
	}
	p.ok(p.Call(ctx, "bdev_get_bdevs", map[string]string{"name": "A"}, &can))
	if len(can) != 1 || !can[0].IO["write"] {
		t.Errorf("what A can do: %+v", can)
	}
	p.ok(p.BdevRaidCreate(ctx, spdk.RaidCreate{Name: "R", RaidLevel: "raid0", StripSizeKB: 64, BaseBdevs: []string{"Malloc0", "N"}}))
	r := must[[]spdk.Raid](t)(p.BdevRaidGetBdevs(ctx, "online"))
	if len(r) != 1 || len(r[0].BaseBdevs) != 2 || *r[0].BaseBdevs[0].Name != "Malloc0" || !r[0].BaseBdevs[1].IsConfigured ||
		r[0].NumBaseBdevsOperational != 2 {
		t.Errorf("raids: %+v", r)
	}
	p.ok(p.BdevSetQoSLimit(ctx, "A", spdk.RateLimits{RWIOsPerSec: 10000}))
	if b := must[*spdk.Bdev](t)(p.BdevGet(ctx, "A", 0)); b.AssignedRateLimits.RWIOsPerSec != 10000 {
		t.Errorf("limits: %+v", b.AssignedRateLimits)
	}
	// vda_tgt counts what is under way at all times.
	period := p.BdevSetQDSamplingPeriod(ctx, "A", 1_000_000)
	if p.kind == "spdk" && period != nil || p.kind == "vda" && !spdk.IsMethodNotFound(period) {
		t.Errorf("a sampling period: %v", period)
	}
	if s := must[*spdk.IOStats](t)(p.BdevGetIOStat(ctx)); len(s.Bdevs) != 4 || s.TickRate == 0 {
		t.Errorf("counters: %+v", s)
	}
	if l := must[[]spdk.Bdev](t)(p.BdevGetBdevs(ctx)); len(l) != 4 {
		t.Errorf("%d bdevs", len(l))
	}
	p.ok(p.BdevExamine(ctx, "A"))
	p.ok(p.BdevWaitForExamine(ctx))
	p.ok(p.BdevRaidDelete(ctx, "R"))
	if p.kind == "vda" {
		must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "Malloc1", BlockSize: 512, NumBlocks: 1024}))
		p.ok(p.BdevRaidCreate(ctx, spdk.RaidCreate{Name: "C", StripSizeKB: 64, RaidLevel: "concat", BaseBdevs: []string{"Malloc0"}}))
		was := must[*spdk.Bdev](t)(p.BdevGet(ctx, "C", 0)).NumBlocks
		p.ok(p.VdaRaidAppend(ctx, "C", "Malloc1", true))
		p.ok(p.VdaRaidAppend(ctx, "C", "Malloc1", false))
		p.ok(p.VdaRaidAppend(ctx, "C", "Malloc1", false)) // it is there already
		if b := must[*spdk.Bdev](t)(p.BdevGet(ctx, "C", 0)); b.NumBlocks != was+1024 {
			t.Errorf("a concat of %d blocks has %d after 1024 more", was, b.NumBlocks)
		}
		p.ok(p.BdevRaidDelete(ctx, "C"))
		p.ok(p.BdevMallocDelete(ctx, "Malloc1"))
	}
	p.ok(p.BdevNullDelete(ctx, "N"))
	p.ok(p.BdevMallocDelete(ctx, "Malloc0"))
	p.ok(p.BdevAioDelete(ctx, "A"))
	if _, err := p.BdevGet(ctx, "A", 0); !spdk.IsNoSuchDevice(err) {
		t.Errorf("a bdev that has gone: %v", err)
	}
}

func typedLvols(t *testing.T, p *plane) {
	ctx := t.Context()
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "L", BlockSize: 4096, NumBlocks: 8192}))
	must[string](t)(p.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "L", LvsName: "first", ClusterSz: 1 << 20, ClearMethod: "none",
		NumMDPagesPerClusterRatio: 100}))
	p.ok(p.BdevLvolRenameLvstore(ctx, "first", "lvs"))
	p.ok(p.BdevLvolGrowLvstore(ctx, "lvs"))
	if s := must[*spdk.Lvstore](t)(p.BdevLvolGetLvstore(ctx, "lvs")); s.BaseBdev != "L" || s.ClusterSize != 1<<20 ||
		s.FreeClusters != s.TotalDataClusters || s.BlockSize != 4096 {
		t.Errorf("lvstore: %+v", s)
	}
	id := must[string](t)(p.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "lvs", LvolName: "a", SizeInMiB: 4, ClearMethod: "write_zeroes"}))
	snap := must[string](t)(p.BdevLvolSnapshot(ctx, "lvs/a", "s"))
	// Agents see by this whether a name is in use, without changing anything.
	store := must[*spdk.Lvstore](t)(p.BdevLvolGetLvstore(ctx, "lvs"))
	tooLarge := spdk.LvolCreate{LvsName: "lvs", LvolName: "s", SizeInMiB: store.TotalDataClusters + 2, ClearMethod: "none"}
	if _, err := p.BdevLvolCreate(ctx, tooLarge); !spdk.IsNameTaken(err) || spdk.IsNoSpace(err) {
		t.Errorf("an lvol larger than its lvstore, of a name that is taken: %v", err)
	}
	tooLarge.LvolName = "free"
	for range 2 {
		if _, err := p.BdevLvolCreate(ctx, tooLarge); !spdk.IsNoSpace(err) || spdk.IsNameTaken(err) {
			t.Errorf("an lvol larger than its lvstore, of a name that is free: %v", err)
		}
	}
	if now := must[*spdk.Lvstore](t)(p.BdevLvolGetLvstore(ctx, "lvs")); now.FreeClusters != store.FreeClusters {
		t.Errorf("refused lvols have taken %d clusters", store.FreeClusters-now.FreeClusters)
	}
	must[string](t)(p.BdevLvolClone(ctx, snap, "c"))
	must[string](t)(p.BdevLvolClone(ctx, "lvs/s", "d"))
	lvols := must[[]spdktest.Lvol](t)(p.BdevLvolGetLvols(ctx, "lvs"))
	if len(lvols) != 4 || lvols[0].UUID != id || lvols[0].Lvs.Name != "lvs" || !lvols[0].IsClone {
		t.Errorf("lvols: %+v", lvols)
	}
	if l := must[*spdk.Bdev](t)(p.BdevGet(ctx, "lvs/s", 0)).Lvol(); l == nil || !l.Snapshot || len(l.Clones) != 3 || l.BaseBdev != "L" {
		t.Errorf("the snapshot: %+v", l)
	}
	p.ok(p.BdevLvolInflate(ctx, "lvs/a"))
	p.ok(p.BdevLvolDecoupleParent(ctx, "lvs/c"))
	p.ok(p.BdevLvolRename(ctx, "lvs/c", "e"))
	p.ok(p.BdevLvolResize(ctx, "lvs/e", 8))
	if b := must[*spdk.Bdev](t)(p.BdevGet(ctx, "lvs/e", 0)); b.Bytes() != 8<<20 || b.Lvol() == nil || b.Lvol().Clone {
		t.Errorf("after resize: %+v", b)
	}
	if p.kind == "vda" {
		p.ok(p.VdaLvolGrow(ctx, "lvs/e", 10))
		p.ok(p.VdaLvolGrow(ctx, "lvs/e", 9)) // it never gets smaller
		if b := must[*spdk.Bdev](t)(p.BdevGet(ctx, "lvs/e", 0)); b.Bytes() != 10<<20 {
			t.Errorf("after growth: %+v", b)
		}
	}
	if p.kind == "vda" {
		must[string](t)(p.VdaLvolSnapshotHold(ctx, "lvs/a", "h", 10*time.Second))
		if _, err := p.VdaLvolSnapshotHold(ctx, "lvs/a", "i", time.Second); spdk.Code(err) != -int(syscall.EBUSY) {
			t.Errorf("an lvol that is held is held again: %v", err)
		}
		if h := must[spdk.LvolReleased](t)(p.VdaLvolRelease(ctx, "lvs/a", "h")); !h.InForce || h.HeldUS == 0 {
			t.Errorf("the hold: %+v", h)
		}
		p.ok(p.BdevLvolDelete(ctx, "lvs/h"))
	}
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "O", BlockSize: 4096, NumBlocks: 512}))
	must[string](t)(p.BdevLvolCloneBdev(ctx, "O", "lvs", "x"))
	if l := must[*spdk.Bdev](t)(p.BdevGet(ctx, "lvs/x", 0)).Lvol(); l == nil || !l.EsnapClone {
		t.Errorf("a clone of a bdev: %+v", l)
	}
	if p.kind == "vda" {
		half := must[spdk.LvolAbsorbed](t)(p.VdaLvolAbsorb(ctx, "lvs/x", 1, true))
		all := must[spdk.LvolAbsorbed](t)(p.VdaLvolAbsorb(ctx, "lvs/x", 1, true))
		if half != (spdk.LvolAbsorbed{Done: 1, Total: 2}) || all != (spdk.LvolAbsorbed{Done: 2, Total: 2, Independent: true}) {
			t.Errorf("absorbed %+v, then %+v", half, all)
		}
	}
	p.ok(p.BdevLvolDelete(ctx, "lvs/x"))
	p.ok(p.BdevMallocDelete(ctx, "O"))
	p.ok(p.BdevLvolSetReadOnly(ctx, "lvs/e"))
	for _, v := range []string{"lvs/e", "lvs/d", "lvs/s", id} {
		p.ok(p.BdevLvolDelete(ctx, v))
	}
	if len(must[[]spdktest.Lvol](t)(p.BdevLvolGetLvols(ctx, ""))) != 0 {
		t.Error("lvols are left")
	}
	p.ok(p.BdevLvolDeleteLvstore(ctx, "lvs"))
	if len(must[[]spdk.Lvstore](t)(p.BdevLvolGetLvstores(ctx))) != 0 {
		t.Error("an lvstore is left")
	}
	if _, err := p.BdevLvolGetLvstore(ctx, "lvs"); !spdk.IsNoSuchDevice(err) {
		t.Errorf("an lvstore that has gone: %v", err)
	}
	p.ok(p.BdevMallocDelete(ctx, "L"))
}

func typedNvmf(t *testing.T, p *plane) {
	ctx := t.Context()
	port := p.serve()
	if l := must[[]spdk.NvmfTransport](t)(p.NvmfGetTransports(ctx)); len(l) != 1 || l[0].TrType != "TCP" || l[0].MaxIOSize == 0 ||
		l[0].MaxQueueDepth == 0 {
		t.Errorf("transports: %+v", l)
	}
	c := p.connect(host.Config{Trsvcid: port})
	subs := must[[]spdk.NvmfSubsystem](t)(p.NvmfGetSubsystems(ctx))
	if len(subs) != 2 || subs[0].Subtype != "Discovery" || len(subs[1].Namespaces) != 1 || subs[1].Namespaces[0].UUID != nsUUID ||
		len(subs[1].ListenAddresses) != 1 || subs[1].ListenAddresses[0] != at(port) || len(subs[1].Hosts) != 1 ||
		subs[1].Hosts[0].NQN != hostNQN || subs[1].MinCntlid != 1001 {
		t.Errorf("subsystems: %+v", subs)
	}
	if s := must[*spdk.NvmfSubsystem](t)(p.NvmfGetSubsystem(ctx, subNQN)); s.NQN != subNQN || len(s.Namespaces) != 1 {
		t.Errorf("one subsystem: %+v", s)
	}
	if _, err := p.NvmfGetSubsystem(ctx, subNQN+"-none"); !spdk.IsNoSuchDevice(err) {
		t.Errorf("a subsystem that there is not: %v", err)
	}
	before := must[uint64](t)(p.NvmfCompletedIO(ctx))
	p.ok(c.Namespaces()[0].ReadAt(ctx, make([]byte, 4096), 0))
	if n := must[uint64](t)(p.NvmfCompletedIO(ctx)); n <= before {
		t.Errorf("%d I/O commands before a read, %d after it", before, n)
	}
	q := must[[]spdktest.NvmfQpair](t)(p.NvmfSubsystemGetQpairs(ctx, subNQN))
	if len(q) == 0 || q[0].Cntlid != c.CNTLID() || q[0].HostNQN != hostNQN || q[0].ListenAddress != at(port) ||
		q[0].PeerAddress.TrAddr != "127.0.0.1" {
		t.Errorf("qpairs: %+v", q)
	}
	p.ok(p.NvmfSubsystemListenerSetANAState(ctx, subNQN, at(port), spdk.ANANonOptimized, 0))
	l := must[[]spdktest.NvmfListener](t)(p.NvmfSubsystemGetListeners(ctx, subNQN))
	if len(l) != 1 || l[0].Address != at(port) || len(l[0].ANAStates) == 0 ||
		l[0].ANAStates[0] != (spdktest.NvmfANAState{ANAGroup: 1, ANAState: spdk.ANANonOptimized}) {
		t.Errorf("listeners: %+v", l)
	}
	p.ok(p.NvmfSubsystemRemoveListener(ctx, subNQN, at(port)))
	if p.kind == "vda" || must[*spdk.Version](t)(p.GetVersion(ctx)).AtLeast(24, 1) {
		p.ok(p.NvmfSubsystemAddListenerState(ctx, subNQN, at(port), spdk.ANAInaccessible))
		if l := must[[]spdktest.NvmfListener](t)(p.NvmfSubsystemGetListeners(ctx, subNQN)); len(l) != 1 ||
			l[0].ANAStates[0].ANAState != spdk.ANAInaccessible {
			t.Errorf("listeners after one was added in a state: %+v", l)
		}
		p.ok(p.NvmfSubsystemRemoveListener(ctx, subNQN, at(port)))
	}
	p.ok(p.NvmfSubsystemAllowAnyHost(ctx, subNQN, false))
	if _, err := p.BdevNvmeAttachController(ctx, spdk.NvmeAttach{Name: "C", TrType: "TCP", AdrFam: "IPv4", TrAddr: "127.0.0.1", TrSvcID: port,
		SubNQN: subNQN}); spdk.Code(err) != -5 {
		t.Errorf("attach to a listener that has gone: %v", err)
	}
	if len(must[[]spdk.NvmeController](t)(p.BdevNvmeGetControllers(ctx))) != 0 {
		t.Error("there are controllers")
	}
	if _, err := p.BdevNvmeGetController(ctx, "C"); !spdk.IsNoSuchDevice(err) {
		t.Errorf("a controller that there is not: %v", err)
	}
	if err := p.BdevNvmeDetachController(ctx, "C"); !spdk.IsNoSuchDevice(err) {
		t.Errorf("detach of a controller that there is not: %v", err)
	}
	if len(must[[]spdk.NvmeIOPath](t)(p.BdevNvmeGetIOPaths(ctx))) != 0 ||
		len(must[[]spdk.NvmeIOPath](t)(p.BdevNvmeGetIOPathsOf(ctx, "Cn1"))) != 0 {
		t.Error("there are paths")
	}
	for what, f := range map[string]func(context.Context, string) error{"disable": p.BdevNvmeDisableController,
		"enable": p.BdevNvmeEnableController} {
		if err := f(ctx, "C"); !spdk.IsNoSuchDevice(err) && !spdk.IsMethodNotFound(err) {
			t.Errorf("%s of a controller that there is not: %v", what, err)
		}
	}
	// Of one that there is: agent/dn TestRealNVMeWriteCache.
	_, _, read := p.BdevNvmeAdminRead(ctx, "C", nvme.Command{byte(nvme.AdminIdentify)}, nvme.IdentifyLen)
	if p.kind == "spdk" && spdk.Code(read) != jsonrpc.CodeInvalidParams || p.kind == "vda" && !spdk.IsMethodNotFound(read) {
		t.Errorf("a command to a controller that there is not: %v", read)
	}
	swap := p.VdaNvmfSwapNS(ctx, subNQN, 1, "M0")
	if p.kind == "spdk" && !spdk.IsMethodNotFound(swap) || p.kind == "vda" && spdk.IsMethodNotFound(swap) {
		t.Errorf("vda_nvmf_swap_ns: %v", swap)
	}
	single := p.VdaNvmfSetSingleAssociation(ctx, subNQN, true)
	if p.kind == "spdk" && !spdk.IsMethodNotFound(single) || p.kind == "vda" && single != nil {
		t.Errorf("vda_nvmf_set_single_association: %v", single)
	}
	id := "6b9f1e7a-3c52-4d0f-9b1e-2f4a8d7c6e51"
	shared := spdk.NvmfReservations{ID: id, Offered: true, Forwarders: []string{hostNQN}}
	resv, forget := p.VdaNvmfSetReservations(ctx, subNQN, shared), p.VdaNvmfForgetReservation(ctx, "M0", id)
	if p.kind == "spdk" && (!spdk.IsMethodNotFound(resv) || !spdk.IsMethodNotFound(forget)) ||
		p.kind == "vda" && (resv != nil || spdk.Code(forget) != jsonrpc.CodeInvalidParams) {
		t.Errorf("vda_nvmf_set_reservations: %v; vda_nvmf_forget_reservation of a bdev that keeps none: %v", resv, forget)
	}
	if s := must[*spdk.NvmfSubsystem](t)(p.NvmfGetSubsystem(ctx, subNQN)); p.kind == "vda" && (s.Reservations == nil ||
		s.Reservations.ID != id || !s.Reservations.Offered || !slices.Equal(s.Reservations.Forwarders, shared.Forwarders)) {
		t.Errorf("reservations are shown as %+v", s.Reservations)
	}
	p.ok(p.NvmfSubsystemReplaceNS(ctx, subNQN, 1, spdk.NvmfNamespace{NSID: 1, BdevName: "M0", UUID: nsUUID}))
	if s := must[*spdk.NvmfSubsystem](t)(p.NvmfGetSubsystem(ctx, subNQN)); len(s.Namespaces) != 1 || s.Namespaces[0].BdevName != "M0" {
		t.Errorf("after its namespace was replaced: %+v", s)
	}
	p.ok(p.NvmfSubsystemRemoveNS(ctx, subNQN, 1))
	p.ok(p.NvmfDeleteSubsystem(ctx, subNQN))
	retire := p.VdaNvmfRetireSubsystem(ctx, subNQN, false)
	if p.kind == "spdk" && !spdk.IsMethodNotFound(retire) || p.kind == "vda" && retire != nil {
		t.Errorf("vda_nvmf_retire_subsystem: %v", retire)
	}
	p.ok(p.BdevMallocDelete(ctx, "M0"))
}
