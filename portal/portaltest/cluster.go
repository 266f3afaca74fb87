// Package portaltest runs portals in a test: real ones on a real database and
// real gRPC, with agents whose data plane is made up.
package portaltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// Cluster is a database, its portals and its nodes.
type Cluster struct {
	t     testing.TB
	Store store.Store

	mu     sync.Mutex
	agents map[string]*Agent
}

// New makes a cluster on a new SQLite file.
func New(t testing.TB) *Cluster {
	t.Helper()
	return On(t, "sqlite:///"+filepath.Join(t.TempDir(), "vda.db"))
}

// On makes a cluster on an empty database.
func On(t testing.TB, uri string) *Cluster {
	t.Helper()
	ctx := context.Background()
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &Cluster{t: t, Store: st, agents: map[string]*Agent{}}
}

// Agent makes a node's agent reachable at addr.
func (c *Cluster) Agent(addr string) *Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agents[addr] == nil {
		c.agents[addr] = newAgent(addr)
		c.t.Cleanup(c.agents[addr].Stop)
	}
	return c.agents[addr]
}

func refused(addr string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
}

func (c *Cluster) dial(ctx context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	a := c.agents[addr]
	c.mu.Unlock()
	if a == nil {
		return nil, refused(addr)
	}
	return a.dial(ctx)
}

// Portal starts a portal of the cluster on a loopback port and returns its
// address. The options may change its Config.
func (c *Cluster) Portal(options ...func(*portal.Config)) string {
	c.t.Helper()
	pool := syncer.NewPool(rpc.DialConfig{Connect: c.dial})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	sy, err := syncer.New(syncer.Config{Store: c.Store, Dial: pool, Log: log})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := portal.Config{Store: c.Store, Syncer: sy, Failover: sy, Log: log, SyncTimeout: 5 * time.Second, SettleTime: 500 * time.Millisecond}
	for _, o := range options {
		o(&cfg)
	}
	s, err := portal.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Stop(ctx)
		if err := errors.Join(<-served, pool.Close()); err != nil {
			c.t.Error(err)
		}
	})
	return lis.Addr().String()
}

// Dial is a client of the portal at addr. A reply that says what a library
// said fails the test.
func (c *Cluster) Dial(addr string) apiv1.PortalClient {
	c.t.Helper()
	conn, err := rpc.Dial(addr, rpc.DialConfig{Intercept: []grpc.UnaryClientInterceptor{c.read}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return apiv1.NewPortalClient(conn)
}

// Client starts a portal and is its client.
func (c *Cluster) Client(options ...func(*portal.Config)) apiv1.PortalClient {
	c.t.Helper()
	return c.Dial(c.Portal(options...))
}

// Listener is a listener conf on the port.
func Listener(port int) string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":"192.0.2.1","adrfam":"ipv4","trsvcid":"%d"}`, port)
}

// Populate adds dns with one malloc pd of 128 MiB each, and cns, all healthy
// and each in a location of its own: dn0:9720 …, cn0:9820 ….
func (c *Cluster) Populate(client apiv1.PortalClient, dns, cns int) {
	c.t.Helper()
	ctx := context.Background()
	for i := range dns {
		name := fmt.Sprintf("dn%d:9720", i)
		c.Agent(name)
		_, err := client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: name, DnListenerConf: Listener(4000 + i)})
		if err == nil {
			_, err = client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: name, PdName: "pd0", PdConf: `{"type":"malloc","size":134217728}`})
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	for i := range cns {
		name := fmt.Sprintf("cn%d:9820", i)
		c.Agent(name)
		if _, err := client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: name, CnListenerConf: Listener(5000 + i)}); err != nil {
			c.t.Fatal(err)
		}
	}
}
