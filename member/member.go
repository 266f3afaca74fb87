package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
)

// Flags say where a daemon's identity is. The zero value is a plain daemon's.
type Flags struct {
	Dir   string // folder of the identity; "": there is none
	Enrol string // one-time token
	// Connect replaces TCP on the way to the portal of the token, as rpc.DialConfig has it.
	Connect func(ctx context.Context, addr string) (net.Conn, error)
}

// AddEnrol defines --enrol.
func (f *Flags) AddEnrol(fs *pflag.FlagSet) {
	fs.StringVar(&f.Enrol, "enrol", "", "one-time `TOKEN` of vda_db --action token, to get the daemon's certificate with; of no effect once "+
		"this daemon has used it (best in $VDA_ENROL: others see command lines)")
	program.Private(fs, "enrol", program.Covered)
}

// AddDir defines --tls-dir.
func (f *Flags) AddDir(fs *pflag.FlagSet) {
	fs.StringVar(&f.Dir, "tls-dir", "", "`DIR` of the daemon's key and certificate; without one it is plain: it takes and makes calls in the clear")
}

const (
	enrolTime  = 30 * time.Second // for the first certificate
	renewTime  = 10 * time.Second // for one attempt to renew
	renewPause = time.Minute      // after one that failed; it doubles
	longPause  = 15 * time.Minute // up to this
)

// Open opens the identity of a daemon of a kind, and gets its first certificate when there
// is a token. Whether it has one, and what that means, is in the log. nil without a folder.
func (f Flags) Open(ctx context.Context, kind string, log *slog.Logger) (*pki.Identity, error) {
	if f.Dir == "" {
		if f.Enrol != "" {
			return nil, errors.New("--enrol needs --tls-dir, the folder for the key and the certificate")
		}
		Say(nil, log)
		return nil, nil
	}
	id, err := pki.Open(f.Dir)
	if lost := (*pki.LostError)(nil); errors.As(err, &lost) && f.Enrol != "" {
		id, err = lost.Identity, nil
	}
	if err != nil {
		return nil, err
	}
	if f.Enrol != "" {
		if err := f.enrol(ctx, id, kind, log); err != nil {
			return nil, fmt.Errorf("--enrol: %w", err)
		}
	}
	if n := id.Name(); n.Kind != "" && n.Kind != kind {
		return nil, fmt.Errorf("%s holds the identity of %s; this is a %s", f.Dir, n, kind)
	}
	Say(id, log)
	return id, nil
}

// Say logs how a daemon is secured.
func Say(id *pki.Identity, log *slog.Logger) {
	switch {
	case id.Secured():
		log.Info("calls are taken from members of the cluster over TLS alone", "member", id.Name().String(), "until", id.Expires())
	case id.Enrolled():
		log.Warn("calls in the clear are still taken, from anyone who reaches the port, until the cluster is secured: "+
			"see vda_db --action secure", "member", id.Name().String())
	default:
		log.Warn("plain: anyone who reaches the port can give orders, and all is in the clear; see docs/security.md")
	}
}

// enrol trades the token for a certificate. The token that the daemon has enrolled with is of no effect while the
// certificate is good. Another one is: the cluster may have revoked that, which a daemon that nobody talks to any
// more does not hear. A daemon goes on with a good certificate when it gets no other one.
func (f Flags) enrol(ctx context.Context, id *pki.Identity, kind string, log *slog.Logger) error {
	t, err := pki.ParseToken(f.Enrol)
	if err != nil {
		return err
	}
	if t.Name.Kind != kind {
		return fmt.Errorf("the token is for %s; this is a %s", t.Name, kind)
	}
	good := id.Name() == t.Name && time.Now().Before(id.Expires())
	if good && id.EnrolledBy(t) {
		return nil
	}
	err = f.enrolBy(ctx, id, t)
	if err != nil && good {
		log.Warn("the token of --enrol gives no other certificate; the one that is there is good until it expires or is revoked", "err", err,
			"until", id.Expires())
		return nil
	}
	return err
}

// enrolBy asks the portal of a token for a certificate.
func (f Flags) enrolBy(ctx context.Context, id *pki.Identity, t pki.Token) error {
	csr, err := id.Request()
	if err != nil {
		return err
	}
	conn, err := rpc.Dial(t.Portal, rpc.DialConfig{TLS: t.EnrolTLS(time.Now), Connect: f.Connect})
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	reply, err := apiv1.NewSecurityClient(conn).Enrol(ctx, &apiv1.EnrolRequest{Kind: t.Name.Kind, Name: t.Name.Name, Secret: t.Secret,
		Request: csr}, grpc.WaitForReady(false))
	if err != nil {
		return fmt.Errorf("portal %s: %s", t.Portal, reason.Of(err))
	}
	if err := accept(id, reply.GetIssued(), t.Name, t.Portal); err != nil {
		return err
	}
	return id.NoteToken(t)
}

// accept takes a certificate and what came with it.
func accept(id *pki.Identity, r *apiv1.Issued, n pki.Name, issuer string) error {
	if err := id.Accept([]byte(r.GetCertificate()), []byte(r.GetCa()), n, issuer); err != nil {
		return err
	}
	return Learn(id, r.GetSecurity())
}

// Keep renews the certificate of a daemon until ctx ends, by its own CA or, when ca is nil,
// at a portal, and says so when that fails.
func Keep(ctx context.Context, id *pki.Identity, ca *pki.CA, log *slog.Logger) {
	keep(ctx, id, ca, rpc.DialConfig{}, log)
}

// keep is Keep; how says how portals are reached.
func keep(ctx context.Context, id *pki.Identity, ca *pki.CA, how rpc.DialConfig, log *slog.Logger) {
	if !id.Enrolled() {
		return
	}
	for pause := renewPause; ; {
		// The clock may be set meanwhile, and a machine that sleeps does not count.
		wait := min(max(id.RenewIn(), 0), time.Hour)
		if wait == 0 {
			if err := renew(ctx, id, ca, how); err == nil {
				log.Info("the certificate was renewed", "until", id.Expires())
				pause = renewPause
				continue
			} else if ctx.Err() == nil {
				log.Error("the certificate could not be renewed; after it has expired no member takes calls from here", "err", err,
					"expires", id.Expires())
			}
			wait, pause = pause, min(2*pause, longPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Portals is the check of a client that calls portals.
func Portals(n pki.Name) error {
	if n.Kind != pki.Portal {
		return fmt.Errorf("%s answers where a portal must", n)
	}
	return nil
}

func renew(ctx context.Context, id *pki.Identity, ca *pki.CA, how rpc.DialConfig) error {
	if ca != nil {
		return id.IssueOwn(ca, id.Name())
	}
	all := id.Portals()
	if len(all) == 0 {
		return errors.New("no portal is known that renews it: enrol again with a new token (--enrol)")
	}
	var errs []error
	for _, portal := range all {
		err := renewAt(ctx, id, portal, how)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// renewAt renews a certificate at a portal, which is the first to be asked from then on.
func renewAt(ctx context.Context, id *pki.Identity, portal string, how rpc.DialConfig) error {
	csr, err := id.Request()
	if err != nil {
		return err
	}
	how.Identity, how.Server = id, Portals
	conn, err := rpc.Dial(portal, how)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	reply, err := apiv1.NewSecurityClient(conn).Renew(ctx, &apiv1.RenewRequest{Request: csr})
	if err != nil {
		return fmt.Errorf("portal %s: %s", portal, reason.Of(err))
	}
	return accept(id, reply.GetIssued(), id.Name(), portal)
}

// Told is what a member tells others of the cluster's security; nil from a plain one.
func Told(id *pki.Identity) *apiv1.ClusterSecurity {
	if !id.Enrolled() {
		return nil
	}
	s := &apiv1.ClusterSecurity{Secured: id.Secured(), Portals: id.Portals()}
	for _, r := range id.Revoked() {
		s.Revoked = append(s.Revoked, &apiv1.RevokedMember{Kind: r.Kind, Name: r.Name, BeforeUs: r.Before.UnixMicro()})
	}
	return s
}

// Learn takes what another member tells. A cluster that is secured stays so.
func Learn(id *pki.Identity, s *apiv1.ClusterSecurity) error {
	if s == nil || !id.Enrolled() {
		return nil
	}
	if len(s.GetRevoked()) > 0 || len(id.Revoked()) > 0 {
		var list []pki.Revoked
		for _, r := range s.GetRevoked() {
			list = append(list, pki.Revoked{Kind: r.GetKind(), Name: r.GetName(), Before: time.UnixMicro(r.GetBeforeUs()).UTC()})
		}
		if err := id.Revoke(list); err != nil {
			return err
		}
	}
	if err := id.LearnPortals(s.GetPortals()); err != nil {
		return err
	}
	if s.GetSecured() {
		return id.Secure()
	}
	return nil
}
