package portal

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal/discovery"
	"github.com/virtual-disk-array/vda/portal/oidc"
	"github.com/virtual-disk-array/vda/portal/web"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// Syncer brings one node to its desired state: it sends what changed, and
// records what the node answers (errors and capacities of objects, tombstones
// that were carried out). The error is about the node as a whole: it could not
// be reached, or refused. An object that the node could not make is not an
// error here; its row says so. Safe for concurrent use.
type Syncer interface {
	Sync(ctx context.Context, n array.Node, scope syncer.Scope) error
}

// Agents asks the agent at an address whether it is a node's; the error says why it is not.
type Agents interface {
	Serves(ctx context.Context, id string, at vda.At) error
}

// Failover moves the primary of an array to another of its controllers. toCN
// is the id of the cn to move to, "" for any healthy secondary.
type Failover interface {
	FailoverDa(ctx context.Context, daID, toCN string) error
}

// Config is what a portal needs.
type Config struct {
	Store    store.Store          // the cluster's database
	Syncer   Syncer               // reaches the agents
	Failover Failover             // planned switches; nil: FailoverDa answers UNIMPLEMENTED
	Orphans  Orphans              // what nodes have and the database does not know; usually the Syncer
	Disks    Disks                // what disk nodes have; usually the Syncer
	Agents   Agents               // what agents say that they are; usually the Syncer
	Programs Programs             // monitors and agents, to be asked for their versions; nil: they are not asked
	Identity *pki.Identity        // who the portal is; nil: it is plain
	CA       *pki.CA              // issues certificates to members; nil: another portal does
	Events   *syncer.EventMetrics // counts events of Store, and is shown with the metrics; nil: there are none
	Log      *slog.Logger         // one record per request; default slog.Default()

	// WebToken lets people and programs in over HTTP, see package web; "": there are
	// no pages and no REST.
	WebToken string

	// Discovery is the address and port where hosts find what they may connect to; "": they cannot.
	Discovery string

	// AuditLog gets what users changed, or were refused, at this portal; nil: nothing does.
	AuditLog *AuditLog

	// WebCertificate is what browsers and programs that speak HTTP get in place of Identity's,
	// when there is TLS; nil: the same.
	WebCertificate *pki.WebCertificate

	// OIDC logs users in at an issuer; nil: there is none.
	OIDC *oidc.Issuer

	// PasswordCost is what it costs to try a password; default pki.UsualCost.
	PasswordCost pki.PasswordCost

	RequestTimeout time.Duration // longest a request may take; default 60 s
	SyncTimeout    time.Duration // longest a reply waits for nodes; default 20 s
	SettleTime     time.Duration // longest a create waits for what is not up at once; default 3 s
	HealthPeriod   time.Duration // how often the database is asked for the health service; default 5 s
	WatchPeriod    time.Duration // how often the database is asked for events by those who watch; default 1 s
	StopTime       time.Duration // how long a portal that stops waits for requests under way; default 10 s
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
	if c.Disks == nil {
		own, ok := c.Syncer.(Disks)
		if !ok {
			return errors.New("portal: Config needs Disks")
		}
		c.Disks = own
	}
	if c.Agents == nil {
		own, ok := c.Syncer.(Agents)
		if !ok {
			return errors.New("portal: Config needs Agents")
		}
		c.Agents = own
	}
	if c.WebToken != "" && len(c.WebToken) < web.MinToken {
		return fmt.Errorf("portal: WebToken has %d characters; it must have %d at least", len(c.WebToken), web.MinToken)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.PasswordCost == (pki.PasswordCost{}) {
		c.PasswordCost = pki.UsualCost
	}
	setDefault(&c.RequestTimeout, time.Minute)
	setDefault(&c.SyncTimeout, 20*time.Second)
	setDefault(&c.SettleTime, 3*time.Second)
	setDefault(&c.HealthPeriod, 5*time.Second)
	setDefault(&c.WatchPeriod, time.Second)
	setDefault(&c.StopTime, 10*time.Second)
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
	cfg Config
	log *slog.Logger

	refusals refusals
	strange  *rpc.Refusals // connections
	logins   logins
	registry *prometheus.Registry
}

// limits of what clients can make the portal hold.
var limits = rpc.Limits{Message: maxRequest, Reply: maxReply, Streams: 256, Calls: 256, First: []string{"GetStatus"}}

// maxReply bounds a reply, bytes: a list of maxLimit rows is well below, and it
// is what gRPC clients take unless told otherwise.
const maxReply = 4 << 20

// New makes a portal; Serve starts it.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, log: cfg.Log, logins: newLogins(), strange: rpc.NewRefusals(), registry: httpd.NewRegistry("vda_portal")}, nil
}

// Serve answers on lis until ctx ends: gRPC, and on the same port /metrics and
// /healthz over HTTP. Requests under way then have Config.StopTime to end.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if s.cfg.Discovery != "" {
		d, err := discovery.Start(discovery.Config{Address: s.cfg.Discovery, Places: s.places, Keys: s.hostKeys, Log: s.log,
			Period: s.cfg.WatchPeriod})
		if err != nil {
			return fmt.Errorf("--discovery: %w", err)
		}
		defer d.Close()
		s.log.Info("hosts find their controllers", "addr", d.Address())
	}
	var pages func(grpc.ClientConnInterface) http.Handler
	if s.cfg.WebToken != "" {
		pages = s.pages
	}
	registry := s.registry
	registry.MustRegister(clusterMetrics{s})
	if s.cfg.Events != nil {
		registry.MustRegister(s.cfg.Events)
	}
	var webCert func() (*tls.Certificate, error)
	if s.cfg.WebCertificate != nil {
		webCert = s.cfg.WebCertificate.Get
	}
	watch, stop := context.WithCancel(ctx)
	noting := make(chan struct{})
	go func() {
		defer close(noting)
		s.noteStrangers(watch, lis.Addr().String())
	}()
	defer func() {
		stop()
		<-noting
	}()
	return rpc.Serve(ctx, lis, rpc.Config{
		WebCertificate: webCert,
		Reflection:     true,
		Web:            pages,
		Services: func(r grpc.ServiceRegistrar) {
			apiv1.RegisterPortalServer(r, s)
			apiv1.RegisterSecurityServer(r, issuer{s: s})
		},
		Identity:     s.cfg.Identity,
		Users:        s.user,
		Authorize:    s.authorize,
		Audit:        s.auditRefused,
		Refusals:     s.strange,
		Limits:       limits,
		Registry:     registry,
		Log:          s.log,
		Deadline:     s.cfg.RequestTimeout,
		Early:        true,
		Intercept:    s.intercept,
		Health:       s.databaseHealth(),
		HealthPeriod: s.cfg.HealthPeriod,
		Grace:        s.cfg.StopTime,
	})
}

func (s *Server) pages(conn grpc.ClientConnInterface) http.Handler {
	issuer := ""
	if s.cfg.OIDC != nil {
		issuer = s.cfg.OIDC.Name()
	}
	return web.New(web.Config{Issuer: issuer, Portal: apiv1.NewPortalClient(conn), Security: apiv1.NewSecurityClient(conn),
		Token: s.cfg.WebToken, Log: s.log, User: s.isUser, Secured: s.cfg.Identity.Secured})
}

var errNoDatabase = errors.New("the database does not answer")

// databaseHealth keeps the health service truthful: a portal without its
// database is not serving, and a load balancer should know. The log gets the
// changes.
func (s *Server) databaseHealth() func(context.Context) error {
	known, well := false, false
	return func(ctx context.Context) error {
		err := s.cfg.Store.Ping(ctx)
		if is := err == nil; !known || is != well {
			known, well = true, is
			if is {
				s.log.Info("the database answers")
			} else {
				s.log.Error("the database does not answer", "err", err)
			}
		}
		if err != nil {
			return errNoDatabase // more is not for everyone
		}
		return nil
	}
}
