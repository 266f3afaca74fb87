package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/support"
)

// Config says what a program serves, and how.
type Config struct {
	// Services registers the program's services.
	Services func(grpc.ServiceRegistrar)
	// Reflection tells clients of the services and messages there are, whom Authorize
	// lets.
	Reflection bool
	// Limits bound what clients can make the program hold.
	Limits Limits
	// Registry is where the server's metrics go and /metrics come from; see
	// httpd.NewRegistry.
	Registry *prometheus.Registry
	// Log gets one record per call, under the id of its request. Default
	// slog.Default().
	Log *slog.Logger

	// TLS encrypts every connection, and demands certificates of clients when
	// it says so; nil: all is in the clear.
	TLS *tls.Config
	// Identity is the program's, in place of TLS: when it has a certificate, TLS is
	// taken, and certificates of callers are checked at every call; when it is
	// secured, nothing else is. It may get a certificate while the program serves.
	Identity *pki.Identity
	// WebCertificate is what clients of HTTP get in place of Identity's certificate, when
	// there is TLS; its error is logged, and is fatal without a certificate. nil: the same.
	WebCertificate func() (*tls.Certificate, error)
	// Users says which user a token in a call's metadata stands for; nil: there are
	// no users.
	Users func(ctx context.Context, token string) (Caller, error)
	// Authorize says whether a call may be made: nil error, or what its client
	// gets, a gRPC status or an error of the program's own, which Intercept
	// sees. Requests over HTTP are asked for too. Default: every call may.
	Authorize func(context.Context, Call) error
	// ScrapeToken, when it is not "", lets an HTTP request over TLS that shows it
	// (Authorization: Bearer) get /metrics, whatever Authorize says.
	ScrapeToken string
	// Audit is told of every gRPC call that has ended, and with which error, and of requests over
	// HTTP that Authorize, or who makes them, has had refused.
	Audit func(context.Context, Call, error)

	// Refusals counts connections that were refused for who made them and, where there is no Audit, calls
	// and requests over HTTP too; nil: nothing does.
	Refusals *Refusals

	// Deadline is the longest that a unary call may take. Default 1 min.
	Deadline time.Duration
	// Early ends a call that its client waits for a tenth of that time, but at
	// most a second, before the client gives up.
	Early bool
	// Quiet are methods that programs call all the time, such as "Heartbeat":
	// they are logged for debugging only, as health and reflection are.
	Quiet []string
	// Intercept sees unary calls to the program's services, between Deadline
	// and Authorize: it may put errors and replies into the program's words. A
	// panic of the handler has become an error by then.
	Intercept grpc.UnaryServerInterceptor

	// Web makes the handler of HTTP requests that are not for /metrics or /healthz.
	// Calls on conn go to the program's own services, with all that is above; they
	// may be made until the server stops. nil: such requests get status 404.
	Web func(conn grpc.ClientConnInterface) http.Handler

	// Health says why the services cannot do their work now, in words that
	// anyone may read; nil: they can. It may wait for HealthPeriod. Default:
	// they always can.
	Health func(context.Context) error
	// HealthPeriod is the time between two calls of Health. Default 1 s.
	HealthPeriod time.Duration
	// Changed has Health called at once.
	Changed <-chan struct{}
	// News has those hear of something who watch the health of a service's name
	// with NewsSuffix behind it: it is "serving" and "not serving" in turn.
	News <-chan struct{}
	// Alive has the program as a whole, which is service "" and /healthz, well
	// whatever Health says of its services.
	Alive bool

	// Grace is how long calls under way may go on once the server is asked to
	// stop. Default 3 s.
	Grace time.Duration
	// Counters is what an agent has counted of I/O; nil: the program counts none.
	Counters func(context.Context) *apiv1.CountersReply
	// Support is what the program adds to a support bundle, beside log, goroutines and
	// metrics, without secrets; nil: nothing.
	Support func(context.Context) []support.File
}

// NewsSuffix is behind the name of a service whose news are watched: see Config's
// News.
const NewsSuffix = ".news"

// newsInterval is the least time between two news, so that the health service
// does not take two for none.
const newsInterval = 10 * time.Millisecond

func (c *Config) validate() error {
	if c.TLS != nil && c.Identity != nil {
		return errors.New("rpc: Config takes TLS or an Identity, not both")
	}
	if c.Services == nil || c.Registry == nil {
		return errors.New("rpc: Config needs Services and a Registry")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Health == nil {
		c.Health = func(context.Context) error { return nil }
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.Deadline, time.Minute}, {&c.HealthPeriod, time.Second}, {&c.Grace, 3 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return nil
}

// server is one run of Serve.
type server struct {
	cfg      Config
	guard    *guard
	rpc      *grpc.Server
	unary    []grpc.UnaryServerInterceptor // outermost first
	local    *local
	health   *health.Server
	names    []string // of the program's services
	metrics  *metrics
	stopping context.Context // ends when streams must
	unwell   atomic.Pointer[error]
}

// errStarting is what /healthz says before Health was asked.
var errStarting = errors.New("the program is starting")

// Serve answers on lis until ctx ends: gRPC, with the services of cfg, health
// and Config.Reflection, and on the same port HTTP/1 with /metrics and /healthz. When
// ctx ends, health says NOT_SERVING, lis is closed, streams end, and calls under
// way may go on for Grace. The error is why it could not go on; what was
// wrong with single calls is in the log.
func Serve(ctx context.Context, lis net.Listener, cfg Config) error {
	s, err := newServer(cfg)
	if err != nil {
		return err
	}
	var stopStreams context.CancelFunc
	s.stopping, stopStreams = context.WithCancel(context.Background())
	defer stopStreams()
	secure, clear := s.security()
	p := newPort(s.guard.Listener(lis), secure, clear, s.cfg.Log)
	p.webCert, p.refusals = s.cfg.WebCertificate, s.cfg.Refusals
	web := s.web()
	failed, ended := make(chan error, 3), make(chan struct{}, 3)
	for _, run := range []func() error{
		p.run,
		func() error { return s.rpc.Serve(p.rpc) },
		func() error { return web.Serve(p.web) },
	} {
		go func() {
			failed <- run()
			ended <- struct{}{}
		}()
	}
	watch, stopWatch := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var wg sync.WaitGroup
		if s.cfg.News != nil {
			wg.Go(func() { s.passNews(watch) })
		}
		s.watchHealth(watch)
		wg.Wait()
	}()
	stopping := daemon.Serving()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stopping()
	stopWatch()
	<-watched
	s.health.Shutdown()
	p.close()
	stopStreams()
	s.stop(web)
	for range 3 {
		<-ended
	}
	return err
}

// stop waits for the calls under way, for as long as Grace.
func (s *server) stop(web *http.Server) {
	grace, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer cancel()
	force := context.AfterFunc(grace, s.rpc.Stop)
	s.rpc.GracefulStop()
	force()
	if web.Shutdown(grace) != nil {
		_ = web.Close() // what is left took too long
	}
}

func newServer(cfg Config) (*server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, guard: newGuard(cfg.Limits, cfg.Log), health: health.NewServer()}
	s.unwell.Store(&errStarting)
	var err error
	if s.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, err
	}
	if err := cfg.Registry.Register(s.guard.Collector()); err != nil {
		return nil, err
	}
	s.unary = []grpc.UnaryServerInterceptor{s.begin, s.deadline}
	if cfg.Intercept != nil {
		s.unary = append(s.unary, s.ours(cfg.Intercept))
	}
	s.unary = append(s.unary, s.authorize)
	opts := append(s.guard.ServerOptions(),
		grpc.ChainUnaryInterceptor(s.unary...), grpc.ChainStreamInterceptor(s.stream))
	opts = append(opts, grpc.Creds(shaken{insecure.NewCredentials()}))
	s.rpc = grpc.NewServer(opts...)
	cfg.Services(s.guard.Registrar(s.rpc))
	s.local = &local{s, map[string]localMethod{}}
	cfg.Services(s.local)
	for name := range s.rpc.GetServiceInfo() {
		s.names = append(s.names, name)
	}
	apiv1.RegisterProgramServer(s.guard.Registrar(s.rpc), about{own: s.cfg.support, counters: s.cfg.Counters})
	healthpb.RegisterHealthServer(s.guard.Registrar(s.rpc), s.health)
	if cfg.Reflection {
		reflection.Register(s.rpc)
	}
	if err := s.registerSecurity(); err != nil {
		return nil, err
	}
	s.say(false) // until Health is asked
	return s, nil
}

// ours has the program's interceptor see the calls of its own services.
func (s *server) ours(intercept grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		service, _, _ := strings.Cut(strings.TrimPrefix(info.FullMethod, "/"), "/")
		for _, n := range s.names {
			if n == service {
				return intercept(ctx, req, info, handle)
			}
		}
		return handle(ctx, req)
	}
}

// web is the HTTP side.
func (s *server) web() *http.Server {
	cfg := httpd.Config{Registry: s.cfg.Registry, Log: s.cfg.Log, Healthy: func() error {
		if s.cfg.Alive {
			return nil
		}
		return *s.unwell.Load()
	}}
	if s.cfg.Authorize != nil || s.cfg.Identity != nil {
		cfg.Authorize = s.allowedWeb
	}
	if s.cfg.Web != nil {
		cfg.Rest = s.pages(s.cfg.Web(s.local))
	}
	web := httpd.Server(httpd.Handler(cfg), s.cfg.Log)
	s.guard.HTTP(web)
	return web
}

// watchHealth keeps the health service truthful until ctx ends.
func (s *server) watchHealth(ctx context.Context) {
	tick := time.NewTicker(s.cfg.HealthPeriod)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, s.cfg.HealthPeriod)
		err := s.cfg.Health(asked)
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.unwell.Store(&err)
		s.say(err == nil)
		select {
		case <-ctx.Done():
			return
		case <-s.cfg.Changed:
		case <-tick.C:
		}
	}
}

// passNews tells the health service of news until ctx ends.
func (s *server) passNews(ctx context.Context) {
	for state := healthpb.HealthCheckResponse_SERVING; ; {
		for _, n := range s.names {
			s.health.SetServingStatus(n+NewsSuffix, state)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(newsInterval):
		}
		select {
		case <-ctx.Done():
			return
		case <-s.cfg.News:
		}
		if state++; state > healthpb.HealthCheckResponse_NOT_SERVING {
			state = healthpb.HealthCheckResponse_SERVING
		}
	}
}

// say tells the health service and the metrics how the services are.
func (s *server) say(well bool) {
	state, healthy := healthpb.HealthCheckResponse_NOT_SERVING, 0.0
	if well {
		state, healthy = healthpb.HealthCheckResponse_SERVING, 1
	}
	s.metrics.healthy.Set(healthy)
	for _, n := range s.names {
		s.health.SetServingStatus(n, state)
	}
	if !s.cfg.Alive {
		s.health.SetServingStatus("", state)
	}
}
