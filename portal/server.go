package portal

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/store"
)

// Syncer brings one node to its desired state: it sends what changed, and
// records what the node answers (errors and capacities of objects, tombstones
// that were carried out). The error is about the node as a whole: it could not
// be reached, or refused. An object that the node could not make is not an
// error here; its row says so. Safe for concurrent use.
type Syncer interface {
	SyncDn(ctx context.Context, dnID string) error
	SyncCn(ctx context.Context, cnID string) error
	// FullDn and FullCn send everything, not only what changed: the node
	// compares all it has and puts right what drifted.
	FullDn(ctx context.Context, dnID string) error
	FullCn(ctx context.Context, cnID string) error
	// EmptyDn and EmptyCn are these, and the node may be left without any
	// object although it has some.
	EmptyDn(ctx context.Context, dnID string) error
	EmptyCn(ctx context.Context, cnID string) error
}

// Failover moves the primary of an array to another of its controllers. toCN
// is the id of the cn to move to, "" for any healthy secondary.
type Failover interface {
	FailoverDa(ctx context.Context, daID, toCN string) error
}

// Config is what a portal needs.
type Config struct {
	Store    store.Store  // the cluster's database
	Syncer   Syncer       // reaches the agents
	Failover Failover     // planned switches; nil: FailoverDa answers UNIMPLEMENTED
	Orphans  Orphans      // what nodes have and the database does not know; usually the Syncer
	Log      *slog.Logger // one record a request; default slog.Default()

	RequestTimeout time.Duration // longest a request may take; default 60 s
	SyncTimeout    time.Duration // longest a reply waits for nodes; default 20 s
	SettleTime     time.Duration // longest a create waits for what is not up at once; default 3 s
	HealthPeriod   time.Duration // how often the database is asked for the health service; default 5 s
}

func (c *Config) validate() error {
	if c.Store == nil || c.Syncer == nil {
		return errors.New("portal: Config needs a Store and a Syncer")
	}
	if c.Orphans == nil {
		own, ok := c.Syncer.(Orphans)
		if !ok {
			return errors.New("portal: Config needs Orphans")
		}
		c.Orphans = own
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	setDefault(&c.RequestTimeout, time.Minute)
	setDefault(&c.SyncTimeout, 20*time.Second)
	setDefault(&c.SettleTime, 3*time.Second)
	setDefault(&c.HealthPeriod, 5*time.Second)
	return nil
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// Server is a portal. Safe for concurrent use.
type Server struct {
	apiv1.UnimplementedPortalServer
	cfg    Config
	log    *slog.Logger
	grpc   *grpc.Server
	guard  *daemon.Guard
	health *health.Server
	stop   context.CancelFunc
	done   chan struct{} // the health loop has ended
}

// limits of what clients can make the portal hold.
var limits = daemon.Limits{Message: maxRequest, Streams: 256, Calls: 256}

// maxReply bounds a reply, bytes: a list of maxLimit rows is well below, and it
// is what gRPC clients take unless told otherwise.
const maxReply = 4 << 20

// New makes a portal; Serve starts it.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, log: cfg.Log, health: health.NewServer(), stop: cancel, done: make(chan struct{}),
		guard: daemon.NewGuard(limits, cfg.Log)}
	s.grpc = grpc.NewServer(append(s.guard.ServerOptions(), grpc.UnaryInterceptor(s.intercept),
		grpc.MaxSendMsgSize(maxReply))...)
	s.guard.Registrar(s.grpc).RegisterService(s.service(), s)
	healthpb.RegisterHealthServer(s.guard.Registrar(s.grpc), s.health)
	reflection.Register(s.grpc)
	go s.watchDatabase(ctx)
	return s, nil
}

// Serve answers on lis until Stop. It returns nil after Stop.
func (s *Server) Serve(lis net.Listener) error { return s.grpc.Serve(s.guard.Listener(lis)) }

// Stop refuses new requests, waits until those under way have ended or ctx is
// done, and closes what is left.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.stop()
	graceful := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.grpc.Stop()
		<-graceful
	}
	<-s.done
}

// watchDatabase keeps the health service truthful: a portal without its
// database is not serving, and a load balancer should know.
func (s *Server) watchDatabase(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(s.cfg.HealthPeriod)
	defer tick.Stop()
	was := healthpb.HealthCheckResponse_UNKNOWN
	for {
		ping, cancel := context.WithTimeout(ctx, s.cfg.HealthPeriod)
		err := s.cfg.Store.Ping(ping)
		cancel()
		if ctx.Err() != nil {
			return
		}
		is := healthpb.HealthCheckResponse_SERVING
		if err != nil {
			is = healthpb.HealthCheckResponse_NOT_SERVING
		}
		if is != was {
			s.health.SetServingStatus("", is)
			s.health.SetServingStatus(apiv1.Portal_ServiceDesc.ServiceName, is)
			if err != nil {
				s.log.Error("the database does not answer", "err", err)
			} else {
				s.log.Info("the database answers")
			}
			was = is
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
