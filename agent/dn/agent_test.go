package dn_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"vda/agent/agenttest"
	"vda/agent/dn"
	apiv1 "vda/api/v1"
)

const (
	cluster = "c1057e00000000000000000000000001"
	nodeID  = "d0000000000000000000000000000001"
	pdID    = "a0000000000000000000000000000001"
	vdID    = "b0000000000000000000000000000001"
	daID    = "da000000000000000000000000000001"
	vdNQN   = "nqn.2016-06.io.spdk:vda-vd-" + vdID
)

func hostNQN(term uint64) string {
	return fmt.Sprintf("nqn.2016-06.io.spdk:vda-cntlr-%s-%d", daID, term)
}

// lab is an agent on a model of a data plane.
type lab struct {
	*testing.T
	c     *agenttest.Cluster
	plane *agenttest.Plane
	dir   string
	a     *dn.Agent
}

func newLab(t *testing.T) *lab {
	l := &lab{T: t, c: agenttest.NewCluster(), dir: t.TempDir()}
	l.plane = agenttest.NewPlane(t, l.c, false)
	l.start()
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *lab) start() {
	l.Helper()
	a, err := dn.Start(context.Background(), agenttest.Node(l, agenttest.NodeConfig{Kind: "dn", Socket: l.plane.Socket, Port: "4420", StateDir: l.dir, OpenRaw: l.c.OpenRaw}))
	if err != nil {
		l.Fatal(err)
	}
	l.a = a
}

func (l *lab) stop() {
	if err := l.a.Close(); err != nil {
		l.Error(err)
	}
}

func aioPD() *apiv1.PdSpec {
	return &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: `{"type":"aio","filename":"/dev/null"}`, Format: true, Version: 1}
}

func mallocPD() *apiv1.PdSpec {
	return &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: `{"type":"malloc","size":67108864}`, Format: true, Version: 1}
}

func vd(term uint64) *apiv1.VdSpec {
	return &apiv1.VdSpec{Id: vdID, PdId: pdID, Size: 16 << 20, Nqn: vdNQN, Term: term, HostNqn: hostNQN(term), Uuid: vdID, DaId: daID, Version: term}
}

func full(version uint64, pds []*apiv1.PdSpec, vds ...*apiv1.VdSpec) *apiv1.SyncDnRequest {
	return &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: nodeID, Version: version, Pds: pds, Vds: vds}
}

func (l *lab) sync(req *apiv1.SyncDnRequest) *apiv1.SyncReply {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := l.a.Sync(ctx, req)
	if err != nil {
		l.Fatal(err)
	}
	return r
}

func (l *lab) good(req *apiv1.SyncDnRequest) *apiv1.SyncReply {
	l.Helper()
	r := l.sync(req)
	for _, s := range r.States {
		if s.Error {
			l.Fatalf("%s: %s", s.Id, s.ErrorMsg)
		}
	}
	return r
}

func (l *lab) refused(req *apiv1.SyncDnRequest, code codes.Code, words ...string) {
	l.Helper()
	l.plane.Changes()
	_, err := l.a.Sync(context.Background(), req)
	if status.Code(err) != code {
		l.Fatalf("got %v, want %v", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			l.Errorf("%q does not say %q", err, w)
		}
	}
	if n := l.plane.Changes(); n != 0 {
		l.Errorf("a refused request made %d changes", n)
	}
}

// bad returns what a sync or heartbeat says is wrong with an object.
func (l *lab) bad(id string) string {
	r, err := l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil {
		l.Fatal(err)
	}
	for _, s := range r.States {
		if s.Id == id {
			return s.ErrorMsg
		}
	}
	return ""
}

func (l *lab) errorOf(r *apiv1.SyncReply, id string) string {
	for _, s := range r.States {
		if s.Id == id {
			return s.ErrorMsg
		}
	}
	return ""
}

func (l *lab) hosts() []string {
	subs, err := l.plane.Client().NvmfGetSubsystems(context.Background())
	if err != nil {
		l.Fatal(err)
	}
	var hosts []string
	for _, s := range subs {
		if s.NQN == vdNQN {
			for _, h := range s.Hosts {
				hosts = append(hosts, h.NQN)
			}
		}
	}
	return hosts
}

func TestVdIsZeroedBeforeItIsExported(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var zeroed atomic.Bool
	l.plane.SetHook(func(method string, p map[string]any) error {
		if p["nqn"] == vdNQN && !zeroed.Load() {
			t.Errorf("%s before the vd was renamed", method)
		}
		if method == "bdev_lvol_rename" {
			zeroed.Store(true)
		}
		return nil
	})
	r := l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if !zeroed.Load() || len(r.Capacities) != 1 || r.Capacities[0].TotalClusters == 0 || r.Capacities[0].ClusterSize != 1<<20 {
		t.Errorf("renamed %v, capacities %v", zeroed.Load(), r.Capacities)
	}
	if got := l.c.Lvols(l.c.Disk("/dev/null")); !slices.Equal(got, []string{"vda-vd-" + vdID}) {
		t.Errorf("lvols %v", got)
	}
	if got := l.hosts(); !slices.Equal(got, []string{hostNQN(1)}) {
		t.Errorf("admitted %v", got)
	}
}

func TestSameRequestTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	req := full(1, []*apiv1.PdSpec{aioPD()}, vd(1))
	l.good(req)
	l.plane.Changes()
	l.good(req)
	time.Sleep(300 * time.Millisecond) // some self-checks
	if n := l.plane.Changes(); n != 0 {
		t.Errorf("%d changes", n)
	}
}

func TestFenceRemovesTheOldHostFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	var order []string
	l.plane.SetHook(func(method string, p map[string]any) error {
		if h, ok := p["host"].(string); ok {
			order = append(order, method+" "+h)
		}
		return nil
	})
	delta := full(2, nil, vd(2))
	delta.BaseVersion = 1
	l.good(delta)
	want := []string{"nvmf_subsystem_remove_host " + hostNQN(1), "nvmf_subsystem_add_host " + hostNQN(2)}
	if !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

func TestLowerTermIsRefusedAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(5, []*apiv1.PdSpec{aioPD()}, vd(3)))
	l.refused(full(6, []*apiv1.PdSpec{aioPD()}, vd(2)), codes.FailedPrecondition, "term 2", "term 3", daID)
	l.stop()
	l.start()
	l.refused(full(6, []*apiv1.PdSpec{aioPD()}, vd(2)), codes.FailedPrecondition, "term 2", "term 3", daID)
}

func TestOlderVersionIsRefusedAndSaysItsOwn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(5, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.stop()
	l.start()
	l.refused(full(4, []*apiv1.PdSpec{aioPD()}, vd(1)), codes.FailedPrecondition, "version 4", "version 5")
	delta := full(9, nil, vd(1))
	delta.BaseVersion = 7
	_, err := l.a.Sync(context.Background(), delta)
	details := status.Convert(err).Details()
	if len(details) != 1 || details[0].(*apiv1.SyncReply).Version != 5 {
		t.Errorf("details %v of %v", details, err)
	}
	// A delta whose answer was lost comes again.
	delta.BaseVersion, delta.Version = 4, 6
	l.good(delta)
	l.good(delta)
}

func TestAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}))
	other := full(2, []*apiv1.PdSpec{aioPD()})
	other.ClusterId = "c1057e00000000000000000000000002"
	l.refused(other, codes.FailedPrecondition, cluster, other.ClusterId)
}

func TestAnEmptySetNeedsAWord(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.refused(full(2, nil), codes.FailedPrecondition, "allow_empty")
	if got := l.hosts(); len(got) != 1 {
		t.Errorf("admitted %v", got)
	}
	empty := full(2, nil)
	empty.AllowEmpty = true
	l.good(empty)
	if got := l.plane.Objects(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	// Absence lets go; only a tombstone deletes.
	if got := l.c.Lvols(l.c.Disk("/dev/null")); len(got) != 1 {
		t.Errorf("lvols on the medium: %v", got)
	}
}

func TestTombstonesLeaveNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	gone := func(r *apiv1.SyncReply) {
		t.Helper()
		for _, s := range r.States {
			if !s.Gone || s.Error {
				t.Errorf("%v", s)
			}
		}
	}
	v, p := vd(1), aioPD()
	v.Deleted, p.Deleted = true, true
	delta := full(2, nil, v)
	delta.BaseVersion = 1
	gone(l.sync(delta))
	gone(l.sync(delta))
	if got := l.c.Lvols(l.c.Disk("/dev/null")); len(got) != 0 {
		t.Errorf("lvols on the medium: %v", got)
	}
	delta = full(3, []*apiv1.PdSpec{p})
	delta.BaseVersion = 2
	gone(l.sync(delta))
	if got := l.plane.Objects(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if l.c.Lvols(l.c.Disk("/dev/null")) != nil {
		t.Error("the lvstore is still on the medium")
	}
	// The node may be created anew under another id, with versions from 1.
	again := full(1, []*apiv1.PdSpec{aioPD()})
	again.NodeId = "d0000000000000000000000000000002"
	l.good(again)
}

func TestRestartedDataPlaneGetsItsObjectsBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	var formats atomic.Int32
	l.plane.Stop()
	hb, err := l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil || hb.DataPlaneOk || hb.DataPlaneMsg == "" {
		t.Errorf("heartbeat without data plane: %v, %v", hb, err)
	}
	was := hb.DataPlaneStartId
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_create_lvstore" || method == "bdev_lvol_create" {
			formats.Add(1)
		}
		return nil
	})
	l.plane.Start()
	agenttest.Eventually(t, func() string {
		if len(l.hosts()) == 0 {
			return "the vd does not come back"
		}
		return ""
	})
	if formats.Load() > 0 {
		t.Error("something was made anew")
	}
	hb, err = l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil || !hb.DataPlaneOk || hb.DataPlaneStartId == was {
		t.Errorf("heartbeat: %v, %v; start id was %s", hb, err, was)
	}
}

func TestRestartOfBothRestoresWithoutBeingTold(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(4)))
	l.stop()
	l.plane.Stop()
	l.plane.Start()
	l.start()
	agenttest.Eventually(t, func() string {
		if got := l.hosts(); !slices.Equal(got, []string{hostNQN(4)}) {
			return fmt.Sprintf("admitted %v", got)
		}
		return ""
	})
}

func TestMallocDataIsLostAndSaidSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{mallocPD()}, vd(1)))
	l.plane.Stop()
	l.plane.Start()
	agenttest.Eventually(t, func() string {
		if msg := l.bad(vdID); !strings.Contains(msg, "data is lost") {
			return "the vd's state: " + msg
		}
		return ""
	})
	if len(l.hosts()) != 0 {
		t.Error("the vd is exported")
	}
	if msg := l.bad(pdID); msg != "" {
		t.Errorf("pd: %s", msg)
	}
}

func TestForeignDisksAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(l *lab)
		format  bool
		says    []string
	}{
		"another cluster's": {func(l *lab) {
			other := newLabOn(l.T, l.c)
			req := full(1, []*apiv1.PdSpec{aioPD()})
			req.ClusterId = "f0e1d2c3b4a5968700000000000000ff"
			other.good(req)
			other.stop()
			other.plane.Stop()
		}, true, []string{"f0e1d2c3b4a59687", cluster[:16], pdID}},
		"a file system": {func(l *lab) {
			l.c.Disk("/dev/null").Magic = "XFSB"
		}, true, []string{"XFS", "/dev/null"}},
		"blank, but formatted before": {func(*lab) {}, false, []string{"formatted before"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.prepare(l)
			p := aioPD()
			p.Format = c.format
			l.plane.SetHook(func(method string, _ map[string]any) error {
				if method == "bdev_lvol_create_lvstore" || method == "bdev_lvol_delete_lvstore" {
					t.Errorf("%s", method)
				}
				return nil
			})
			msg := l.errorOf(l.sync(full(1, []*apiv1.PdSpec{p})), pdID)
			for _, w := range c.says {
				if !strings.Contains(msg, w) {
					t.Errorf("%q does not say %q", msg, w)
				}
			}
		})
	}
}

// newLabOn is a second agent with a data plane of its own on the same disks.
// The caller stops both.
func newLabOn(t *testing.T, c *agenttest.Cluster) *lab {
	l := &lab{T: t, c: c, dir: t.TempDir()}
	l.plane = agenttest.NewPlane(t, c, false)
	a, err := dn.Start(context.Background(), agenttest.Node(t, agenttest.NodeConfig{Kind: "dn", Socket: l.plane.Socket, Port: "4421", StateDir: l.dir, OpenRaw: c.OpenRaw}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	return l
}

func TestFailedExamineDoesNotFormat(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.plane.Stop()
	l.plane.SetHook(func(method string, _ map[string]any) error {
		switch method {
		case "bdev_examine":
			return agenttest.Refuse(syscall.EIO)
		case "bdev_lvol_create_lvstore":
			t.Error("formatted")
		}
		return nil
	})
	l.plane.Start()
	agenttest.Eventually(t, func() string {
		if msg := l.bad(pdID); !strings.Contains(msg, "formatted before") {
			return "the pd's state: " + msg
		}
		return ""
	})
	if msg := l.bad(vdID); !strings.Contains(msg, "pd is not ready") {
		t.Errorf("vd: %s", msg)
	}
	if len(l.c.Lvols(l.c.Disk("/dev/null"))) != 1 {
		t.Error("the vd is gone from the medium")
	}
}

func TestLostSubsystemIsRepaired(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if err := l.plane.Client().NvmfDeleteSubsystem(context.Background(), vdNQN); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, func() string {
		if len(l.hosts()) == 0 {
			return "the subsystem does not come back"
		}
		return ""
	})
}

func TestASlowObjectHoldsUpNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}))
	release := make(chan struct{})
	defer close(release)
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_create" {
			<-release
		}
		return nil
	})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		delta := full(2, nil, vd(1))
		delta.BaseVersion = 1
		_, _ = l.a.Sync(ctx, delta)
	}()
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	l.bad(vdID)
	p2 := proto.CloneOf(aioPD())
	p2.Id, p2.ConfJson = "a0000000000000000000000000000002", `{"type":"aio","filename":"/dev/zero"}`
	delta := full(3, []*apiv1.PdSpec{p2})
	delta.BaseVersion = 2
	l.good(delta)
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("took %v", d)
	}
}

func TestForeignObjectsAreNotTouched(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	api := l.plane.Client()
	for _, err := range []error{
		api.Call(context.Background(), "bdev_malloc_create", map[string]any{"name": "Malloc0", "num_blocks": 1024, "block_size": 4096}, nil),
		api.Call(context.Background(), "nvmf_create_subsystem", map[string]any{"nqn": "nqn.2016-06.io.spdk:cnode1"}, nil),
		api.Call(context.Background(), "nvmf_create_subsystem", map[string]any{"nqn": "nqn.2016-06.io.spdk:vda-exp-da0-exp0"}, nil),
		api.Call(context.Background(), "nvmf_create_subsystem", map[string]any{"nqn": "nqn.2016-06.io.spdk:vda-vd-stray"}, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.good(full(1, []*apiv1.PdSpec{aioPD()}))
	agenttest.Eventually(t, func() string {
		if slices.Contains(l.plane.Objects(), "subsystem nqn.2016-06.io.spdk:vda-vd-stray") {
			return "the stray subsystem is still there"
		}
		return ""
	})
	for _, want := range []string{"bdev Malloc0", "subsystem nqn.2016-06.io.spdk:cnode1", "subsystem nqn.2016-06.io.spdk:vda-exp-da0-exp0"} {
		if !slices.Contains(l.plane.Objects(), want) {
			t.Errorf("%s is gone", want)
		}
	}
}
