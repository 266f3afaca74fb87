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
	issued, err := i.issue(ctx, req.Request, func(store.Tx) (string, string, error) {
		c := rpc.CallerOf(ctx)
		return c.Kind, c.Name, nil
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
		now := time.Now()
		n := pki.Name{Cluster: cluster, Kind: kind, Name: name}
		if cert, err = i.s.cfg.CA.Issue(request, n, now, pki.LeafLife); err != nil {
			return invalid("request: %s", reason.Full(err))
		}
		return noteMember(tx, n, now.Add(pki.LeafLife))
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.Issued{Certificate: string(cert), Ca: string(i.s.cfg.CA.PEM()), Security: member.Told(i.s.cfg.Identity)}, nil
}

// noteMember has the database know that a member has a certificate until then.
func noteMember(tx store.Tx, n pki.Name, until time.Time) error {
	all, err := tx.Members()
	if err != nil {
		return err
	}
	m := store.Member{Kind: n.Kind, Name: n.Name}
	if at := slices.IndexFunc(all, func(m store.Member) bool { return m.Kind == n.Kind && m.Name == n.Name }); at >= 0 {
		m = all[at]
	}
	m.Expires = until
	return tx.UpsertMember(m)
}
