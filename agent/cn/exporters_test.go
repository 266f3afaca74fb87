package cn_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// exporter adds one more exporter to the array's spec.
func (l *lab) exporter(n int) *apiv1.ExpSpec {
	e := proto.CloneOf(l.spec.Exps[0])
	e.Deleted = false
	e.Id, e.Name, e.Nqn = id("ee", 1+n), fmt.Sprintf("exp%d", n), fmt.Sprintf("%s-%c", expNQN, 'a'+n)
	e.NsUuid, e.InitiatorNqn, e.Serial = id("f0", 2+n), fmt.Sprintf("nqn.2016-06.io.spdk:host%d", n), fmt.Sprintf("%020d", n+1)
	l.spec.Exps = append(l.spec.Exps, e)
	return e
}

// connect connects to exporter e on controller node i and checks its identity.
func (l *lab) connect(i int, e *apiv1.ExpSpec) *host.Namespace {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: l.cns[i].port, SubNQN: e.Nqn, HostNQN: e.InitiatorNqn, Queues: 1,
		KeepAlive: unhurried})
	if err != nil {
		l.Fatalf("cn%d exporter %s: %v", i, e.Name, err)
	}
	l.Cleanup(c.Close)
	ns := c.Namespace(1)
	if ns == nil {
		l.Fatalf("cn%d exporter %s shows no namespace", i, e.Name)
	}
	if n := ns.Identity(); n.NGUID != uuid.MustParse(e.NsUuid) || n.UUID != n.NGUID {
		l.Errorf("cn%d exporter %s: NGUID %v and UUID %v, want %s", i, e.Name, n.NGUID, n.UUID, e.NsUuid)
	}
	return ns
}

// all syncs every controller, primary first.
func (l *lab) all(primary int) {
	l.Helper()
	for k := range l.cns {
		i := (primary + k) % len(l.cns)
		for _, s := range l.settled(i, l.cntlr(i, primary)) {
			if s.Error {
				l.Fatalf("cn%d: %v", i, s)
			}
		}
	}
}

func TestRealSeveralExporters(t *testing.T) { planes(t, realSeveralExporters) }

func realSeveralExporters(t *testing.T, spdkDN, spdkCN bool) {
	l, _, cnTgts := reals(t, 2, false, spdkDN, spdkCN)
	exps := []*apiv1.ExpSpec{l.spec.Exps[0], l.exporter(1), l.exporter(2)}
	l.leased()
	l.up(0)
	l.spec.Create = false
	// What one writes all read, through both controllers.
	check := func(seed byte) {
		t.Helper()
		first := true
		for i := range l.cns {
			for _, e := range l.spec.Exps {
				if e.Deleted {
					continue
				}
				ns := l.connect(i, e)
				if first {
					write(t, ns, seed)
					first = false
				}
				verify(t, ns, seed)
			}
		}
	}
	check(3)
	write(t, l.connect(1, exps[2]), 4)
	verify(t, l.connect(0, exps[0]), 4)

	// Every exporter under load, through switches and deletions of others.
	work := startLoad(l.multipathOf(exps[2]))
	primary := 0
	for range 2 {
		was, is := primary, 1-primary
		l.standBy(is, 5*time.Second)
		l.term++
		l.sync(was, l.cntlr(was, is))
		l.fence(false)
		l.good(is, l.cntlr(is, is))
		l.good(was, l.cntlr(was, is))
		primary = is
		work.goesOn()
		t.Logf("switch to cn%d with three exporters: longest I/O %v", is, work.pause())
	}
	exps[1].Deleted = true // from between the others
	l.all(primary)
	work.goesOn()
	exps[0].Deleted = true // the one on the volume
	l.all(primary)
	work.goesOn()
	t.Logf("deletion of the two others: longest I/O %v", work.pause())
	late := l.exporter(3)
	l.all(primary)
	work.end()
	check(5)
	for i, g := range cnTgts {
		o := fmt.Sprint(g.objects())
		for _, e := range exps[:2] {
			if strings.Contains(o, e.Nqn+" ") || strings.Contains(o, "vda-px-"+e.Id) || strings.Contains(o, "vda-link-"+e.Id) {
				t.Errorf("cn%d still holds something of exporter %s: %v", i, e.Name, o)
			}
		}
	}

	// A restart of the data plane puts the chain together again.
	cnTgts[0].stop()
	cnTgts[0].start()
	planetest.Eventually(t, func() string {
		if o := cnTgts[0].objects(); !strings.Contains(fmt.Sprint(o), late.Nqn) {
			return fmt.Sprintf("cn0 holds %v", o)
		}
		return ""
	})
	l.healthy(0)
	l.healthy(1)
	check(6)
	verify(t, l.connect(0, late), 6)

	for _, i := range []int{1 - primary, primary} {
		c := l.cntlr(i, primary)
		c.Deleted, c.DestroyData = true, i == primary
		l.good(i, c)
		if o := cnTgts[i].objects(); len(o) > 0 {
			t.Errorf("cn%d: left: %v", i, o)
		}
	}
	l.fence(true)
}
