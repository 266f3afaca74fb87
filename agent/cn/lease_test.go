package cn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// slack is the longest time from the end of a lease to the closing of paths: the
// agent looks at its connections twice in it.
const slack = 2 * 200 * time.Millisecond

// monitor gives one controller node its lease as vda_monitor does: each beat
// gives back what the last reply brought.
type monitor struct {
	l     *lab
	node  int
	lease time.Duration
	last  *apiv1.HeartbeatReply
	at    time.Time // when last came
}

func (m *monitor) beat() *apiv1.HeartbeatReply {
	m.l.Helper()
	req := &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: m.l.cns[m.node].id}
	if m.last != nil {
		req.LeaseMs, req.LeaseStamp, req.LeaseStartId = uint32(m.lease.Milliseconds()), m.last.LeaseStamp, m.last.AgentStartId
	}
	r, err := m.l.cns[m.node].a.Heartbeat(context.Background(), req)
	if err != nil {
		m.l.Fatal(err)
	}
	m.last, m.at = r, time.Now()
	return r
}

// join tells a node's agent which node of which cluster it is, and of no array.
func (l *lab) join(i int) {
	l.Helper()
	n := l.cns[i]
	n.version++
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := n.a.Sync(ctx, &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version, Listener: at(n.port),
		AllowEmpty: true, BackendListener: n.backend()}); err != nil {
		l.Fatal(err)
	}
}

// leased gives every controller node a lease that outlasts the test, as where
// monitors are well: a dn that a starved machine reaches late closes no path then, and
// no connection, and what one has closed before is open again. Nodes get it before
// their arrays: a secondary whose connection is closed while it is being made is in error
// until it tries again.
func (l *lab) leased() {
	l.Helper()
	for i, n := range l.cns {
		if n.version == 0 {
			l.join(i)
		}
		m := &monitor{l: l, node: i, lease: time.Hour}
		m.beat()
		m.beat()
		planetest.Eventually(l, func() string {
			for _, why := range l.states(i) {
				if strings.Contains(why, "no monitor renews") {
					return why
				}
			}
			return ""
		})
	}
}

// renew beats until stop is called.
func (m *monitor) renew() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	m.beat()
	m.beat()
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(m.lease / 4):
				m.beat()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// upLeased is up beside a monitor that then falls silent.
func (l *lab) upLeased(primary int) {
	l.Helper()
	l.join(primary)
	stop := (&monitor{l: l, node: primary, lease: time.Second}).renew()
	defer stop()
	l.up(primary)
}

func (l *lab) ana(i int, want string) {
	l.Helper()
	planetest.Eventually(l, func() string {
		if got := l.cns[i].plane.ANA(expNQN); got != want {
			return fmt.Sprintf("cn%d: ANA %s, want %s", i, got, want)
		}
		return ""
	})
}

// stays fails if the ANA state leaves want during d.
func (l *lab) stays(i int, want string, d time.Duration) {
	l.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := l.cns[i].plane.ANA(expNQN); got != want {
			l.Fatalf("cn%d: ANA %s, want %s", i, got, want)
		}
	}
}

func TestPrimaryThatIsCutOffStopsByItself(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		t := l.T
		l.up(0)
		m := &monitor{l: l, lease: 4 * time.Second}
		stop := m.renew()
		l.cns[0].plane.Cut(l.dns[1].plane, true)
		l.stays(0, spdk.ANAOptimized, time.Second) // it has its lease, and waits for the dn

		var mu sync.Mutex
		var calls []string
		l.cns[0].plane.SetHook(func(method string, a map[string]any) error {
			mu.Lock()
			defer mu.Unlock()
			if a["nqn"] == expNQN && !strings.Contains(method, "_get_") {
				calls = append(calls, fmt.Sprint(strings.TrimPrefix(method, "nvmf_subsystem_"), " ", a["host"], a["ana_state"]))
			}
			return nil
		})
		stop()
		l.ana(0, spdk.ANAInaccessible)
		if took := time.Since(m.at); took > m.lease+slack {
			t.Errorf("its paths were open %v after the last beat of a lease of %v", took, m.lease)
		}
		// Hosts are sent away and may come back, to find the path inaccessible.
		first := "listener_set_ana_state <nil>inaccessible"
		want := []string{first}
		for _, h := range []string{"nqn.2016-06.io.spdk:vda-px-" + l.cns[1].cntlr, host0} {
			want = append(want, "remove_host "+h+"<nil>", "add_host "+h+"<nil>")
		}
		slices.Sort(want)
		planetest.Eventually(t, func() string {
			mu.Lock()
			defer mu.Unlock()
			if seen := slices.Compact(slices.Sorted(slices.Values(calls))); !slices.Equal(seen, want) || calls[0] != first {
				return fmt.Sprintf("calls %q, want %q", calls, want)
			}
			return ""
		})
		planetest.Eventually(t, func() string { // the last call may not be carried out yet, and the pass not made
			if s := l.front(0); !admits(s, l.hosts(0, 0)...) {
				return fmt.Sprintf("admits %v", s.Hosts)
			}
			if s := l.states(0); !strings.Contains(s[l.cns[0].cntlr], "no monitor renews this primary's lease") ||
				!strings.Contains(s[id("e5", 0)], id("b0", 1)) {
				return fmt.Sprintf("states %v", s)
			}
			return ""
		})
		l.stays(0, spdk.ANAInaccessible, 500*time.Millisecond)

		stop = m.renew()
		l.ana(0, spdk.ANAOptimized)
		stop()
		l.ana(0, spdk.ANAInaccessible)
		l.cns[0].plane.Cut(l.dns[1].plane, false) // its dns admit it, so nobody else can be primary
		l.ana(0, spdk.ANAOptimized)
		l.healthy(0)
	})
}

// TestSilentCut has connections to a dn that look well, as they do until their
// keep-alive fails.
func TestSilentCut(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		t := l.T
		silent := l.silencer()
		l.up(0)
		m := &monitor{l: l, lease: 4 * time.Second}
		stop := m.renew()
		silent.Store(true)
		l.stays(0, spdk.ANAOptimized, time.Second)
		stop()
		l.ana(0, spdk.ANAInaccessible)
		if took := time.Since(m.at); took > m.lease+2*300*time.Millisecond+slack {
			t.Errorf("its paths were open %v after the last beat", took)
		}
		silent.Store(false)
		l.ana(0, spdk.ANAOptimized)
	})
}

// TestHostSentAwayIsAdmittedAgain: to remove a host takes a while to begin, and to
// add one is an error until then. In the end it is admitted, without a pass that
// would see to it.
func TestHostSentAwayIsAdmittedAgain(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		t := l.T
		l.up(0)
		m := &monitor{l: l, lease: time.Second}
		stop := m.renew()
		var removed atomic.Int32
		l.cns[0].plane.SetHook(func(method string, a map[string]any) error {
			switch {
			case method == "nvmf_subsystem_remove_host" && a["nqn"] == expNQN:
				time.Sleep(60 * time.Millisecond) // of fake time
				removed.Add(1)
			case method == "bdev_get_bdevs": // every pass begins with it
				return planetest.Refuse(5)
			}
			return nil
		})
		l.cns[0].plane.Cut(l.dns[1].plane, true)
		stop()
		hosts := l.hosts(0, 0)
		planetest.Eventually(t, func() string {
			if n := int(removed.Load()); n < len(hosts) {
				return fmt.Sprintf("%d of %d hosts are sent away", n, len(hosts))
			}
			return ""
		})
		time.Sleep(100 * time.Millisecond) // of fake time
		planetest.Eventually(t, func() string {
			if s := l.front(0); !admits(s, hosts...) {
				return fmt.Sprintf("it admits %v", s.Hosts)
			}
			return ""
		})
	})
}

// silencer starts cn0 again such that it does not reach dn1 while the value is
// true; its connections look well all the same.
func (l *lab) silencer() *atomic.Bool {
	var silent atomic.Bool
	plane := l.cns[0].plane
	l.cns[0].stop(l)
	l.cns[0].config.Reach = func(ctx context.Context, at spdk.TransportID) error {
		if silent.Load() && at.TrSvcID == l.dns[1].port {
			<-ctx.Done()
			return ctx.Err()
		}
		return plane.Reach(ctx, at)
	}
	l.cns[0].start(l)
	return &silent
}

// A dn that falls silent is noticed by vda_tgt itself. On SPDK the agent
// notices it, and says so to the monitor, which may move the array.
func TestASilentDnIsALostVd(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		t := l.T
		silent := l.silencer()
		l.up(0)
		m := &monitor{l: l, lease: 2 * time.Second}
		defer m.renew()()
		silent.Store(true)
		l.stays(0, spdk.ANAOptimized, time.Second)
		l.ana(0, spdk.ANAInaccessible)
		planetest.Eventually(t, func() string {
			if msg := l.states(0)[l.cns[0].cntlr]; !strings.Contains(msg, "out of reach") {
				return fmt.Sprintf("the controller's state is %q", msg)
			}
			r, err := l.cns[0].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: l.cns[0].id})
			if err != nil || len(r.Unreached) != 1 || !slices.Equal(r.Unreached[0].VdIds, []string{id("b0", 1)}) {
				return fmt.Sprintf("the heartbeat says %v, %v", r, err)
			}
			return ""
		})
		// It is taken down all the same: the connection that looks well is cut.
		l.term++
		l.spec.Create = false
		c := l.cntlr(0, 0)
		c.Deleted = true
		l.good(0, c)
	})
}

func TestDeathOfMonitorsStopsNobody(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		t := l.T
		l.up(0)
		m := &monitor{l: l, lease: 100 * time.Millisecond}
		m.renew()()
		l.cns[0].plane.Changes()
		l.stays(0, spdk.ANAOptimized, time.Second)
		if n := l.cns[0].plane.Changes(); n != 0 {
			t.Errorf("%d changes", n)
		}
	})
}

// TestLeaseWithoutFence takes the fence away: the disk nodes admit the old
// primary and the new one. The lease alone keeps hosts from using both.
func TestLeaseWithoutFence(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		t := l.T
		l.up(0)
		old := l.hostNQN()
		m := &monitor{l: l, lease: 400 * time.Millisecond}
		m.renew()()
		// cn0 is cut off from monitors and a dn, not from hosts.
		l.cns[0].plane.Cut(l.dns[1].plane, true)
		bound := m.at.Add(m.lease)
		l.ana(0, spdk.ANAInaccessible)
		if late := time.Since(bound); late > slack {
			t.Errorf("%v late", late)
		}
		l.term++
		l.fence(false)
		for i, d := range l.dns {
			if err := d.plane.Client().NvmfSubsystemAddHost(context.Background(), "nqn.2016-06.io.spdk:vda-vd-"+id("b0", i), old); err != nil {
				t.Fatal(err)
			}
		}
		l.spec.Create = false
		l.good(1, l.cntlr(1, 1))
		if a, b := l.cns[0].plane.ANA(expNQN), l.cns[1].plane.ANA(expNQN); a != spdk.ANAInaccessible || b != spdk.ANAOptimized {
			t.Errorf("ANA %s and %s", a, b)
		}
		l.stays(0, spdk.ANAInaccessible, 300*time.Millisecond)
	})
}

func TestLeaseCountsFromTheReplyThatTheMonitorGot(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.up(0)
		l.cns[0].plane.Cut(l.dns[0].plane, true)
		l.ana(0, spdk.ANAInaccessible)
		m := &monitor{l: l, lease: 300 * time.Millisecond}
		m.beat()
		time.Sleep(2 * m.lease) // the next beat was long on its way
		m.beat()
		l.stays(0, spdk.ANAInaccessible, time.Second)
		m.lease = time.Minute // long enough for what a beat that counts would do to be seen
		m.last.AgentStartId = "of an agent that has ended since"
		m.beat()
		l.stays(0, spdk.ANAInaccessible, 500*time.Millisecond)
		m.last.LeaseStamp += uint64(time.Hour)
		m.beat()
		l.stays(0, spdk.ANAInaccessible, 500*time.Millisecond)
		m.renew()()
		l.ana(0, spdk.ANAOptimized)
	})
}

func TestUnreachedVdsAreReportedAndProbed(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		t := l.T
		l.up(0)
		m := &monitor{l: l, lease: time.Second}
		defer m.renew()()
		l.cns[0].plane.Cut(l.dns[1].plane, true)
		n := l.cns[0]
		planetest.Eventually(t, func() string {
			r, err := n.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: n.id})
			if err != nil || len(r.Unreached) != 1 {
				return fmt.Sprint(r, err)
			}
			u := r.Unreached[0]
			if u.CntlrId != n.cntlr || u.DaId != daID || u.Term != 1 || !slices.Equal(u.VdIds, []string{id("b0", 1)}) ||
				u.LostMs < 300 || u.PrimaryMs < u.LostMs {
				return fmt.Sprint(u)
			}
			return ""
		})
		for i, n := range l.cns {
			both := []*apiv1.ListenerConf{at(l.dns[0].port), at(l.dns[1].port)}
			r, err := n.a.Probe(context.Background(), &apiv1.ProbeRequest{ClusterId: cluster, NodeId: n.id, Addresses: both})
			if err != nil || len(r.Problems) != 2 || r.Problems[0] != "" || (r.Problems[1] == "") != (i == 1) ||
				i == 0 && r.Problems[1] != "no NVMe/TCP target answers" { // one answer for all
				t.Errorf("cn%d: %v, %v", i, r, err)
			}
			if _, err := n.a.Probe(context.Background(), &apiv1.ProbeRequest{ClusterId: "another", NodeId: n.id}); err == nil {
				t.Error("a probe for another cluster")
			}
		}
		l.cns[0].plane.Cut(l.dns[1].plane, false)
		planetest.Eventually(t, func() string {
			r, err := n.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: n.id})
			if err != nil || len(r.Unreached) != 0 {
				return fmt.Sprint(r, err)
			}
			return ""
		})
	})
}

// TestRealFenceWithoutLease has agent and monitors gone: the old primary's
// data plane believes that all is well, and the disk nodes alone keep it from
// writing.
func TestRealFenceWithoutLease(t *testing.T) { planes(t, realFenceWithoutLease) }

func realFenceWithoutLease(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.upLeased(0)
	old := l.disk(0)
	write(t, old, 1)
	l.cns[0].stop(l)
	l.term++
	l.fence(false)
	l.spec.Create = false
	l.good(1, l.cntlr(1, 1))
	now := l.disk(1)
	write(t, now, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for off := int64(0); off < 4*ioSize; off += ioSize {
		err := old.WriteAt(ctx, bytes.Repeat([]byte{3}, ioSize), off)
		var st nvme.Status
		if err == nil || errors.As(err, &st) && !st.IsPath() && !spdkCN {
			t.Fatalf("write at %d through the old primary: %v", off, err)
		}
	}
	verify(t, now, 2)
}

// TestRealLease has a host connected to a primary that loses a disk node and
// every monitor.
func TestRealLease(t *testing.T) { planes(t, realLease) }

func realLease(t *testing.T, spdkDN, spdkCN bool) {
	l, dnTgts, _ := reals(t, 2, true, spdkDN, spdkCN)
	l.upLeased(0)
	write(t, l.disk(0), 1)
	l.spec.Create = false
	m := &monitor{l: l, lease: time.Second}
	m.renew()()
	lost := make(chan struct{}, 1)
	watched, err := host.Connect(context.Background(), host.Config{
		Traddr: "127.0.0.1", Trsvcid: l.cns[0].port, SubNQN: expNQN, HostNQN: host0, Queues: 1, KeepAlive: unhurried,
		OnState: func(c *host.Controller) {
			if c.State() != host.Enabled {
				select {
				case lost <- struct{}{}:
				default:
				}
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Close()
	before := watched.Namespace(1)
	time.Sleep(2 * m.lease) // has run out: for want of it alone no path is closed
	verify(t, before, 1)
	if before.ANA() != host.ANAOptimized || before.Controller().State() != host.Enabled {
		t.Fatalf("ANA %v, %v", before.ANA(), before.Controller().State())
	}
	dnTgts[1].stop()
	select {
	case <-lost:
	case <-time.After(2 * time.Minute):
		t.Fatal("the host is still connected")
	}
	var again *host.Namespace
	planetest.Eventually(t, func() string {
		ns, err := l.reach(0)
		if err != nil { // it is struck off the list while its connections are being closed
			return err.Error()
		}
		again = ns
		return ""
	})
	if again.ANA() != host.ANAInaccessible {
		t.Errorf("ANA %v", again.ANA())
	}
	dnTgts[1].start()
	planetest.Eventually(t, func() string {
		if again.ANA() != host.ANAOptimized {
			return fmt.Sprint("ANA ", again.ANA())
		}
		return ""
	})
	verify(t, again, 1)
}
