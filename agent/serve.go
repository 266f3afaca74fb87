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
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
)

// limits let a few hundred portals and monitors in. A node has few calls under
// way at once: heartbeats of some milliseconds, and one sync at a time per
// portal or monitor.
var limits = daemon.Limits{Message: rpc.MaxAgentMessage, Streams: 16, Calls: 64, Conns: 512, MinPing: time.Second}

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

// Main runs the program until SIGTERM or SIGINT and returns its exit code.
func (a App) Main(args []string, stderr *os.File) int {
	cfg, err := ParseArgs(a.Name, a.Port, a.SvcPort, args, stderr)
	if errors.Is(err, ErrHelp) {
		return 0
	}
	if err == nil && cfg.ForgetVersions {
		if err = a.forget(cfg, stderr); err == nil {
			return 0
		}
	}
	if err == nil {
		cfg.Log = cfg.Flags.Log(stderr)
		ctx, stop := daemon.Context()
		defer stop()
		err = a.Run(ctx, cfg, nil)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", a.Name, reason.Full(err))
		return 1
	}
	return 0
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
		_, err = fmt.Fprintf(out, "%s: version %d and the highest terms of %d disk arrays are forgotten; start the agent again\n", a.Name, version, terms)
	}
	return errors.Join(err, s.Close())
}

// Run serves until ctx ends. ready, when not nil, gets the address once gRPC
// is served.
func (a App) Run(ctx context.Context, cfg Config, ready chan<- string) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	lis, err := cfg.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	state, err := OpenState(cfg.StateDir, a.Kind)
	if err != nil {
		return err
	}
	plane, err := NewPlane(cfg, a.Kind)
	if err != nil {
		return errors.Join(err, state.Close())
	}
	plane.State = state
	if err := plane.Connect(ctx); err != nil {
		return errors.Join(err, plane.Close(), state.Close())
	}
	svc, err := a.Start(ctx, &Node{Cfg: cfg, State: state, Plane: plane, Log: cfg.Log})
	if err != nil {
		return errors.Join(err, plane.Close(), state.Close())
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	cfg.Log.Info("serving", "addr", lis.Addr().String(), "data_plane", plane.Status().Version, "state_dir", cfg.StateDir)
	if ready != nil {
		ready <- lis.Addr().String()
	}
	return serve(ctx, lis, svc, plane, a.Services, cfg.Log)
}

// serve runs the gRPC server with health and reflection. The services' own
// health follows the data plane's at once: monitors watch it.
func serve(ctx context.Context, lis net.Listener, svc Service, plane *Plane, names []string, log *slog.Logger) error {
	guard := daemon.NewGuard(limits, log)
	srv := grpc.NewServer(guard.ServerOptions()...)
	svc.Register(srv)
	hs := health.NewServer()
	healthv1.RegisterHealthServer(srv, hs)
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
