package portal

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// SecureCluster turns a plain cluster into a secured one. The caller may be the last to
// be heard without a token, so there must be an admin who has one.
func (s *Server) SecureCluster(ctx context.Context, _ *apiv1.SecureClusterRequest) (*apiv1.SecureClusterReply, error) {
	if err := s.view(ctx, func(tx store.Reader) error {
		tokens, err := tx.Tokens()
		if err != nil {
			return err
		}
		for _, t := range tokens {
			if t.Kind == pki.User && t.Role == roleAdmin && time.Now().Before(t.Expires) {
				return nil
			}
		}
		users, err := tx.Users()
		if err != nil || slices.ContainsFunc(users, func(u store.User) bool { return u.Role == roleAdmin }) {
			return err
		}
		return vda.Errorf(vda.FailedPrecondition, "no user with the role %s has a token or password, and nobody could give orders any more; "+
			"make one first: vda_db --action user --for user/NAME --role %s", roleAdmin, roleAdmin)
	}); err != nil {
		return nil, err
	}
	fresh, err := syncer.SecureCluster(ctx, s.cfg.Store, time.Now())
	if err == nil {
		err = s.update(ctx, func(store.Tx) error { return nil }) // for the audit
	}
	if err != nil {
		return nil, err
	}
	msg := "the cluster is secured: its daemons refuse calls in the clear within a few seconds, for good"
	if !fresh {
		msg = "the cluster was secured before; the keys of connections between its nodes are handed out again"
	}
	return &apiv1.SecureClusterReply{ReplyInfo: done(msg, nil, "its nodes follow as they are synced")}, nil
}
