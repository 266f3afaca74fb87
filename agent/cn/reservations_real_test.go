package cn_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/vdatgt"
)

// apartEnv has the test's binary be a vda_tgt on a socket, as a process that can be killed.
const apartEnv = "VDA_TEST_TGT_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(apartEnv); socket != "" {
		x, err := vdatgt.New(vdatgt.Config{RPCSocket: socket, WaitForRPC: true, BufferMemory: 64 << 20})
		if err == nil {
			err = x.Run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// clusterHost is a host of a cluster of hosts, with a path to each controller.
type clusterHost struct {
	*lab
	name  string
	key   uint64
	paths []*host.Namespace
}

func (l *lab) clusterHost(e *apiv1.ExpSpec, nqn string, key uint64) *clusterHost {
	l.Helper()
	h := &clusterHost{lab: l, name: nqn[strings.LastIndex(nqn, ":")+1:], key: key}
	for i, n := range l.cns {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: n.port, SubNQN: e.Nqn, HostNQN: nqn,
			HostID: uuid.UUID{15: byte(key)}, Queues: 1, KeepAlive: unhurried,
			Resilience: host.Resilience{LossTimeout: -1, Delay: 100 * time.Millisecond, FastIOFail: 100 * time.Millisecond}})
		if err != nil {
			l.Fatal(err)
		}
		l.Cleanup(c.Close)
		if c.Namespace(1) == nil {
			l.Fatalf("cn%d shows no namespace", i)
		}
		h.paths = append(h.paths, c.Namespace(1))
	}
	return h
}

// try sends one command by a path, once.
func (h *clusterHost) try(i int, r *bdev.Request) nvme.Status {
	done := make(chan nvme.Status, 1)
	r.Done = func(q *bdev.Request, _ *bdev.Batch) { done <- q.Status }
	var b bdev.Batch
	h.paths[i].Submit(r, nil, &b)
	b.Flush()
	return <-done
}

// do sends a command by a path until it is judged: a path that is not there yet, or away, is waited for.
func (h *clusterHost) do(i int, make func() *bdev.Request) nvme.Status {
	h.Helper()
	var s nvme.Status
	for begin := time.Now(); time.Since(begin) < 2*patience; time.Sleep(20 * time.Millisecond) {
		if s = h.try(i, make()); s == nvme.Success || s&nvme.DNR != 0 && !s.IsPath() {
			return s &^ nvme.DNR
		}
	}
	h.Fatalf("%s by cn%d: %v for minutes", h.name, i, s)
	return s
}

func (h *clusterHost) reserve(i int, op nvme.Opcode, v nvme.Reservation) nvme.Status {
	h.Helper()
	return h.do(i, func() *bdev.Request {
		var c nvme.Command
		data := make([]byte, 16)
		c.Init(op, 0)
		c.SetReservation(v, data)
		if op == nvme.IOResvRelease {
			data = data[:8]
		}
		return &bdev.Request{Op: bdev.OpNVMeIO, NVMe: &c, Iov: [][]byte{data}}
	})
}

// writing is a write of the byte that a host writes.
func (h *clusterHost) writing() *bdev.Request {
	return &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{bytes.Repeat([]byte{byte(h.key)}, 4096)}}
}

func (h *clusterHost) writes(i int) nvme.Status {
	h.Helper()
	return h.do(i, h.writing)
}

// first is the first byte of the disk.
func (h *clusterHost) first(i int) (is byte) {
	h.Helper()
	buf := make([]byte, 4096)
	if s := h.do(i, func() *bdev.Request { return &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{buf}} }); s != nvme.Success {
		h.Errorf("%s cannot read by cn%d: %v", h.name, i, s)
	}
	return buf[0]
}

// registered are the keys of the hosts registered, and what holds, as cn i reports it.
func (h *clusterHost) registered(i int) string {
	h.Helper()
	data := make([]byte, 4096)
	if s := h.do(i, func() *bdev.Request {
		var c nvme.Command
		c.Init(nvme.IOResvReport, 0)
		c.SetCDW(10, uint32(len(data)/4-1))
		c.SetCDW(11, 1)
		return &bdev.Request{Op: bdev.OpNVMeIO, NVMe: &c, Iov: [][]byte{data}}
	}); s != nvme.Success {
		return s.String()
	}
	r, err := nvme.DecodeReservationStatus(data)
	if err != nil {
		h.Fatal(err)
	}
	text := fmt.Sprint("type ", r.Type)
	for _, g := range r.Registrants {
		text += fmt.Sprint(" ", g.Key)
		if g.Holder {
			text += "*"
		}
	}
	return text
}

// TestRealReservations has two hosts fence each other by reservations, each by another controller. A
// host that has been preempted gets no write through by any path from then on, while it tries all the
// time, whatever becomes of the array: its primary moves, data planes are killed, one and all, agents
// are started again, controllers get another address among themselves. The other goes on throughout. The
// exporter that comes after a deleted one knows nothing of it.
func TestRealReservations(t *testing.T) {
	t.Parallel()
	l, _, tgts := realsOn(t, 2, false, firsts(false, false), unhurried, func(g *tgt, _ string) {
		g.stop()
		g.apart = true
		g.start()
	})
	e := l.spec.Exps[0]
	e.MoreInitiatorNqns = []string{host1}
	l.leased()
	l.up(0)
	l.spec.Create = false
	a, b := l.clusterHost(e, host0, 10), l.clusterHost(e, host1, 11)
	want := func(what string, got, want nvme.Status) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	register := func(h *clusterHost, i int) nvme.Status {
		t.Helper()
		return h.reserve(i, nvme.IOResvRegister, nvme.Reservation{NewKey: h.key, Persist: nvme.PersistKeep})
	}
	for i := range l.cns {
		want("register before they are turned on", register(a, i), nvme.InvalidOpcode)
	}
	l.spec.Reservations = true
	l.all(0)
	want("register by the secondary", register(a, 1), nvme.Success)
	want("register by the primary", register(b, 0), nvme.Success)
	want("acquire by the secondary", a.reserve(1, nvme.IOResvAcquire, nvme.Reservation{Key: a.key, Type: nvme.WriteExclusive}), nvme.Success)
	for i := range l.cns {
		want("a write of the holder", a.writes(i), nvme.Success)
		want("a write of the other", b.writes(i), nvme.ReservationConflict)
		want("to acquire what another has", b.reserve(i, nvme.IOResvAcquire, nvme.Reservation{Key: b.key, Type: nvme.WriteExclusive}),
			nvme.ReservationConflict)
	}
	want("preempt by the primary", b.reserve(0, nvme.IOResvAcquire, nvme.Reservation{Key: b.key, NewKey: a.key, Action: nvme.ResvPreemptAbort,
		Type: nvme.WriteExclusive}), nvme.Success)
	want("a write of the new holder", b.writes(1), nvme.Success)

	var through, tried atomic.Int64
	fenced, unfence := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range l.cns {
		writers.Go(func() {
			for fenced.Err() == nil {
				if tried.Add(1); a.try(i, a.writing()) == nvme.Success {
					through.Add(1)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(func() {
		unfence()
		writers.Wait()
	})
	holds := func(what string, by ...int) {
		t.Helper()
		for _, i := range by {
			what := fmt.Sprint(what, ", by cn", i)
			want(what+", a write of the holder", b.writes(i), nvme.Success)
			want(what+", a write of the other", a.writes(i), nvme.ReservationConflict)
			if got := a.first(i); got != byte(b.key) {
				t.Fatalf("%s the disk has %d, want %d", what, got, b.key)
			}
			if got := b.registered(i); got != "type 1 11*" {
				t.Fatalf("%s: %q is reserved", what, got)
			}
		}
		if n := through.Load(); n > 0 {
			t.Fatalf("%s: %d writes of a host that has lost its reservation got through", what, n)
		}
	}
	well := func() {
		t.Helper()
		l.leased()
		l.healthy(0)
		l.healthy(1)
	}
	holds("at once", 0, 1)

	l.term++
	l.sync(0, l.cntlr(0, 1)) // retires
	l.up(1)
	holds("after a planned move", 0, 1)

	tgts[1].stop()
	tgts[1].start()
	well()
	holds("after the primary's data plane was killed", 0, 1)

	tgts[1].stop()
	tgts[0].stop()
	tgts[0].start()
	tgts[1].start()
	well()
	holds("after both were killed", 0, 1)

	tgts[1].stop()
	l.term++
	l.fence(false)
	l.good(0, l.cntlr(0, 0))
	holds("after a failover", 0)
	tgts[1].start()
	l.settled(1, l.cntlr(1, 0))
	well()
	holds("when the old primary is back", 0, 1)

	for _, n := range l.cns {
		n.stop(l)
		n.start(l)
	}
	well()
	holds("after the agents were started again", 0, 1)

	l.apart(0, 1)
	l.all(0)
	well()
	holds("over a back-end address", 0, 1)
	l.term++
	l.sync(0, l.cntlr(0, 1))
	l.up(1)
	well()
	holds("over a back-end address, after a move", 0, 1)

	unfence()
	writers.Wait()
	t.Logf("%d writes of the host that lost its reservation were tried", tried.Load())
	e.Deleted = true
	for _, i := range []int{0, 1} {
		l.settled(i, l.cntlr(i, 1))
	}
	e.Deleted = false // one with all of its ids: no other can meet what was reserved
	l.up(1)
	well()
	a, b = l.clusterHost(e, host0, 10), l.clusterHost(e, host1, 11)
	for i := range l.cns {
		want("a write of a host that nobody has fenced", a.writes(i), nvme.Success)
		if got := a.registered(i); got != "type 0" {
			t.Errorf("a new exporter has %q reserved", got)
		}
	}
	planetest.Eventually(l, func() string {
		if got := b.first(0); got != byte(a.key) {
			return fmt.Sprintf("the disk has %d, want %d", got, a.key)
		}
		return ""
	})
}
