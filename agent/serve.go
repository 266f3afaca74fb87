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
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/rpc"
)

// limits let a few hundred portals and monitors in. A node has few calls under
// way at once: heartbeats of some milliseconds, and one sync at a time per
// portal or monitor.
var limits = daemon.Limits{Message: rpc.MaxAgentMessage, Memory: 128 << 20, Streams: 16, Calls: 64, Conns: 512, MinPing: time.Second}

// App is an agent as a program.
type App struct {
	Name     string // of the program
	Kind     string // "dn" or "cn"
	Port     int    // default
	SvcPort  int    // of the data plane, in the usage
	Services []string
	// Start makes the agent's service on a node and begins its work.
	Start func(ctx context.Context, n *Node) (Service, error)
}

// Service is a running agent.
type Service interface {
	Register(grpc.ServiceRegistrar)
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

// serve runs the gRPC server with health and reflection. The services' own
// health follows the data plane's at once: monitors watch it.
func serve(ctx context.Context, lis net.Listener, svc Service, plane *Plane, names []string, log *slog.Logger) error {
	guard := daemon.NewGuard(limits, log)
	srv := grpc.NewServer(guard.ServerOptions()...)
	svc.Register(guard.Registrar(srv))
	hs := health.NewServer()
	healthv1.RegisterHealthServer(guard.Registrar(srv), hs)
	reflection.Register(srv)

	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(guard.Listener(lis)) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		state := healthv1.HealthCheckResponse_SERVING
		if plane.Ready() != nil {
			state = healthv1.HealthCheckResponse_NOT_SERVING
		}
		for _, n := range names {
			hs.SetServingStatus(n, state)
		}
		select {
		case err := <-failed:
			return err
		case <-plane.changed:
		case <-tick.C:
		case <-ctx.Done():
			hs.Shutdown()
			force := time.AfterFunc(3*time.Second, srv.Stop)
			srv.GracefulStop()
			force.Stop()
			return nil
		}
	}
}
