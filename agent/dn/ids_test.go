package dn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/spdk"
)

// A request with an id that is none is refused before anything is kept of it,
// also by an agent that has no cluster yet.
func TestBadIDsAreRefusedWhereTheyArrive(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for field, spoil := range map[string]func(*apiv1.SyncDnRequest){
		"cluster_id": func(r *apiv1.SyncDnRequest) { r.ClusterId = "----------------" },
		"node_id":    func(r *apiv1.SyncDnRequest) { r.NodeId = "/" },
		"pds.id":     func(r *apiv1.SyncDnRequest) { r.Pds[0].Id = "" },
		"vds.id":     func(r *apiv1.SyncDnRequest) { r.Vds[0].Id = "-" },
		"pd_id":      func(r *apiv1.SyncDnRequest) { r.Vds[0].PdId = "../x" },
		"da_id":      func(r *apiv1.SyncDnRequest) { r.Vds[0].DaId = "x y" },
		"nqn":        func(r *apiv1.SyncDnRequest) { r.Vds[0].Nqn += "0" },
		"twice":      func(r *apiv1.SyncDnRequest) { r.Vds = append(r.Vds, vd(1)) },
	} {
		req := full(1, []*apiv1.PdSpec{mallocPD()}, vd(1))
		spoil(req)
		l.refused(req, codes.InvalidArgument, field)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "state.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused request was kept: %v", err)
	}
	l.good(full(1, []*apiv1.PdSpec{mallocPD()}, vd(1)))
}

// A fault in one object's pass is said in its state; the agent serves on.
func TestAPanicOverOneVdIsItsState(t *testing.T) {
	t.Parallel()
	l := &lab{T: t, c: planetest.NewCluster(), dir: t.TempDir()}
	l.plane = planetest.NewPlane(t, l.c, false)
	var broken atomic.Bool
	broken.Store(true)
	a, err := dn.Start(context.Background(), planetest.Node(t, planetest.NodeConfig{Kind: "dn", Socket: l.plane.Socket,
		Port: "4420", StateDir: l.dir,
		OpenRaw: func(ctx context.Context, at spdk.TransportID, sub, host string) (agent.RawDisk, error) {
			if broken.Load() {
				panic("no such case")
			}
			return l.c.OpenRaw(ctx, at, sub, host)
		}}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	defer l.stop()
	r := l.sync(full(1, []*apiv1.PdSpec{mallocPD()}, vd(1)))
	if msg := l.errorOf(r, vdID); !strings.Contains(msg, "no such case") || l.errorOf(r, pdID) != "" {
		t.Errorf("states %v", r.States)
	}
	planetest.Eventually(t, func() string { // a pass may be under way again
		if msg := l.bad(vdID); !strings.Contains(msg, "no such case") {
			return fmt.Sprintf("the heartbeat says %q", msg)
		}
		return ""
	})
	broken.Store(false)
	planetest.Eventually(t, func() string { return l.bad(vdID) })
}

// An agent that holds objects of one node is not another one's, and says so in
// each heartbeat; one that holds none may become it.
func TestHeartbeatsOfAnotherNodeAreRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const other = "d0000000000000000000000000000002"
	beat := func(node string) error {
		_, err := l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: node})
		return err
	}
	if err := beat(other); err != nil {
		t.Errorf("a new agent: %v", err)
	}
	l.good(full(1, []*apiv1.PdSpec{mallocPD()}))
	if err := beat(other); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), nodeID) ||
		!strings.Contains(err.Error(), other) {
		t.Errorf("node %s answers for node %s: %v", nodeID, other, err)
	}
	for _, bad := range []string{"", "-", "../x"} {
		if err := beat(bad); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "node_id") {
			t.Errorf("node_id %q: %v", bad, err)
		}
	}
	if err := beat(nodeID); err != nil {
		t.Error(err)
	}
	gone := mallocPD()
	gone.Deleted = true
	l.good(full(2, []*apiv1.PdSpec{gone}))
	if err := beat(other); err != nil {
		t.Errorf("an agent that holds nothing: %v", err)
	}
}

// TestABadConfIsExplained: a conf that no portal has looked at is refused in
// words that name the field and what would be right.
func TestABadConfIsExplained(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for conf, want := range map[string]string{
		"":                              "conf_json is missing",
		"{":                             "ends too early",
		"[]":                            `conf_json "[]" is not a JSON object`,
		`{"type":"aio",}`:               "byte 14, cannot stand there",
		`{"type":7}`:                    "type",
		`{"type":"aio","x":1}`:          `unknown key "x"`,
		`{"type":"malloc","size":"1G"}`: "size",
		`{"type":"malloc","size":-1}`:   "size",
	} {
		pd := mallocPD()
		pd.ConfJson = conf
		states := l.sync(full(1, []*apiv1.PdSpec{pd})).States
		if len(states) != 1 || !states[0].Error || !strings.Contains(states[0].ErrorMsg, want) {
			t.Errorf("%q: %v, want %q", conf, states, want)
			continue
		}
		if raw := reason.Raw(states[0].ErrorMsg); raw != "" || strings.Contains(states[0].ErrorMsg, "unmarshal") ||
			strings.Contains(states[0].ErrorMsg, "invalid character") {
			t.Errorf("%q: %q has a library's words %q", conf, states[0].ErrorMsg, raw)
		}
	}
}

// TestAStoppedAgentLeavesItsStateWhole: what came as a change is in the state
// file itself, in the format of builds that read nothing else.
func TestAStoppedAgentLeavesItsStateWhole(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{mallocPD()}))
	req := full(2, nil, vd(1))
	req.BaseVersion = 1
	l.good(req)
	l.stop()
	defer l.start() // the lab stops it
	raw, err := os.ReadFile(filepath.Join(l.dir, "state.json"))
	for _, want := range []string{`"format":1`, vdID, `"version":2`} {
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s, %v; want %s", raw, err, want)
		}
	}
}
