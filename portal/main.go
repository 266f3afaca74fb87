package portal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal/discovery"
	"github.com/virtual-disk-array/vda/portal/web"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbflag"
	"github.com/virtual-disk-array/vda/syncer"
)

// Main is a portal with what it stands on.
type Main struct {
	// Flags say where it serves.
	daemon.Flags
	// DatabaseURI names the cluster's database.
	DatabaseURI string
	// SyncTimeout is Config.SyncTimeout.
	SyncTimeout time.Duration
	// WebTokenFile has the token of pages and REST in its first line. "": a token is
	// made, and printed to Err.
	WebTokenFile string
	// NoWeb serves neither pages nor REST.
	NoWeb bool
	// AuditFile and AuditSyslog are where OpenAuditLog writes to.
	AuditFile, AuditSyslog string
	// WebCert and WebKey are the files of a certificate that browsers know; "": they get the
	// portal's own.
	WebCert, WebKey string
	// OIDC is the issuer at which users may log in.
	OIDC OIDCFlags
	// Discovery is the address and port of the discovery service for hosts, "" for none.
	Discovery string
	// Err gets a token that was made. Default os.Stderr.
	Err io.Writer
	// Member says where the portal's identity is, CADir, when not empty, the CA's files: a
	// portal that has them gives certificates to itself and to others.
	Member member.Flags
	CADir  string
	// Log gets what the portal does. Default slog.Default().
	Log *slog.Logger
	// Ready, when not nil, gets the address once the portal serves.
	Ready chan<- string
}

// Program is vda_portal.
func Program() program.Program {
	m := Main{}
	c := &cobra.Command{
		Use:   "vda_portal --db-uri URI [flags]",
		Short: "Serve VDA's gRPC API",
		Long: `vda_portal serves VDA's gRPC API, with health and reflection. It keeps nothing but
what is in the database; SIGTERM stops it once the requests under way have ended.`,
	}
	fs := c.Flags()
	fs.SortFlags = false
	m.Add(fs, 9520, "gRPC, and HTTP (/metrics, /healthz)")
	db := dbflag.Add(fs)
	m.Member.AddDir(fs)
	m.Member.AddEnrol(fs)
	fs.StringVar(&m.CADir, "ca-dir", "", "`DIR` of the cluster's CA, tls.crt and tls.key, of vda_db --action make-ca: the portal gives "+
		"members their certificates, itself too; needs --tls-dir")
	fs.DurationVar(&m.SyncTimeout, "sync-timeout", 20*time.Second,
		"how long a reply waits for nodes; vda_monitor finishes what takes longer")
	fs.StringVar(&m.WebTokenFile, "web-token-file", "",
		"file with the token for web pages and REST in its first line, the same for all portals; without it each makes one, and prints it")
	fs.StringVar(&m.AuditFile, "audit-file", "", "`FILE` to which what users change here, or are refused, is appended, a line of JSON each; "+
		"made with mode 0600, and again when it was moved away; the cluster has the events as well, see vda_cli audit list")
	fs.StringVar(&m.AuditSyslog, "audit-syslog", "", "`PLACE` of a syslog that gets the same lines (authpriv): local, udp://HOST:PORT or "+
		"tcp://HOST:PORT")
	fs.StringVar(&m.WebCert, "web-cert", "", "`FILE` with a certificate that names the portal's host, and those between it and its CA, "+
		"in PEM, for browsers and REST over TLS; read again when it changes (default the portal's own, which browsers do not know)")
	fs.StringVar(&m.WebKey, "web-key", "", "`FILE` with the key of --web-cert, in PEM, mode 0600")
	m.OIDC.add(fs)
	fs.StringVar(&m.Discovery, "discovery", "", "`ADDRESS:PORT` of a discovery service of NVMe/TCP, such as 192.168.0.11:8009, where hosts "+
		"find what they may connect to (nvme discover, nvme connect-all); there is none when not given")
	fs.BoolVar(&m.NoWeb, "no-web", false, "serve no web pages and no REST")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := m.Check(); err != nil {
			return err
		}
		if err := program.AboveZero(c.Flags(), "sync-timeout"); err != nil {
			return err
		}
		if m.Discovery != "" {
			if err := discovery.CheckAddress(m.Discovery); err != nil {
				return fmt.Errorf("--discovery: %w", err)
			}
		}
		m.Err = c.ErrOrStderr()
		m.Log = m.Flags.Log(c.ErrOrStderr())
		if m.DatabaseURI, err = db.Get(); err != nil {
			return err
		}
		return m.Run(c.Context())
	}
	return program.Program{Root: c, Serves: true}
}

// Run serves until ctx ends.
func (m Main) Run(ctx context.Context) error {
	log := m.Log
	if log == nil {
		log = slog.Default()
	}
	token, err := m.webToken()
	if err != nil {
		return err
	}
	cert, err := m.webCertificate()
	if err != nil {
		return err
	}
	issuer, err := m.OIDC.open(m.Member.Dir)
	if err != nil {
		return err
	}
	if issuer != nil {
		defer issuer.Close()
	}
	// The address first: a second portal on the port should not touch the
	// database.
	lis, err := m.Listen(ctx)
	if err != nil {
		return err
	}
	defer lis.Close()
	audit, err := OpenAuditLog(m.AuditFile, m.AuditSyslog, log)
	if err != nil {
		return err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
		defer cancel()
		if err := audit.Close(late); err != nil {
			log.Error("the audit has not been written to its end", "err", err)
		}
	}()
	events := syncer.NewEventMetrics()
	db, err := store.Open(ctx, m.DatabaseURI, store.OnEvent(events.Count))
	if err != nil {
		return err
	}
	id, ca, err := m.Identity(ctx, db, lis.Addr(), log)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	pool := syncer.NewPool(rpc.DialConfig{Identity: id})
	sy, err := syncer.New(syncer.Config{Store: db, Dial: pool, Log: log})
	if err != nil {
		return err
	}
	s, err := New(Config{Store: db, Syncer: sy, Failover: sy, Programs: pool, Events: events, Identity: id, CA: ca, Log: log,
		SyncTimeout: m.SyncTimeout, WebToken: token, WebCertificate: cert, AuditLog: audit, OIDC: issuer,
		Discovery: m.Discovery})
	if err != nil {
		return err
	}
	m.SayAlone(log)
	log.Info("serving", "addr", lis.Addr().String())
	if token != "" && m.WebTokenFile == "" && !id.Secured() { // there users have tokens
		m.printToken(lis.Addr(), token)
	}
	if m.Ready != nil {
		m.Ready <- lis.Addr().String()
	}
	if err := syncer.Guard(ctx, db, id, ca, log, func(ctx context.Context) error { return s.Serve(ctx, lis) }); err != nil {
		return err
	}
	log.Info("stopped")
	return errors.Join(pool.Close(), db.Close())
}

// webCertificate is the certificate for browsers, nil for the portal's own.
func (m Main) webCertificate() (*pki.WebCertificate, error) {
	switch {
	case m.WebCert == "" && m.WebKey == "":
		return nil, nil
	case m.WebCert == "" || m.WebKey == "":
		return nil, errors.New("--web-cert and --web-key go together: a certificate and its key")
	case m.Member.Dir == "":
		return nil, errors.New("--web-cert needs --tls-dir: a portal without a certificate of the cluster speaks no TLS")
	}
	cert, err := pki.LoadWebCertificate(m.WebCert, m.WebKey)
	if err != nil {
		return nil, fmt.Errorf("--web-cert: %w", err)
	}
	return cert, nil
}

// webToken is the token of pages and REST, "" for none.
func (m Main) webToken() (string, error) {
	switch {
	case m.NoWeb && m.WebTokenFile != "":
		return "", errors.New("--web-token-file is of no use with --no-web: give one of them")
	case m.NoWeb:
		return "", nil
	case m.WebTokenFile == "":
		return rand.Text(), nil
	}
	b, err := os.ReadFile(m.WebTokenFile)
	if err != nil {
		return "", fmt.Errorf("--web-token-file: %s", reason.Of(err))
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSpace(line)
	if len(line) < web.MinToken {
		return "", fmt.Errorf("--web-token-file %s: its first line has %d characters; a token has %d at least, as "+
			"\"openssl rand -hex 16\" makes",
			m.WebTokenFile, len(line), web.MinToken)
	}
	return line, nil
}

// printToken tells the person who started the portal, past the log.
func (m Main) printToken(at net.Addr, token string) {
	to := m.Err
	if to == nil {
		to = os.Stderr
	}
	// One who reads nothing needs no token.
	_, _ = fmt.Fprintf(to, "web page: http://%s/ with the token %s\n", reachable(at), token)
}

// reachable is an address of this machine that a browser can be given.
func reachable(at net.Addr) string {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return at.String()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// Identity is who the portal is that serves at an address, and the CA when it has it: of --tls-dir and --ca-dir, by what
// the database says.
func (m Main) Identity(ctx context.Context, db store.Store, at net.Addr, log *slog.Logger) (*pki.Identity, *pki.CA, error) {
	if m.CADir == "" {
		id, err := m.Member.Open(ctx, pki.Portal, log)
		if err == nil {
			err = syncer.Secure(ctx, db, id)
		}
		return id, nil, err
	}
	if m.Member.Dir == "" {
		return nil, nil, errors.New("--ca-dir needs --tls-dir, the folder for the portal's own key and certificate")
	}
	ca, err := pki.LoadCA(m.CADir)
	if err != nil {
		return nil, nil, fmt.Errorf("--ca-dir: %w", err)
	}
	id, err := pki.Open(m.Member.Dir)
	if lost := (*pki.LostError)(nil); errors.As(err, &lost) {
		id, err = lost.Identity, nil
	}
	if err != nil {
		return nil, nil, err
	}
	err = db.Update(ctx, func(tx store.Tx) error { return ownCertificate(tx, id, ca, at) })
	if err != nil {
		return nil, nil, fmt.Errorf("--ca-dir %s: %w", m.CADir, err)
	}
	if err := syncer.Secure(ctx, db, id); err != nil {
		return nil, nil, err
	}
	member.Say(id, log)
	return id, ca, nil
}

// ownCertificate gives a portal that has the CA its certificate. Its name is where it
// serves, with the machine's name in place of all addresses.
func ownCertificate(tx store.Tx, id *pki.Identity, ca *pki.CA, at net.Addr) error {
	s, err := tx.Security()
	if err != nil {
		return err
	}
	if s.CA != string(ca.PEM()) {
		return errors.New("it is not the CA that the database names; see vda_db --action make-ca")
	}
	n := id.Name()
	if n.Kind == "" {
		if n.Cluster, err = tx.Unlocked().ClusterID(); err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(at.String())
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			if host, err = os.Hostname(); err != nil {
				return err
			}
		}
		n.Kind, n.Name = pki.Portal, net.JoinHostPort(host, port)
	}
	if err := id.IssueOwn(ca, n); err != nil {
		return err
	}
	return noteMember(tx, n, id.Expires())
}
