package cn_test

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// backAddr is where data planes listen for other controllers; hosts use 127.0.0.1.
const backAddr = "127.0.0.3"

func backAt(port string) vda.Listener {
	return vda.Listener{TrType: "tcp", TrAddr: backAddr, AdrFam: "ipv4", TrSvcID: port}
}

// backend is what a node is registered with, nil for none.
func (n *cnNode) backend() *apiv1.ListenerConf {
	if n.config.Backend == (vda.Listener{}) {
		return nil
	}
	return apiv1.NewListenerConf(n.config.Backend)
}

func hopOf(e *apiv1.ExpSpec) *apiv1.ExpSpec {
	other := func(id string) string { return "0b" + id[2:] }
	return &apiv1.ExpSpec{Id: other(e.Id), EsId: other(e.EsId), Name: e.Name, Nqn: vda.HopNQN(e.Id), SnapName: e.SnapName, SnapId: e.SnapId,
		Serial: e.Serial, NsUuid: other(e.NsUuid), Deleted: e.Deleted, Backend: true}
}

// keepApart has a controller's spec be what the control plane makes it where nodes have
// back-end listeners.
func (l *lab) keepApart(c *apiv1.CntlrSpec, i, primary int) {
	if l.cns[i].backend() == nil {
		return
	}
	for j, o := range l.cns {
		if nqn := vda.ProxyHostNQN(o.cntlr); j != i && i == primary && o.backend() != nil {
			c.BackendHostNqns = append(c.BackendHostNqns, nqn)
		}
	}
	var hops []*apiv1.ExpSpec
	hop := i != primary && l.cns[primary].backend() != nil
	if hop {
		c.PrimaryListener = l.cns[primary].backend()
		if l.cns[primary].through != "" {
			c.PrimaryListener.Trsvcid = l.cns[primary].through
		}
	}
	for _, e := range c.Exps {
		if hop {
			e.HopNqn = vda.HopNQN(e.Id)
		}
		hops = append(hops, hopOf(e))
	}
	c.Exps = append(c.Exps, hops...)
}

// subsystems are those of a cn's data plane that are for exporters.
func (n *cnNode) subsystems(t testing.TB) []spdk.NvmfSubsystem {
	t.Helper()
	c, err := n.a.Plane.NvmfGetSubsystems(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(c, func(s spdk.NvmfSubsystem) bool {
		return !strings.HasPrefix(s.NQN, vda.ExpNQNPrefix) && !strings.HasPrefix(s.NQN, vda.HopNQNPrefix)
	})
}

// standApart fails unless hosts and other controllers find nothing at one another's
// addresses, on any data plane.
func (l *lab) standApart() {
	l.Helper()
	for i, n := range l.cns {
		hops, own := 0, vda.ProxyHostNQN(n.cntlr)
		for _, s := range n.subsystems(l) {
			hop := strings.HasPrefix(s.NQN, vda.HopNQNPrefix)
			want := at(n.port).Listener()
			if hop {
				want = n.config.Backend
				hops++
			}
			if len(s.ListenAddresses) != 1 || !s.ListenAddresses[0].Listener().Same(want) {
				l.Errorf("cn%d: %s listens at %v, want %v", i, s.NQN, s.ListenAddresses, want)
			}
			for _, h := range s.Hosts {
				if ours := strings.HasPrefix(h.NQN, vda.NQNPrefix+vda.ProxyPrefix); h.NQN != own && ours != hop {
					l.Errorf("cn%d: %s lets in %s", i, s.NQN, h.NQN)
				}
			}
		}
		if hops != len(l.spec.Exps) {
			l.Errorf("cn%d has %d hops, want %d", i, hops, len(l.spec.Exps))
		}
	}
}

// apart gives cns of models back-end listeners.
func (l *lab) apart(cns ...int) {
	l.Helper()
	for _, i := range cns {
		n := l.cns[i]
		n.stop(l)
		n.config.Backend = backAt(n.port)
		n.start(l)
	}
}

func TestHopsStandApart(t *testing.T) {
	inBubble(t, 2, true, hopsStandApart)
}

func TestHopsStandApartInAChain(t *testing.T) {
	inBubble(t, 2, false, hopsStandApart)
}

func hopsStandApart(l *lab) {
	l.exporter(1)
	l.up(0)
	l.spec.Create = false
	l.apart(0, 1) // while the array serves
	l.all(0)
	l.standApart()
	for _, to := range []int{1, 0} {
		l.term++
		l.sync(1-to, l.cntlr(1-to, to)) // retires
		l.fence(false)
		l.all(to)
		l.checked()
		l.standApart()
		l.healthy(0)
		l.healthy(1)
	}
	for _, i := range []int{1, 0} {
		c := l.cntlr(i, 0)
		c.Deleted, c.DestroyData = true, i == 0
		l.good(i, c)
		if left := l.cns[i].subsystems(l); len(left) > 0 {
			l.Errorf("cn%d has %v left", i, left)
		}
	}
}

// TestHopsWithANodeThatIsNotApart: one node has no back-end listener, as that of an agent
// of an earlier release.
func TestHopsWithANodeThatIsNotApart(t *testing.T) {
	inBubble(t, 3, true, func(l *lab) {
		l.apart(0, 1)
		l.up(0)
		l.spec.Create = false
		for i, want := range []string{"", vda.HopNQN(expID), expNQN} {
			if i == 0 {
				continue
			}
			all, err := l.cns[i].a.Plane.BdevNvmeGetControllers(context.Background())
			if err != nil || !slices.ContainsFunc(all, func(c spdk.NvmeController) bool {
				return c.Name == vda.ProxyPrefix+expID && c.Ctrlrs[0].TrID.SubNQN == want
			}) {
				l.Fatalf("cn%d: %v, %+v", i, err, all)
			}
		}
		l.term++
		l.sync(0, l.cntlr(0, 2))
		l.fence(false)
		l.all(2) // to the node that has none
		for i := range l.cns {
			l.healthy(i)
		}
	})
}

func TestAgentsWithoutABackEnd(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		l.apart(0, 1)
		l.up(0)
		l.spec.Create = false
		n := l.cns[0]
		req := request(n, n.version+1, 0, l.cntlr(0, 0))
		req.BackendListener = n.backend()
		n.stop(l)
		n.config.Backend = vda.Listener{}
		n.start(l)
		_, err := n.a.Sync(context.Background(), req)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "without --backend-listener-conf") {
			l.Fatalf("an agent that has none takes %v: %v", req.BackendListener, err)
		}
		l.checked()
		for _, s := range n.subsystems(l) {
			if strings.HasPrefix(s.NQN, vda.HopNQNPrefix) && slices.ContainsFunc(s.ListenAddresses, n.a.Plane.ListenAddress().Same) {
				l.Errorf("what is for other controllers alone listens where hosts are: %v", s.ListenAddresses)
			}
		}
		if s := l.states(0); !strings.Contains(s[hopOf(l.cntlr(0, 0).Exps[0]).EsId], "without --backend-listener-conf") {
			l.Errorf("nobody hears of it: %v", s)
		}
		// What it cannot change it can still close.
		if err := n.a.Plane.SetANA(context.Background(), vda.HopNQN(expID), spdk.ANAInaccessible); err != nil {
			l.Error(err)
		}
		if got := n.plane.ANA(vda.HopNQN(expID)); got != spdk.ANAInaccessible {
			l.Errorf("the path of the hop is %s", got)
		}
		n.stop(l)
		n.config.Backend = backAt("4499")
		n.start(l)
		_, err = n.a.Sync(context.Background(), req)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "was started with "+backAddr+" port 4499") {
			l.Fatalf("an agent with another one: %v", err)
		}
	})
}

// relay passes connections on, and counts their bytes.
type relay struct {
	port  string
	bytes atomic.Int64
}

func newRelay(t *testing.T, to string) *relay {
	lis, err := net.Listen("tcp", net.JoinHostPort(backAddr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	r := &relay{port: port}
	copyAll := func(a, b net.Conn) {
		defer a.Close()
		defer b.Close()
		_, _ = io.Copy(io.MultiWriter(a, r), b) // until one side closes
	}
	go func() {
		for {
			from, err := lis.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close()
				continue
			}
			go copyAll(from, there)
			go copyAll(there, from)
		}
	}()
	return r
}

func (r *relay) Write(p []byte) (int, error) {
	r.bytes.Add(int64(len(p)))
	return len(p), nil
}

// TestRealHopsStandApart has a host use a secondary whose primary is reached at another
// address, by keys, from before there was one, through failovers and back.
func TestRealHopsStandApart(t *testing.T) { planes(t, realHopsStandApart) }

func realHopsStandApart(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.secret = "of the cluster"
	l.leased()
	l.up(0)
	l.spec.Create = false
	write(t, l.disk(0), 1)
	work := startLoad(l.multipath())
	defer work.end()
	work.goesOn()
	l.apart(0, 1)
	var relays []*relay
	for _, n := range l.cns {
		r := newRelay(t, n.config.Backend.String())
		n.through, relays = r.port, append(relays, r)
	}
	l.all(0)
	work.goesOn()
	stranger := func(addr, port, nqn, as string, keys dhchap.Keys) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := host.Connect(ctx, host.Config{Traddr: addr, Trsvcid: port, SubNQN: nqn, HostNQN: as, Keys: keys, Queues: 1})
		if err == nil {
			c.Close()
		}
		return err
	}
	check := func(primary int) {
		t.Helper()
		work.goesOn()
		l.healthy(0)
		l.healthy(1)
		l.standApart()
		p, before := l.cns[primary], relays[primary].bytes.Load()
		ns := l.disk(1 - primary)
		planetest.Eventually(l, func() string {
			if ns.ANA() == host.ANAInaccessible {
				return "the secondary's path is inaccessible"
			}
			return ""
		})
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		buf := make([]byte, ioSize)
		for range 4 {
			if err := ns.ReadAt(ctx, buf, 0); err != nil {
				t.Fatal(err)
			}
		}
		if n := relays[primary].bytes.Load() - before; n < 4*ioSize {
			t.Errorf("of %d bytes that a host has read of a secondary, %d came over the back-end address", 4*ioSize, n)
		}
		proxy := vda.ProxyHostNQN(l.cns[1-primary].cntlr)
		for _, s := range []struct{ what, addr, port, nqn, as string }{
			{"a secondary's NQN where hosts are", "127.0.0.1", p.port, expNQN, proxy},
			{"a hop where hosts are", "127.0.0.1", p.port, vda.HopNQN(expID), proxy},
			{"a host's NQN at a hop", backAddr, p.port, vda.HopNQN(expID), host0},
			{"a host's NQN at the back-end address", backAddr, p.port, expNQN, host0},
		} {
			if err := stranger(s.addr, s.port, s.nqn, s.as, dhchap.Keys{}); err == nil {
				t.Errorf("%s is let in", s.what)
			}
		}
		if err := stranger(backAddr, p.port, vda.HopNQN(expID), proxy, dhchap.Keys{}); !unproven(err) {
			t.Errorf("a secondary's NQN at a hop, without a key: %v", err)
		}
	}
	check(0)
	for _, to := range []int{1, 0} {
		l.term++
		l.sync(1-to, l.cntlr(1-to, to)) // retires
		l.up(to)
		check(to)
	}
}
