// Package portaltest runs portals in a test: real ones on a real database and
// real gRPC, with agents whose data plane is made up.
package portaltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
	"github.com/virtual-disk-array/vda/syncer/fakeagent"
)

// Cluster is a database, its portals and its nodes.
type Cluster struct {
	t     testing.TB
	Store store.Store

	agents *fakeagent.Cluster
}

// New makes a cluster on a new SQLite file.
func New(t testing.TB) *Cluster {
	t.Helper()
	return on(t, storetest.SQLite(t))
}

// On makes a cluster on an empty database.
func On(t testing.TB, uri string) *Cluster {
	t.Helper()
	if _, _, err := store.Create(context.Background(), uri); err != nil {
		t.Fatal(err)
	}
	return on(t, uri)
}

func on(t testing.TB, uri string) *Cluster {
	t.Helper()
	st, err := store.Open(context.Background(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &Cluster{t: t, Store: st, agents: fakeagent.New()}
	c.agents.Capacity = clusters
	t.Cleanup(c.agents.Close)
	return c
}

// clusters is how many clusters of 1 MiB a pd has.
func clusters(conf string) uint64 {
	var c struct{ Size uint64 }
	if json.Unmarshal([]byte(conf), &c) != nil {
		return 0
	}
	return placement.DiskClusters(c.Size, 1<<20)
}

// Agent returns a node's agent, which it starts when there is none at addr.
func (c *Cluster) Agent(addr string) *fakeagent.Agent {
	if a := c.agents.Agent(addr); a != nil {
		return a
	}
	return c.agents.Start(addr)
}

// Move has a node's agent run at another address, with the state it had.
func (c *Cluster) Move(from, to string) { c.agents.Move(from, to) }

// Portal starts a portal of the cluster on a loopback port and returns its
// address. The options may change its Config.
func (c *Cluster) Portal(options ...func(*portal.Config)) string {
	c.t.Helper()
	addr, _ := c.PortalToStop(options...)
	return addr
}

// PortalToStop is Portal, with what ends it before the test does.
func (c *Cluster) PortalToStop(options ...func(*portal.Config)) (addr string, stop func()) {
	c.t.Helper()
	pool := syncer.NewPool(rpc.DialConfig{Connect: c.agents.DialContext})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	sy, err := syncer.New(syncer.Config{Store: storetest.Ordered(c.t, c.Store), Dial: pool, Log: log})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := portal.Config{Store: c.Store, Syncer: sy, Failover: sy, Programs: pool, Log: log, SyncTimeout: 5 * time.Second,
		SettleTime: 500 * time.Millisecond}
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
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, lis) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := errors.Join(<-served, pool.Close()); err != nil {
				c.t.Error(err)
			}
		})
	}
	c.t.Cleanup(stop)
	return lis.Addr().String(), stop
}

// Dial is a client of the portal at addr. A reply that says what a library
// said fails the test.
func (c *Cluster) Dial(addr string) *client.Client {
	c.t.Helper()
	cl, err := client.New(client.Config{Portals: []string{addr}, Dial: rpc.DialConfig{Intercept: []grpc.UnaryClientInterceptor{c.read}}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// Client starts a portal and is its client.
func (c *Cluster) Client(options ...func(*portal.Config)) *client.Client {
	c.t.Helper()
	return c.Dial(c.Portal(options...))
}

// Listener is a listener conf on the port.
func Listener(port int) string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":"192.0.2.1","adrfam":"ipv4","trsvcid":"%d"}`, port)
}

// Change changes rows, as a monitor does.
func (c *Cluster) Change(fn func(tx store.Tx) error) {
	c.t.Helper()
	if err := c.Store.Update(context.Background(), fn); err != nil {
		c.t.Fatal(err)
	}
}

// RunsSPDK has a cn be one that runs SPDK, as vda_monitor finds out.
func (c *Cluster) RunsSPDK(cn string) {
	c.t.Helper()
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.ControllerNode, cn)
		if err != nil {
			return err
		}
		n.DataPlaneVersion = "SPDK v26.05"
		return tx.UpdateNode(vda.ControllerNode, n)
	})
}

// CanAuth has the cluster be a secured one as far as the database goes, and all cns said
// to be able to have hosts authenticate, as vda_monitor finds out.
func (c *Cluster) CanAuth() {
	c.t.Helper()
	c.Change(func(tx store.Tx) error {
		cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		for i := range cns {
			err = errors.Join(err, tx.SetCNAuth(cns[i].ID, true))
		}
		return errors.Join(err, tx.SetSecurity(store.Security{Secured: true}))
	})
}

// CanMirror has all cns said to have data planes that can mirror, as vda_monitor
// finds out.
func (c *Cluster) CanMirror() {
	c.t.Helper()
	err := c.Store.Update(context.Background(), func(tx store.Tx) error {
		cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
		for i := range cns {
			err = errors.Join(err, tx.SetCNMirrors(cns[i].ID, true))
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
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
