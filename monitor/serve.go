package monitor

import (
	"context"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
)

// limits of what clients can make a monitor hold: other monitors tell what they
// hear of nodes, some bytes per node.
var limits = daemon.Limits{Message: 4 << 20, Streams: 64}

// serviceName is what the monitor calls itself in the health service.
const serviceName = "vda.v1.Monitor"

// Serve answers on lis until ctx ends: gRPC (other monitors, health and reflection) and, on
// the same port, HTTP with /metrics and /healthz. Requests of content type
// application/grpc over HTTP/2 are gRPC. The health is NOT_SERVING, and
// /healthz 503, while the database doesn't answer.
func (m *Monitor) Serve(ctx context.Context, lis net.Listener) error {
	guard := daemon.NewGuard(limits, m.cfg.Log)
	if err := m.metrics.registry.Register(guard.Collector()); err != nil {
		return err
	}
	rpc := grpc.NewServer(guard.ServerOptions()...)
	hs := health.NewServer()
	healthpb.RegisterHealthServer(guard.Registrar(rpc), hs)
	apiv1.RegisterMonitorServer(guard.Registrar(rpc), hearing{m: m})
	reflection.Register(rpc)
	m.setHealth(hs)

	web := http.NewServeMux()
	web.Handle("GET /metrics", m.metrics.handler())
	web.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !m.Ready() {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ok\n"))
	})
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Protocols:         new(http.Protocols),
		MaxHeaderBytes:    16 << 10,
		HTTP2:             guard.HTTP2(),
		ConnContext:       guard.ConnContext,
		Handler: guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if daemon.IsGRPC(r) {
				rpc.ServeHTTP(w, r)
				return
			}
			web.ServeHTTP(w, r)
		})),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)

	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(guard.Listener(lis)) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-tick.C:
			m.setHealth(hs)
		case <-ctx.Done():
			// Ends the streams that watch the health, which Shutdown would
			// wait for.
			hs.Shutdown()
			rpc.Stop()
			stop, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if srv.Shutdown(stop) != nil {
				srv.Close()
			}
			<-failed
			return nil
		}
	}
}

func (m *Monitor) setHealth(hs *health.Server) {
	s := healthpb.HealthCheckResponse_SERVING
	if !m.Ready() {
		s = healthpb.HealthCheckResponse_NOT_SERVING
	}
	hs.SetServingStatus("", s)
	hs.SetServingStatus(serviceName, s)
}
