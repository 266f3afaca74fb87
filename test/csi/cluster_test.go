package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/controller"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
	"github.com/virtual-disk-array/vda/vdatgt"
)

// cluster is a cluster with real data planes: two dns with a disk in memory each, and
// some cns.
type cluster struct {
	testing.TB
	uri    string
	addr   string // of the portal
	portal *client.Client
	dns    []*server
	cns    []*server
}

// newCluster starts a cluster.
func newCluster(t testing.TB, cns int) *cluster {
	t.Helper()
	return newClusterOf(t, cns, 256<<20)
}

// newClusterOf starts one with disks of so many bytes.
func newClusterOf(t testing.TB, cns int, disk uint64) *cluster {
	t.Helper()
	c := &cluster{TB: t, uri: storetest.SQLite(t)}
	c.servePortal()
	for i := range 2 {
		d := c.server("dn")
		c.dns = append(c.dns, d)
		c.must(c.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: d.name, DnListenerConf: d.listener(), Location: fmt.Sprint("rack",
			i)}))
		c.must(c.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: d.name, PdName: "pd0",
			PdConf: fmt.Sprintf(`{"type":"malloc","size":%d}`, disk)}))
	}
	for i := range cns {
		n := c.server("cn")
		c.cns = append(c.cns, n)
		c.must(c.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: n.name, CnListenerConf: n.listener(), Location: fmt.Sprint("rack",
			i)}))
	}
	c.startMonitor()
	return c
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

func (c *cluster) servePortal() {
	c.Helper()
	pool := syncer.NewPool(rpc.DialConfig{})
	c.Cleanup(func() { _ = pool.Close() })
	st := c.open()
	sy, err := syncer.New(syncer.Config{Store: st, Dial: pool, Log: planetest.Log()})
	if err != nil {
		c.Fatal(err)
	}
	p, err := portal.New(portal.Config{Store: st, Syncer: sy, Failover: sy, Programs: pool, Log: planetest.Log()})
	if err != nil {
		c.Fatal(err)
	}
	lis := listen(c)
	c.addr = lis.Addr().String()
	c.run(func(ctx context.Context) error { return p.Serve(ctx, lis) })
	if c.portal, err = client.New(client.Config{Portals: []string{c.addr}}); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = c.portal.Close() })
}

// run runs what ends with its context until the test does, and returns what ends it
// earlier.
func (c *cluster) run(what func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- what(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
	c.Cleanup(stop)
	return stop
}

// startMonitor starts a monitor that takes a node for down when it is gone, and not when it only has
// too little of the machine's time to answer for 3 s: no test here has one hang.
func (c *cluster) startMonitor() {
	pool := syncer.NewPool(rpc.DialConfig{})
	c.Cleanup(func() { _ = pool.Close() })
	m, err := monitor.New(monitor.Config{Store: c.open(), Dial: pool, Name: "monitor", Log: planetest.Log(),
		Timing: monitor.Timing{Misses: 60}})
	if err != nil {
		c.Fatal(err)
	}
	c.run(func(ctx context.Context) error {
		m.Run(ctx)
		return nil
	})
}

// server is a machine with a data plane and its agent.
type server struct {
	*cluster
	kind, name, port string
	state, socket    string
	restarts         sync.Mutex // of the agent
	stopAgent        func()
	stopPlane        func()
}

func (s *server) listener() string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":%q}`, s.port)
}

// socketPath is short, as the paths of sockets are limited.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir + "/s"
}

func (c *cluster) server(kind string) *server {
	c.Helper()
	s := &server{cluster: c, kind: kind, port: freePort(c), state: c.TempDir(), socket: socketPath(c)}
	s.startPlane()
	lis := listen(c)
	s.name = lis.Addr().String()
	s.startAgent(lis)
	return s
}

// startPlane starts a data plane, empty.
func (s *server) startPlane() {
	s.Helper()
	x, err := vdatgt.New(vdatgt.Config{RPCSocket: s.socket, WaitForRPC: true, BufferMemory: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.Fatal(err)
	}
	s.stopPlane = s.run(x.Run)
	k, err := spdk.New(spdk.Config{Socket: s.socket})
	if err != nil {
		s.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := k.WaitReady(ctx); err != nil {
		s.Fatal(err)
	}
	if err := k.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)}); err != nil {
		s.Fatal(err)
	}
	if err := k.FrameworkStartInit(ctx); err != nil {
		s.Fatal(err)
	}
}

// service is what agents of both kinds have.
type service interface {
	Register(grpc.ServiceRegistrar)
	Close() error
}

// startAgent starts the agent, with what it has kept.
func (s *server) startAgent(lis net.Listener) {
	s.Helper()
	node := planetest.Node(s, planetest.NodeConfig{Kind: s.kind, Socket: s.socket, Port: s.port, StateDir: s.state, KeepAlive: unhurried,
		CheckInterval: 500 * time.Millisecond}) // not all the time: agents and data planes would be busy with little else
	var svc service
	var err error
	if s.kind == "dn" {
		svc, err = dn.Start(context.Background(), node)
	} else {
		svc, err = cn.Start(context.Background(), node)
	}
	if err != nil {
		s.Fatal(err)
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	svc.Register(srv)
	s.stopAgent = s.run(func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, srv.Stop)
		defer stop()
		err := srv.Serve(lis)
		if errors.Is(err, grpc.ErrServerStopped) { // before it had begun to serve
			err = nil
		}
		if e := svc.Close(); err == nil {
			err = e
		}
		return err
	})
}

// unhurried is a keep-alive time-out: data planes of one process, on a machine that does
// not let it run for seconds, would give each other up.
const unhurried = 10 * time.Minute

// asLinux has a host connect again for ever to what it has lost, and not hold the I/O of
// a path meanwhile, as others may be there.
var asLinux = host.Resilience{LossTimeout: -1, Delay: 100 * time.Millisecond, FastIOFail: 100 * time.Millisecond}

func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

var nextPort atomic.Int32

// freePort returns a port that nothing listens on now, from below those that the system
// gives to connections.
func freePort(t testing.TB) string {
	for range 1000 {
		port := fmt.Sprint(10000 + (int(nextPort.Add(1))+os.Getpid()*61)%11000)
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// controller is the driver's controller services, on the cluster's portal.
func (c *cluster) controller() *controller.Controller {
	c.Helper()
	ctl, err := controller.New(controller.Config{Portals: []string{c.addr}, Log: planetest.Log()})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(ctl.Close)
	return ctl
}

// rawBlock is what a volume is used as by a pod that takes it as a block device.
func rawBlock() *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
}
