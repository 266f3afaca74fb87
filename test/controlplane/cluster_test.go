package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// cluster is a control plane and its nodes.
type cluster struct {
	*testing.T
	uri    string
	net    *planetest.Cluster
	portal *client.Client
	later  atomic.Bool // the portal leaves it to the monitors to tell nodes
	dns    []*node
	cns    []*node

	replaceAfter time.Duration // of monitors; 0: their default
}

// node is a server with a model of a data plane.
type node struct {
	name  string // address of its agent
	plane *planetest.Plane
	kill  func() // like kill -9 of agent and data plane at once
}

// begin makes the schema and starts a portal and monitors on the database, and
// two dns with a pd each and two cns.
func begin(t *testing.T, uri string, monitors int) *cluster {
	t.Helper()
	c := &cluster{T: t, uri: uri, net: planetest.NewCluster()}
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	c.servePortal()
	for range 2 {
		c.addDN()
	}
	for i := range 2 {
		n := c.node("cn", 4430+i)
		c.cns = append(c.cns, n)
		c.must(c.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: n.name, CnListenerConf: listener(4430 + i),
			Location: fmt.Sprint("rack", i)}))
	}
	for i := range monitors {
		c.startMonitor(i)
	}
	return c
}

// addDN adds a dn with a pd.
func (c *cluster) addDN() {
	c.Helper()
	i := len(c.dns)
	n := c.node("dn", 4420+i)
	c.dns = append(c.dns, n)
	c.must(c.portal.CreateDn(c.Context(), &apiv1.CreateDnRequest{DnName: n.name, DnListenerConf: listener(4420 + i),
		Location: fmt.Sprint("rack", i)}))
	c.must(c.portal.CreatePd(c.Context(), &apiv1.CreatePdRequest{DnName: n.name, PdName: "pd0",
		PdConf: `{"type":"malloc","size":549755813888}`}))
}

func listener(port int) string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"%d"}`, port)
}

// must fails the test for an error; it takes what a call returns.
func (c *cluster) must(_ any, err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) open() store.Store {
	c.Helper()
	st, err := store.Open(c.Context(), c.uri)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = st.Close() })
	return st
}

func (c *cluster) listen() net.Listener {
	c.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Fatal(err)
	}
	return lis
}

func (c *cluster) servePortal() {
	c.Helper()
	pool := syncer.NewPool(rpc.DialConfig{})
	c.Cleanup(func() { _ = pool.Close() })
	st := c.open()
	sy, err := syncer.New(syncer.Config{Store: st, Dial: pool, Log: planetest.Log()})
	if err != nil {
		c.Fatal(err)
	}
	p, err := portal.New(portal.Config{Store: st, Syncer: teller{sy, &c.later}, Failover: sy, Log: planetest.Log()})
	if err != nil {
		c.Fatal(err)
	}
	lis := c.listen()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, lis) }()
	c.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			c.Error(err)
		}
	})
	c.portal, err = client.New(client.Config{Portals: []string{lis.Addr().String()}})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = c.portal.Close() })
}

// teller is a Syncer that may leave its work to the monitors, which tell a node
// of many arrays at once.
type teller struct {
	*syncer.Syncer
	later *atomic.Bool
}

func (t teller) Sync(ctx context.Context, n array.Node, scope syncer.Scope) error {
	if t.later.Load() && scope == syncer.Changes {
		return nil
	}
	return t.Syncer.Sync(ctx, n, scope)
}

// startMonitor starts a monitor with its defaults, which ends with the test or with stop.
func (c *cluster) startMonitor(i int) (stop func()) {
	c.Helper()
	pool := syncer.NewPool(rpc.DialConfig{})
	m, err := monitor.New(monitor.Config{Store: c.open(), Dial: pool, Name: fmt.Sprint("monitor", i), Log: planetest.Log(),
		Timing: monitor.Timing{ReplaceAfter: c.replaceAfter}})
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		_ = pool.Close()
	})
	c.Cleanup(stop)
	return stop
}

// service is what agents of both kinds have.
type service interface {
	Register(grpc.ServiceRegistrar)
	Close() error
}

func (c *cluster) node(kind string, port int) *node {
	c.Helper()
	n := &node{plane: planetest.NewPlane(c, c.net, true)}
	cfg := planetest.NodeConfig{Kind: kind, Socket: n.plane.Socket, Port: fmt.Sprint(port), StateDir: c.TempDir(),
		CheckInterval: 3 * time.Second,
		OpenRaw:       c.net.OpenRaw, Reach: func(context.Context, spdk.TransportID) error { return nil }}
	start := func(ctx context.Context, n *agent.Node) (service, error) { return cn.Start(ctx, n) }
	if kind == "dn" {
		start = func(ctx context.Context, n *agent.Node) (service, error) { return dn.Start(ctx, n) }
	}
	svc, err := start(context.Background(), planetest.Node(c, cfg))
	if err != nil {
		c.Fatal(err)
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	svc.Register(srv)
	lis := c.listen()
	n.name = lis.Addr().String()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	n.kill = sync.OnceFunc(func() {
		n.plane.Stop()
		srv.Stop()
		if err := errors.Join(<-served, svc.Close()); err != nil {
			c.Error(err)
		}
	})
	c.Cleanup(n.kill)
	return n
}

// array makes an array of 8 MiB striped over both dns, with two controllers
// and an exporter.
func (c *cluster) array(i int) error {
	return c.make(i, &apiv1.CreateDaRequest{DaConf: `{"stripe_count":2, "stripe_size_kb":64}`})
}

// make makes an array of 8 MiB with two controllers and an exporter; r says how it is
// laid out.
func (c *cluster) make(i int, r *apiv1.CreateDaRequest) error {
	name := fmt.Sprint("da", i)
	r.DaName, r.CntlrCnt, r.DaSize = name, 2, 8<<20
	_, err := c.portal.CreateDa(c.Context(), r)
	if err == nil {
		_, err = c.portal.CreateExp(c.Context(), &apiv1.CreateExpRequest{DaName: name, ExpName: "exp0",
			InitiatorNqn: "nqn.2016-06.io.spdk:host0"})
	}
	return err
}

func expNQN(i int) string { return fmt.Sprintf("nqn.2016-06.io.spdk:vda-exp-da%d-exp0", i) }

// serves counts the exporters of n arrays whose path through a cn is
// optimized.
func (c *cluster) serves(at *node, arrays int) (n int) {
	for i := range arrays {
		if at.plane.ANA(expNQN(i)) == "optimized" {
			n++
		}
	}
	return n
}

// until waits for fn and says how long that took.
func (c *cluster) until(what string, fn func() bool) time.Duration {
	c.Helper()
	return c.reaches(what, 1, func() int {
		if fn() {
			return 1
		}
		return 0
	})
}

// reaches waits until fn is n at least, as long as it still moves, and says how
// long that took.
func (c *cluster) reaches(what string, n int, fn func() int) time.Duration {
	c.Helper()
	const patience = 10 * time.Minute // a batch of moves takes minutes under the race detector on a busy machine, and ends at once
	begin := time.Now()
	for last, moved := -1, begin; ; {
		looked := time.Now()
		now := fn()
		if now >= n {
			return time.Since(begin)
		}
		// To look at a thousand arrays is work itself, which what is waited for must not wait for.
		time.Sleep(max(10*time.Millisecond, 9*time.Since(looked)))
		if now != last {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > patience {
			c.Fatalf("%s: %d of %d, the same for %v", what, now, n, patience)
		}
	}
}
