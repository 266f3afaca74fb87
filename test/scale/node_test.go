//go:build e2e

package scale

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
)

// realNode is a node as it is: a vda_tgt and its agent.
type realNode struct {
	c      *cluster
	kind   string
	socket string
	addr   string // of NVMe/TCP
	plane  *process
	agent  *process
}

// realNode starts one. Its data plane takes as many connections as the node is asked for.
func (c *cluster) realNode(kind string) *realNode {
	c.Helper()
	n := &realNode{c: c, kind: kind, socket: filepath.Join(c.TempDir(), "tgt.sock"), addr: c.freeAddr()}
	n.boot()
	args := []string{"--sock-path", n.socket, "--listener-conf", n.listener(), "--state-dir", c.TempDir()}
	if kind == "dn" {
		args = append(args, "--aio-dir", "/")
	}
	n.agent = c.serve("vda_"+kind+"_agent", args...)
	return n
}

func (n *realNode) listener() string {
	ip, port, _ := net.SplitHostPort(n.addr)
	return fmt.Sprintf(`{"trtype":"tcp","traddr":%q,"adrfam":"ipv4","trsvcid":%q}`, ip, port)
}

// boot starts the data plane, and returns when it serves its socket. A node's service
// manager does as much.
func (n *realNode) boot() {
	n.c.Helper()
	_ = os.Remove(n.socket)
	n.plane = n.c.spawn("vda_tgt", "--rpc-socket", n.socket, "--wait-for-rpc", "--max-connections", "32768")
	n.c.until("the data plane has a socket", func() bool {
		_, err := os.Stat(n.socket)
		return err == nil
	})
	for _, call := range dataplane.StartUp {
		bin := filepath.Join(filepath.Dir(n.plane.cmd.Path), "vda_rpc")
		if out, err := exec.Command(bin, append([]string{"-s", n.socket}, call...)...).CombinedOutput(); err != nil {
			n.c.Fatalf("vda_rpc %v: %v\n%s", call, err, out)
		}
	}
}

// made makes arrays with an exporter each, several at once, and then some one by one,
// and returns how long these took.
func (c *cluster) made(arrays, stripes, single int) (da, exp []time.Duration) {
	c.Helper()
	one := func(i int) (da, exp time.Duration, err error) {
		name, begun := fmt.Sprintf("da%06d", i), time.Now()
		var begin time.Time
		for {
			begin = time.Now()
			_, err = c.portal.CreateDa(c.Context(), &apiv1.CreateDaRequest{DaName: name, CntlrCnt: 1, DaSize: size,
				DaConf: fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":64}`, stripes)})
			// A machine that is too busy takes the nodes for dead now and then, and there is no place until they are back.
			if vda.KindOf(err) != vda.ResourceExhausted || time.Since(begun) > 2*time.Minute {
				break
			}
			time.Sleep(time.Second)
		}
		if err != nil {
			return 0, 0, err
		}
		da = time.Since(begin)
		_, err = c.portal.CreateExp(c.Context(), &apiv1.CreateExpRequest{DaName: name, ExpName: "exp0", InitiatorNqn: hostNQN})
		return da, time.Since(begin) - da, err
	}
	var g errgroup.Group
	g.SetLimit(4)
	for ; c.arrays < arrays-single; c.arrays++ {
		i := c.arrays
		g.Go(func() error { _, _, err := one(i); return err })
	}
	if err := g.Wait(); err != nil {
		c.Fatal(err)
	}
	c.settle()
	for ; c.arrays < arrays; c.arrays++ {
		d, e, err := one(c.arrays)
		if err != nil {
			c.Fatal(err)
		}
		da, exp = append(da, d), append(exp, e)
	}
	c.settle()
	slices.Sort(da)
	slices.Sort(exp)
	return da, exp
}

// idle says what processes use while nothing is asked of them.
func (c *cluster) idle(what string, of map[string]*process) {
	c.Helper()
	const length = 15 * time.Second
	before := map[string]usage{}
	for name, p := range of {
		before[name] = p.usage()
	}
	begin := time.Now()
	time.Sleep(length)
	took := time.Since(begin)
	for name, p := range of {
		u := p.usage()
		c.Logf("  %s, at rest: %-15s %5.1f %% of a core, %4d MiB", what, name, 100*float64(u.cpu-before[name].cpu)/float64(took), u.rss>>20)
	}
}

// ways are connections of a host to the exporters of arrays, by array.
type ways struct {
	c   *cluster
	all []*host.Controller
}

// connect has hosts connect to exporters, array by array and from the first again, each with one queue.
func (c *cluster) connect(n *realNode, hosts int, of func(i int) host.Config) *ways {
	c.Helper()
	w := &ways{c: c, all: make([]*host.Controller, hosts)}
	ip, port, _ := net.SplitHostPort(n.addr)
	var g errgroup.Group
	g.SetLimit(32)
	for i := range w.all {
		g.Go(func() (err error) {
			cfg := of(i)
			cfg.Traddr, cfg.Trsvcid, cfg.HostNQN, cfg.Queues, cfg.QueueDepth = ip, port, hostNQN, 1, 8
			cfg.Log = slog.New(slog.DiscardHandler)
			cfg.SubNQN = vda.ExpNQN(fmt.Sprintf("da%06d", i%c.arrays), "exp0")
			w.all[i], err = host.Connect(c.Context(), cfg)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(w.close)
	return w
}

func (w *ways) close() {
	for _, h := range w.all {
		if h != nil {
			h.Close()
		}
	}
	w.all = nil
}

// backAfter kills with kill, and returns when a block could be read again on the first way,
// on half of them, and on the last.
func (w *ways) backAfter(kill func()) (first, half, last time.Duration) {
	w.c.Helper()
	begin := time.Now()
	kill()
	var mu sync.Mutex
	var took []time.Duration
	var g errgroup.Group
	for _, h := range w.all {
		g.Go(func() error {
			buf := make([]byte, 4096)
			for time.Since(begin) < 15*time.Minute {
				ns := h.Namespace(1)
				if ns != nil && h.State() == host.Enabled && ns.ANA() == host.ANAOptimized {
					ctx, cancel := context.WithTimeout(w.c.Context(), 30*time.Second)
					err := ns.ReadAt(ctx, buf, 0)
					cancel()
					if err == nil {
						mu.Lock()
						took = append(took, time.Since(begin))
						mu.Unlock()
						return nil
					}
				}
				time.Sleep(5 * time.Millisecond)
			}
			return fmt.Errorf("%s is not back", h.Config().SubNQN)
		})
	}
	if err := g.Wait(); err != nil {
		w.c.Fatal(err)
	}
	slices.Sort(took)
	return took[0], took[len(took)/2], took[len(took)-1]
}

// TestOneNode measures one vda_tgt with many exported arrays, and one with many vds: what
// one more costs, memory, how long paths are away after kill -9, the discovery log, what it costs while
// nothing happens, and connections of many hosts. It prints; docs/scale.md says what is of it.
func TestOneNode(t *testing.T) {
	arrays, connections := given(t, "ARRAYS", 1000), given(t, "CONNECTIONS", 10000)
	stripes := given(t, "STRIPES", 5) // vds of an array, each on a disk of its own of the one dn
	c := begin(t)
	dn, cn := c.realNode("dn"), c.realNode("cn")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: dn.agent.addr, DnListenerConf: dn.listener()}))
	must(c.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: cn.agent.addr, CnListenerConf: cn.listener()}))
	dir := t.TempDir()
	for i := range stripes {
		file := filepath.Join(dir, fmt.Sprint("pd", i))
		must(nil, os.WriteFile(file, nil, 0o600))
		must(nil, os.Truncate(file, 64<<30))
		must(c.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: dn.agent.addr, PdName: fmt.Sprint("pd", i),
			PdConf: fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, file, 64<<30)}))
	}
	c.start("vda_monitor", "monitor")
	c.settle()
	of := map[string]*process{"dn's vda_tgt": dn.plane, "dn's agent": dn.agent, "cn's vda_tgt": cn.plane, "cn's agent": cn.agent}

	for _, n := range []int{arrays / 10, arrays / 2, arrays} {
		const single = 10
		begin := time.Now()
		da, exp := c.made(n, stripes, single)
		t.Logf("%d arrays, %d vds, after %.0f s: da create p50 %.1f ms, exp create p50 %.1f ms", n, n*stripes, time.Since(begin).Seconds(),
			ms(da[len(da)/2]), ms(exp[len(exp)/2]))
		c.idle(fmt.Sprint(n, " arrays"), of)
	}

	begin := time.Now()
	ip, port, _ := net.SplitHostPort(cn.addr)
	log, err := host.Discover(t.Context(), host.Config{Traddr: ip, Trsvcid: port, HostNQN: hostNQN})
	if err != nil {
		t.Fatal(err)
	}
	subsystems := slices.DeleteFunc(log, func(e nvme.DiscoveryEntry) bool { return e.SubNQN == nvme.DiscoveryNQN })
	t.Logf("discovery: %d subsystems in %.1f ms", len(subsystems), ms(time.Since(begin)))
	if len(subsystems) != arrays {
		t.Errorf("discovery names %d subsystems, want %d", len(subsystems), arrays)
	}

	back := host.Resilience{LossTimeout: -1, Delay: time.Second}
	w := c.connect(cn, arrays, func(int) host.Config {
		return host.Config{Resilience: back, Patient: true, ConnectTimeout: 2 * time.Second}
	})
	c.idle("connected", of)
	again := func(n *realNode) func() {
		return func() {
			n.plane.kill()
			n.boot()
		}
	}
	for _, n := range []*realNode{cn, dn} {
		agents := [2]usage{dn.agent.usage(), cn.agent.usage()}
		first, half, last := w.backAfter(again(n))
		t.Logf("kill -9 of the %s's vda_tgt: the first path is back after %.2f s, half of %d after %.2f s, the last after %.2f s; until then "+
			"%.2f s of a core for that vda_tgt, %.2f s for the dn's agent, %.2f s for the cn's", n.kind, first.Seconds(), arrays, half.Seconds(),
			last.Seconds(), n.plane.usage().cpu.Seconds(), (dn.agent.usage().cpu - agents[0].cpu).Seconds(),
			(cn.agent.usage().cpu - agents[1].cpu).Seconds())
		c.settle()
	}
	w.close()

	// An association has two connections here: of commands to the controller, and of I/O.
	of["dn's vda_tgt"], of["cn's vda_tgt"] = dn.plane, cn.plane
	begin = time.Now()
	w = c.connect(cn, connections/2, func(int) host.Config { return host.Config{KeepAlive: 30 * time.Second, ConnectTimeout: time.Minute} })
	t.Logf("%d connections of %d hosts after %.1f s", connections, connections/2, time.Since(begin).Seconds())
	begin = time.Now()
	one := c.connect(cn, 1, func(int) host.Config { return host.Config{} })
	more := time.Since(begin)
	var reads []time.Duration
	for range 200 {
		begin := time.Now()
		if err := one.all[0].Namespace(1).ReadAt(t.Context(), make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		reads = append(reads, time.Since(begin))
	}
	slices.Sort(reads)
	t.Logf("one more host connects in %.1f ms; its reads of 4 KiB: p50 %.3f ms, p99 %.3f ms", ms(more), ms(reads[100]), ms(reads[198]))
	c.idle(fmt.Sprint(connections, " connections"), of)
	for _, h := range w.all {
		if h.State() != host.Enabled {
			t.Errorf("%s is %v", h.Config().SubNQN, h.State())
			break
		}
	}
}
