package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/support"
)

// limits let a few hundred portals and monitors in. A node has few calls under
// way at once: heartbeats of some milliseconds, and one sync at a time per
// portal or monitor.
var limits = rpc.Limits{Message: rpc.MaxAgentMessage, Memory: 128 << 20, Streams: 16, Calls: 64, Conns: 512,
	First: []string{"Heartbeat", "Probe"}, Lasting: []string{"Beats"}}

// identityDir is the folder in Config.StateDir with who the agent is.
const identityDir = "tls"

// learns has an agent take from the heartbeats of portals and monitors, who have shown their
// certificates, whether the cluster is secured and whom to refuse.
func learns(id *pki.Identity, log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		reply, err := handle(ctx, req)
		beat, ok := req.(*apiv1.HeartbeatRequest)
		if kind := rpc.CallerOf(ctx).Kind; ok && beat.GetSecurity() != nil && (kind == pki.Portal || kind == pki.Monitor) {
			was := id.Secured()
			if err := member.Learn(id, beat.GetSecurity()); err != nil {
				log.Error("what the cluster says of its security could not be kept", "err", err)
			} else if !was && id.Secured() {
				log.Info("the cluster is secured: calls in the clear are refused from now on")
			}
		}
		return reply, err
	}
}

// both has one interceptor see what the other one hands on.
func both(outer, inner grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		return outer(ctx, req, info, func(ctx context.Context, req any) (any, error) { return inner(ctx, req, info, handle) })
	}
}

// App is an agent as a program.
type App struct {
	Name    string // of the program
	Kind    string // "dn" or "cn"
	Port    int    // default
	SvcPort int    // of the data plane, in the usage
	// Start makes the agent's service on a node and begins its work.
	Start func(ctx context.Context, n *Node) (Service, error)
}

// Service is a running agent.
type Service interface {
	Register(grpc.ServiceRegistrar)
	// Measured is what /metrics shows the I/O of.
	Measured() []Measured
	Close() error
}

// forget is --forget-versions.
func (a App) forget(cfg Config, out io.Writer) error {
	if _, err := os.Stat(filepath.Join(cfg.StateDir, stateName)); err != nil {
		return fmt.Errorf("state-dir: %w; give that of the agent with --state-dir", err)
	}
	s, err := OpenState(cfg.StateDir, a.Kind)
	if err != nil {
		return err
	}
	version, terms, err := s.ForgetVersions()
	if err == nil {
		_, err = fmt.Fprintf(out,
			"%s: version %d and the highest terms of %d disk arrays are forgotten; start the agent again\n", a.Name, version, terms)
	}
	return errors.Join(err, s.Close())
}

// serve answers on lis until ctx ends. The services' health follows the data
// plane's at once, as monitors watch it; the agent itself is well without one.
func (m Main) serve(ctx context.Context, lis net.Listener, svc Service, n *Node, id *pki.Identity) error {
	registry := httpd.NewRegistry(m.Name)
	if err := registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vda_agent_objects_in_error",
		Help: "Objects of the desired state that the agent could not make or unmake at its last attempt."},
		func() float64 { return float64(len(n.Loop.Errors())) })); err != nil {
		return err
	}
	meter := NewMeter(m.Kind, n.Plane, svc.Measured)
	if err := registry.Register(meter); err != nil {
		return err
	}
	scrape, err := m.ScrapeToken()
	if err != nil {
		return err
	}
	authorize := m.Authorize
	if authorize == nil {
		authorize = rpc.Members(id, pki.Portal, pki.Monitor)
	}
	refusals := rpc.NewRefusals()
	return rpc.Serve(ctx, lis, rpc.Config{
		Refusals:    refusals,
		ScrapeToken: scrape,
		Services:    svc.Register,
		Limits:      limits,
		Registry:    registry,
		Identity:    id,
		Authorize:   authorize,
		Intercept:   both(learns(id, n.Log), refusals.Beats),
		Log:         n.Log,
		Quiet:       []string{"Heartbeat", "Beats"},
		Health:      func(context.Context) error { return n.Plane.Ready() },
		Changed:     n.Plane.changed,
		News:        n.news,
		Alive:       true,
		Counters:    meter.Counters,
		Support:     func(ctx context.Context) []support.File { return n.support(ctx, m.StateDir) },
	})
}
