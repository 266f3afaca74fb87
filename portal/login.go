package portal

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal/guess"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

const (
	sessionTime = 12 * time.Hour
	// maxSessions of one user are there at once: with one more, the oldest ends.
	maxSessions = 32
	// maxHashes passwords are looked at at once: each takes 64 MiB and a processor.
	maxHashes = 2
)

// logins is what a portal needs for passwords.
type logins struct {
	hashing chan struct{}
	devices guess.Limiter // logins by a browser elsewhere that are begun, by where they come from
	origins guess.Limiter // wrong passwords by where they come from
	names   guess.Limiter // and by whose they would be, for those who come from everywhere
}

func newLogins() logins {
	return logins{
		hashing: make(chan struct{}, maxHashes),
		devices: guess.Limiter{Most: 10, Forgiven: 10 * time.Second},
		origins: guess.Limiter{Most: 10, Forgiven: 10 * time.Second},
		names:   guess.Limiter{Most: 100, Forgiven: 10 * time.Second},
	}
}

// errLogin is the one answer to all logins that fail, so that nobody learns from it which
// users there are.
var errLogin = status.Error(codes.Unauthenticated, "the user's name or the password is not right")

// errGuesses is for those who try too often.
var errGuesses = refuse(codeBusy, vda.Unavailable, "too many wrong passwords; try again in some seconds")

// hash sets a user's password.
func (s *Server) hash(ctx context.Context, u *store.User, password string) error {
	release, err := s.mayHash(ctx)
	if err != nil {
		return err
	}
	defer release()
	u.Password = s.cfg.PasswordCost.Hash(password)
	return nil
}

// mayHash waits until a password may be looked at.
func (s *Server) mayHash(ctx context.Context) (release func(), err error) {
	select {
	case s.logins.hashing <- struct{}{}:
		return func() { <-s.logins.hashing }, nil
	case <-ctx.Done():
		return nil, refuse(codeBusy, vda.Unavailable, "many passwords are being looked at; try again in some seconds")
	}
}

// Login implements apiv1.SecurityServer.
func (i issuer) Login(ctx context.Context, req *apiv1.LoginRequest) (*apiv1.LoginReply, error) {
	s := i.s
	switch {
	case !s.cfg.Identity.Enrolled():
		return nil, vda.Errorf(vda.FailedPrecondition, "the cluster is plain, and knows no users: see docs/security.md")
	case !rpc.Encrypted(ctx):
		return nil, vda.Errorf(vda.FailedPrecondition, "passwords are taken over TLS alone; this one was sent in the clear: set another")
	}
	u, err := s.guessed(ctx, req.UserName, req.Password)
	if err != nil {
		return nil, err
	}
	auditOf(ctx).by(rpc.Caller{Kind: rpc.User, Name: u.Name})
	return s.beginSession(ctx, u)
}

// guessed is the user whose password it is, unless too many have been tried.
func (s *Server) guessed(ctx context.Context, user, password string) (*store.User, error) {
	from, name := guess.Origin(rpc.CallOf(ctx).Peer), vda.Shorten(user, 80)
	if !s.logins.origins.Try(from) {
		return nil, errGuesses
	}
	if !s.logins.names.Try(name) {
		s.logins.origins.Right(from)
		return nil, errGuesses
	}
	u, err := s.passwordOf(ctx, user, password)
	if status.Code(err) != codes.Unauthenticated { // it was right, or was not looked at
		s.logins.origins.Right(from)
		s.logins.names.Right(name)
	}
	return u, err
}

// passwordOf is the user whose password it is.
func (s *Server) passwordOf(ctx context.Context, name, password string) (*store.User, error) {
	var u *store.User
	err := s.view(ctx, func(tx store.Reader) (err error) {
		u, err = findUser(tx, name)
		return err
	})
	if err != nil && !isKind(err, vda.NotFound) {
		return nil, err
	}
	release, err2 := s.mayHash(ctx)
	if err2 != nil {
		return nil, err2
	}
	defer release()
	if err != nil || len(password) > 4*pki.MaxPassword {
		u, password = &store.User{}, ""
	}
	same, err := s.cfg.PasswordCost.Same(password, u.Password)
	switch {
	case err != nil:
		s.log.Error("a password cannot be compared", "user", u.Name, "err", err)
		return nil, errLogin
	case !same:
		s.log.Warn("a wrong password was refused", "user", vda.Shorten(name, 80), "peer", rpc.CallOf(ctx).Peer)
		return nil, errLogin
	}
	return u, nil
}

// beginSession gives a user with a password the token of a session.
func (s *Server) beginSession(ctx context.Context, u *store.User) (*apiv1.LoginReply, error) {
	return s.begin(ctx, u.Name, func(tx store.Tx) (string, error) {
		again, err := findUser(tx, u.Name)
		if err != nil || again.Password != u.Password { // it has been changed since
			return "", errLogin
		}
		return again.Role, nil
	})
}

// begin gives a user the token of a session with the role that is found in its transaction.
func (s *Server) begin(ctx context.Context, name string, roleOf func(store.Tx) (string, error)) (*apiv1.LoginReply, error) {
	now := time.Now()
	var token pki.UserToken
	role := ""
	err := s.update(ctx, func(tx store.Tx) (err error) {
		if role, err = roleOf(tx); err != nil {
			return err
		}
		tokens, err := tx.Tokens()
		if err != nil {
			return err
		}
		var own []store.Token
		for _, t := range tokens {
			switch {
			case t.Kind != sessionKind || t.Name != name:
			case now.Before(t.Expires):
				own = append(own, t)
			default:
				if err := tx.DeleteToken(t.Hash); err != nil {
					return err
				}
			}
		}
		if len(own) >= maxSessions {
			oldest := own[0]
			for _, t := range own {
				if t.Expires.Before(oldest.Expires) {
					oldest = t
				}
			}
			if err := tx.DeleteToken(oldest.Hash); err != nil {
				return err
			}
		}
		if token, err = pki.NewUserToken(s.cfg.Identity.Name().Cluster, s.cfg.Identity.CA()); err != nil {
			return err
		}
		return tx.InsertToken(&store.Token{Hash: pki.HashSecret(token.Secret), Kind: sessionKind, Name: name, Role: role,
			Expires: now.Add(sessionTime)})
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.LoginReply{Token: token.String(), UntilUs: now.Add(sessionTime).UnixMicro(), Role: role,
		UserName: name}, nil
}

// Logout implements apiv1.SecurityServer.
func (i issuer) Logout(ctx context.Context, _ *apiv1.LogoutRequest) (*apiv1.LogoutReply, error) {
	hash := shownHash(ctx)
	if rpc.CallerOf(ctx).Kind != rpc.User || hash == "" {
		return nil, status.Error(codes.Unauthenticated, "a session is ended by a call that shows its token")
	}
	return &apiv1.LogoutReply{}, i.s.update(ctx, func(tx store.Tx) error {
		t, err := tx.Token(hash)
		switch {
		case isKind(err, vda.NotFound):
			return nil // it has ended
		case err != nil:
			return err
		case t.Kind != sessionKind:
			return vda.Errorf(vda.FailedPrecondition, "the token is not a session's: vda_db --action revoke and vda_cli user delete end those")
		}
		return tx.DeleteToken(hash)
	})
}

// shownHash is the hash of the secret of the token that a call shows, "" of none.
func shownHash(ctx context.Context) string {
	shown := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(shown) != 1 {
		return ""
	}
	return pki.HashSecret(secretOf(bare(shown[0])))
}
