package dn_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
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
	c     *planetest.Cluster
	plane *planetest.Plane
	dir   string
	check time.Duration // planetest.NodeConfig.CheckInterval
	a     *dn.Agent
}

// newLab has a data plane like spdk_tgt, newLabOf also one like vda_tgt.
func newLab(t *testing.T) *lab { return newLabOf(t, false) }

func newLabOf(t *testing.T, vdaTgt bool) *lab {
	l := &lab{T: t, c: planetest.NewCluster(), dir: t.TempDir()}
	l.plane = planetest.NewPlane(t, l.c, vdaTgt)
	l.start()
	t.Cleanup(func() { l.stop() })
	return l
}

// inBubble runs a test on a lab like newLab's in fake time: what the agent does
// takes none, whatever the machine does.
func inBubble(t *testing.T, test func(l *lab)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // calls end that a closed agent has left under way
		l := &lab{T: t, c: planetest.NewCluster(), dir: t.TempDir()}
		l.plane = l.c.Place("dn0", false)
		l.plane.Boot()
		l.start()
		t.Cleanup(func() { l.stop() })
		test(l)
	})
}

func (l *lab) start() {
	l.Helper()
	c := planetest.NodeConfig{Kind: "dn", Socket: l.plane.Socket, Port: "4420", StateDir: l.dir, OpenRaw: l.c.OpenRaw, Disks: l.c.Machine(),
		CheckInterval: l.check}
	if c.Socket == "" {
		c.Socket, c.Connect = "none", func() (agent.Client, error) { return l.plane.Direct(), nil }
	}
	a, err := dn.Start(context.Background(), planetest.Node(l, c))
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
	return &apiv1.VdSpec{Id: vdID, PdId: pdID, Size: 16 << 20, Nqn: vdNQN, Term: term, HostNqn: hostNQN(term),
		Uuid: vdID, DaId: daID, Version: term}
}

func full(version uint64, pds []*apiv1.PdSpec, vds ...*apiv1.VdSpec) *apiv1.SyncDnRequest {
	return &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: nodeID, Version: version, Pds: pds, Vds: vds}
}

func (l *lab) sync(req *apiv1.SyncDnRequest) *apiv1.SyncReply {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := l.a.Sync(ctx, proto.CloneOf(req)) // the agent keeps it, and tests change theirs
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
