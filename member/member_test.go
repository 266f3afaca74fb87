package member

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
)

// authority is a portal that has the CA.
type authority struct {
	apiv1.UnimplementedSecurityServer
	ca     *pki.CA
	id     *pki.Identity
	issued atomic.Int32
	others []string
}

// Renew implements apiv1.SecurityServer.
func (a *authority) Renew(ctx context.Context, req *apiv1.RenewRequest) (*apiv1.RenewReply, error) {
	c := rpc.CallerOf(ctx)
	n := pki.Name{Cluster: "c1", Kind: c.Kind, Name: c.Name}
	cert, err := a.ca.Issue(req.Request, n, time.Now(), pki.LeafLife)
	if err != nil {
		return nil, err
	}
	a.issued.Add(1)
	return &apiv1.RenewReply{Issued: &apiv1.Issued{Certificate: string(cert), Ca: string(a.ca.PEM()),
		Security: &apiv1.ClusterSecurity{Portals: a.others}}}, nil
}

// network has the listeners in memory, by address.
type network struct {
	mu  sync.Mutex
	all map[string]*bufconn.Listener
}

// dial is rpc.DialConfig's Connect.
func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.all[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody listens")
	}
	return l.DialContext(ctx)
}

// serve runs a portal until what it returns is called.
func (n *network) serve(t *testing.T, addr string, a *authority, log *slog.Logger) (stop func()) {
	t.Helper()
	p := bufconn.Listen(64 << 10)
	n.mu.Lock()
	n.all[addr] = p
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- rpc.Serve(ctx, p, rpc.Config{Services: func(r grpc.ServiceRegistrar) { apiv1.RegisterSecurityServer(r, a) }, Identity: a.id,
			Registry: prometheus.NewRegistry(), Limits: rpc.Limits{Message: 1 << 20}, Log: log, HealthPeriod: 24 * time.Hour})
	}()
	return func() {
		n.mu.Lock()
		delete(n.all, addr)
		n.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestCertificatesAreRenewed: over half a year of fake time, a portal with the CA and a dn renew
// their certificates half-way, by themselves, with new keys that nobody else can read; also
// after weeks without any portal, and when the one that enrolled the dn is gone for good.
func TestCertificatesAreRenewed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		log := slog.New(slog.DiscardHandler)
		ca, err := pki.NewCA("c1", time.Now().Add(-day))
		if err != nil {
			t.Fatal(err)
		}
		open := func(what string, n pki.Name, issuer string) *pki.Identity {
			t.Helper()
			id, err := pki.Open(filepath.Join(dir, what))
			if err != nil {
				t.Fatal(err)
			}
			csr, err := id.Request()
			if err != nil {
				t.Fatal(err)
			}
			cert, err := ca.Issue(csr, n, time.Now(), pki.LeafLife)
			if err == nil {
				err = id.Accept(cert, ca.PEM(), n, issuer)
			}
			if err == nil {
				err = id.Secure()
			}
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		portal := &authority{ca: ca, id: open("portal", pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p1"}, ""), others: []string{"p1", "p2"}}
		other := &authority{ca: ca, id: open("other", pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p2"}, "")}
		dn := open("dn", pki.Name{Cluster: "c1", Kind: pki.DN, Name: "a:9720"}, "p1")
		file := filepath.Join(dir, "dn", "identity.pem")
		first, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		net := &network{all: map[string]*bufconn.Listener{}}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { keep(ctx, portal.id, ca, rpc.DialConfig{}, log) })
		wg.Go(func() { keep(ctx, other.id, ca, rpc.DialConfig{}, log) })
		wg.Go(func() { keep(ctx, dn, nil, rpc.DialConfig{Connect: net.dial}, log) })
		defer wg.Wait()
		defer cancel()

		days := func(n int) {
			t.Helper()
			for range n {
				time.Sleep(day)
				for what, id := range map[string]*pki.Identity{"portal": portal.id, "dn": dn} {
					if time.Now().After(id.Expires()) {
						t.Fatalf("the certificate of the %s expired at %v", what, id.Expires())
					}
				}
			}
		}
		stop := net.serve(t, "p1", portal, log)
		days(100)
		if n := portal.issued.Load(); n < 6 || n > 7 {
			t.Errorf("the dn renewed %d times in 100 days", n)
		}
		again, err := os.ReadFile(file)
		if err != nil || bytes.Equal(again[:200], first[:200]) {
			t.Errorf("the dn's key is the first: %v", err)
		}
		for _, what := range []string{"dn", "portal"} {
			if fi, err := os.Stat(filepath.Join(dir, what, "identity.pem")); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("the key of the %s: %v, %v", what, fi.Mode(), err)
			}
		}
		stop()
		time.Sleep(dn.RenewIn()) // the worst moment
		days(13)
		stop = net.serve(t, "p1", portal, log)
		days(40)
		stop()
		stop = net.serve(t, "p2", other, log) // p1 does not come back
		days(60)
		if other.issued.Load() < 3 {
			t.Errorf("another portal renewed %d times", other.issued.Load())
		}
		stop()
		if opened, err := pki.Open(filepath.Join(dir, "dn")); err != nil || !opened.Secured() || time.Until(opened.Expires()) < 14*day {
			t.Errorf("after a restart: %v", err)
		}
	})
}
