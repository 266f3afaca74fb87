package portal

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// sessionID is how a session is called by those who may not have its token: the begin of the hash
// of that.
func sessionID(t *store.Token) string { return t.Hash[:16] }

// caller is the user who makes a call that is about himself.
func (s *Server) caller(ctx context.Context) (rpc.Caller, error) {
	c := rpc.CallerOf(ctx)
	switch {
	case !s.cfg.Identity.Enrolled():
		return c, vda.Errorf(vda.FailedPrecondition, "the cluster is plain, and knows no users: see docs/security.md")
	case c.Kind != rpc.User:
		return c, refuse(codeUnknownCaller, vda.PermissionDenied, "the call does not say which user makes it: show a token, or log in")
	}
	return c, nil
}

// SetPassword gives the user who calls another password. Who has a copy of the session's token
// does not know the present one, and tries as slowly as at a login.
func (s *Server) SetPassword(ctx context.Context, req *apiv1.SetPasswordRequest) (*apiv1.SetPasswordReply, error) {
	c, err := s.caller(ctx)
	switch {
	case err != nil:
		return nil, err
	case !rpc.Encrypted(ctx):
		return nil, vda.Errorf(vda.FailedPrecondition, "passwords are taken over TLS alone; these were sent in the clear: use others")
	}
	if err := pki.CheckPassword(c.Name, req.NewPassword); err != nil {
		return nil, invalid("new_password: %s", err.Error()) // reason: words of ours
	}
	if req.NewPassword == req.Password {
		return nil, invalid("new_password is the same as password; it must be another one")
	}
	old, err := s.guessed(ctx, c.Name, req.Password)
	if err != nil {
		return nil, err
	}
	var fresh store.User
	if err := s.hash(ctx, &fresh, req.NewPassword); err != nil {
		return nil, err
	}
	return &apiv1.SetPasswordReply{}, s.update(ctx, func(tx store.Tx) error {
		u, err := findUser(tx, c.Name)
		if err != nil {
			return err
		}
		if u.Password != old.Password { // an admin, or another call, has been faster
			return errLogin
		}
		u.Password, u.Changed = fresh.Password, time.Now()
		if err := tx.UpdateUser(u); err != nil {
			return err
		}
		_, err = endTokens(tx, func(t *store.Token) bool { return t.Kind == sessionKind && t.Name == u.Name })
		return err
	})
}

// ListSession lists the sessions of the user who calls, to an admin those of all.
func (s *Server) ListSession(ctx context.Context, _ *apiv1.ListSessionRequest) (*apiv1.ListSessionReply, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	var tokens []store.Token
	err = s.view(ctx, func(tx store.Reader) (err error) {
		tokens, err = tx.Tokens()
		return err
	})
	if err != nil {
		return nil, err
	}
	tokens = slices.DeleteFunc(tokens, func(t store.Token) bool { return !mayEnd(c, &t) || !time.Now().Before(t.Expires) })
	slices.SortFunc(tokens, func(a, b store.Token) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), b.Expires.Compare(a.Expires), strings.Compare(a.Hash, b.Hash))
	})
	reply, own := &apiv1.ListSessionReply{}, shownHash(ctx)
	for i := range tokens {
		t := &tokens[i]
		reply.SessionMsgList = append(reply.SessionMsgList, &apiv1.SessionMsg{SessionId: sessionID(t), UserName: t.Name, Role: t.Role,
			Begun: rfc3339(t.Expires.Add(-sessionTime)), Until: rfc3339(t.Expires), Own: t.Hash == own})
	}
	return reply, nil
}

// mayEnd reports that a token is a session's that a user may see and end.
func mayEnd(c rpc.Caller, t *store.Token) bool {
	return t.Kind == sessionKind && (c.Role == roleAdmin || t.Name == c.Name)
}

// DeleteSession ends a session at once. That of another user is not there for who is no admin.
func (s *Server) DeleteSession(ctx context.Context, req *apiv1.DeleteSessionRequest) (*apiv1.DeleteSessionReply, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.DeleteSessionReply{}, s.update(ctx, func(tx store.Tx) error {
		n, err := endTokens(tx, func(t *store.Token) bool { return mayEnd(c, t) && sessionID(t) == req.SessionId })
		if err == nil && n == 0 {
			return &vda.Error{Kind: vda.NotFound, Object: "session " + vda.Shorten(req.SessionId, 40), Msg: "does not exist, or has ended"}
		}
		return err
	})
}
