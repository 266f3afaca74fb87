package portal

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// issuer gives certificates to the members of the cluster.
type issuer struct {
	apiv1.UnimplementedSecurityServer
	s *Server
}

// errToken is the one answer to all tokens that are not good, so that nobody learns from it
// which there are.
var errToken = vda.Errorf(vda.PermissionDenied,
	"the token is not good: it was used, has expired, or is for another daemon; make a new one with vda_db --action token")

// Enrol implements apiv1.SecurityServer.
func (i issuer) Enrol(ctx context.Context, req *apiv1.EnrolRequest) (*apiv1.EnrolReply, error) {
	if err := i.ready(ctx); err != nil {
		return nil, err
	}
	issued, err := i.issue(ctx, req.Request, func(tx store.Tx) (string, string, error) {
		hash := pki.HashSecret(req.Secret)
		t, err := tx.Token(hash)
		switch {
		case isKind(err, vda.NotFound):
			return "", "", errToken
		case err != nil:
			return "", "", err
		case t.Kind != req.Kind || t.Name != req.Name || t.Kind == pki.User || !time.Now().Before(t.Expires):
			return "", "", errToken
		}
		if err := tx.DeleteToken(hash); isKind(err, vda.NotFound) {
			return "", "", errToken
		} else if err != nil {
			return "", "", err
		}
		return t.Kind, t.Name, nil
	})
	return &apiv1.EnrolReply{Issued: issued}, err
}

// Renew implements apiv1.SecurityServer.
func (i issuer) Renew(ctx context.Context, req *apiv1.RenewRequest) (*apiv1.RenewReply, error) {
	if err := i.ready(ctx); err != nil {
		return nil, err
	}
	issued, err := i.issue(ctx, req.Request, func(tx store.Tx) (string, string, error) {
		c := rpc.CallerOf(ctx)
		m, err := memberOf(tx, c.Kind, c.Name)
		if err == nil && revocation(m).Refuses(rpc.IssuedAt(ctx)) { // this portal may not have heard of it yet
			err = vda.Errorf(vda.PermissionDenied, "the certificate of %s is revoked", c)
		}
		return c.Kind, c.Name, err
	})
	return &apiv1.RenewReply{Issued: issued}, err
}

// ready refuses what a portal without the CA cannot do, and secrets in the clear.
func (i issuer) ready(ctx context.Context) error {
	switch {
	case i.s.cfg.CA == nil || i.s.cfg.Identity == nil:
		return vda.Errorf(vda.FailedPrecondition, "this portal has no CA; ask one that was started with --ca-dir")
	case !rpc.Encrypted(ctx):
		return vda.Errorf(vda.FailedPrecondition, "certificates are issued over TLS alone")
	}
	return nil
}

// issue makes a certificate for the member that who finds, and notes it in the database.
func (i issuer) issue(ctx context.Context, request []byte, who func(store.Tx) (kind, name string, err error)) (*apiv1.Issued, error) {
	var cert []byte
	err := i.s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		kind, name, err := who(tx)
		if err != nil {
			return err
		}
		cluster, err := tx.Unlocked().ClusterID()
		if err != nil {
			return err
		}
		m, err := memberOf(tx, kind, name)
		if err != nil {
			return err
		}
		now := time.Now()
		if revocation(m).Refuses(now) { // in the second of a revocation, which is about what was issued before
			now = m.Revoked.Truncate(time.Second).Add(time.Second)
		}
		n := pki.Name{Cluster: cluster, Kind: kind, Name: name}
		if cert, err = i.s.cfg.CA.Issue(request, n, now, pki.LeafLife); err != nil {
			return invalid("request: %s", reason.Full(err))
		}
		m.Expires = now.Add(pki.LeafLife)
		return tx.UpsertMember(m)
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.Issued{Certificate: string(cert), Ca: string(i.s.cfg.CA.PEM()), Security: member.Told(i.s.cfg.Identity)}, nil
}

// memberOf is what the database knows of a member, of a new one its name.
func memberOf(tx store.Tx, kind, name string) (store.Member, error) {
	all, err := tx.Members()
	if err != nil {
		return store.Member{}, err
	}
	if at := slices.IndexFunc(all, func(m store.Member) bool { return m.Kind == kind && m.Name == name }); at >= 0 {
		return all[at], nil
	}
	return store.Member{Kind: kind, Name: name}, nil
}

// revocation is that of a member's certificates, which refuses none when it has not come about.
func revocation(m store.Member) pki.Revoked {
	return pki.Revoked{Kind: m.Kind, Name: m.Name, Before: m.Revoked}
}

// noteMember has the database know that a member has a certificate until then.
func noteMember(tx store.Tx, n pki.Name, until time.Time) error {
	m, err := memberOf(tx, n.Kind, n.Name)
	if err != nil {
		return err
	}
	m.Expires = until
	return tx.UpsertMember(m)
}
