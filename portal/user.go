package portal

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// sessionKind is the kind of the tokens that Login gives: they are as good as a user's, end
// with the session, and are not in a database that is restored.
const sessionKind = "session"

// isUsers reports that a token lets its holder call as a user.
func isUsers(t *store.Token) bool { return t.Kind == pki.User || t.Kind == sessionKind }

// userName is what the name of a user with a password looks like.
var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// CreateUser makes a user who logs in with a password.
func (s *Server) CreateUser(ctx context.Context, req *apiv1.CreateUserRequest) (*apiv1.CreateUserReply, error) {
	if err := s.mayKeepUsers(ctx); err != nil {
		return nil, err
	}
	if !userName.MatchString(req.UserName) {
		return nil, invalid("user_name is %q; it must be 1 to 64 letters, digits and . _ @ -, and begin with a letter or digit",
			vda.Shorten(req.UserName, 80))
	}
	u := &store.User{Name: req.UserName, Role: req.Role, Changed: time.Now()}
	if err := checkUser(u, "role", "password", &req.Password); err != nil {
		return nil, err
	}
	if err := s.hash(ctx, u, req.Password); err != nil {
		return nil, err
	}
	return &apiv1.CreateUserReply{}, s.update(ctx, func(tx store.Tx) error { return tx.InsertUser(u) })
}

// checkUser checks the role of a user, and a password when it is given.
func checkUser(u *store.User, role, field string, password *string) error {
	if !slices.Contains(Roles, u.Role) {
		return invalid("%s is %q; it must be one of %s", role, vda.Shorten(u.Role, 40), strings.Join(Roles, ", "))
	}
	if password != nil {
		if err := pki.CheckPassword(u.Name, *password); err != nil {
			return invalid("%s: %s", field, err.Error()) // reason: words of ours
		}
	}
	return nil
}

// mayKeepUsers refuses what would let somebody in later who has no business there: until the
// cluster is secured, anybody could make himself an admin.
func (s *Server) mayKeepUsers(ctx context.Context) error {
	if !s.cfg.Identity.Enrolled() {
		return vda.Errorf(vda.FailedPrecondition, "the cluster is plain, and knows no users: see docs/security.md")
	}
	if c := rpc.CallerOf(ctx); c.Kind != rpc.User || c.Role != roleAdmin {
		return refuse(codeForbidden, vda.PermissionDenied, "users are changed by an admin with a token (vda_cli --token-file), also while the "+
			"cluster is not secured yet")
	}
	return nil
}

// DeleteUser takes away all that a user has.
func (s *Server) DeleteUser(ctx context.Context, req *apiv1.DeleteUserRequest) (*apiv1.DeleteUserReply, error) {
	if err := s.mayKeepUsers(ctx); err != nil {
		return nil, err
	}
	return &apiv1.DeleteUserReply{}, s.update(ctx, func(tx store.Tx) error {
		n, err := endTokens(tx, func(t *store.Token) bool { return isUsers(t) && t.Name == req.UserName })
		if err != nil {
			return err
		}
		if err = tx.DeleteUser(req.UserName); isKind(err, vda.NotFound) {
			if err = nil; n == 0 {
				return noUser(req.UserName, "and has no token")
			}
		}
		if err == nil {
			err = adminLeft(tx)
		}
		return err
	})
}

// adminLeft refuses what would leave nobody who can make users.
func adminLeft(tx store.Tx) error {
	users, err := tx.Users()
	if err != nil || slices.ContainsFunc(users, func(u store.User) bool { return u.Role == roleAdmin }) {
		return err
	}
	tokens, err := tx.Tokens()
	if err != nil || slices.ContainsFunc(tokens, func(t store.Token) bool {
		return t.Kind == pki.User && t.Role == roleAdmin && time.Now().Before(t.Expires)
	}) {
		return err
	}
	return vda.Errorf(vda.FailedPrecondition, "no admin would be left: make another one before")
}

func noUser(name, more string) error {
	return &vda.Error{Kind: vda.NotFound, Object: "user " + vda.Shorten(name, 80), Msg: strings.TrimSpace("does not exist " + more)}
}

// endTokens takes tokens away, and says how many.
func endTokens(tx store.Tx, which func(*store.Token) bool) (n int, err error) {
	tokens, err := tx.Tokens()
	for i := range tokens {
		if err == nil && which(&tokens[i]) {
			err = tx.DeleteToken(tokens[i].Hash)
			n++
		}
	}
	return n, err
}

// ModifyUser changes a user's role or password, which ends the sessions.
func (s *Server) ModifyUser(ctx context.Context, req *apiv1.ModifyUserRequest) (*apiv1.ModifyUserReply, error) {
	if err := s.mayKeepUsers(ctx); err != nil {
		return nil, err
	}
	if req.NewRole == nil && req.NewPassword == nil {
		return nil, invalid("nothing to modify: give new_role or new_password")
	}
	var fresh store.User
	role := roleViewer
	if req.NewRole != nil {
		role = *req.NewRole
	}
	if err := checkUser(&store.User{Name: req.UserName, Role: role}, "new_role", "new_password", req.NewPassword); err != nil {
		return nil, err
	}
	if req.NewPassword != nil {
		if err := s.hash(ctx, &fresh, *req.NewPassword); err != nil {
			return nil, err
		}
	}
	return &apiv1.ModifyUserReply{}, s.update(ctx, func(tx store.Tx) error {
		u, err := findUser(tx, req.UserName)
		if err != nil {
			return err
		}
		if req.NewRole != nil {
			u.Role = *req.NewRole
		}
		if req.NewPassword != nil {
			u.Password, u.Changed = fresh.Password, time.Now()
		}
		if err := tx.UpdateUser(u); err != nil {
			return err
		}
		if _, err := endTokens(tx, func(t *store.Token) bool { return t.Kind == sessionKind && t.Name == u.Name }); err != nil {
			return err
		}
		return adminLeft(tx)
	})
}

func findUser(tx store.Reader, name string) (*store.User, error) {
	users, err := tx.Users()
	if err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(users, func(u store.User) bool { return u.Name == name }); at >= 0 {
		return &users[at], nil
	}
	return nil, noUser(name, "or has no password")
}

// ListUser lists those who have a password or a token that is good.
func (s *Server) ListUser(ctx context.Context, _ *apiv1.ListUserRequest) (*apiv1.ListUserReply, error) {
	var users []store.User
	var tokens []store.Token
	err := s.view(ctx, func(tx store.Reader) (err error) {
		if users, err = tx.Users(); err == nil {
			tokens, err = tx.Tokens()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListUserReply{}
	of := func(name, role string) *apiv1.UserMsg {
		at, found := slices.BinarySearchFunc(reply.UserMsgList, name, func(m *apiv1.UserMsg, name string) int {
			return strings.Compare(m.UserName, name)
		})
		if !found {
			reply.UserMsgList = slices.Insert(reply.UserMsgList, at, &apiv1.UserMsg{UserName: name})
		}
		m := reply.UserMsgList[at]
		if !slices.Contains(m.RoleList, role) {
			m.RoleList = append(m.RoleList, role)
		}
		return m
	}
	for _, u := range users {
		m := of(u.Name, u.Role)
		m.Password, m.Changed = true, rfc3339(u.Changed)
	}
	for i := range tokens {
		t := &tokens[i]
		if !isUsers(t) || !time.Now().Before(t.Expires) {
			continue
		}
		m := of(t.Name, t.Role)
		if t.Kind == sessionKind {
			m.SessionCnt++
			continue
		}
		m.TokenCnt++
		if until := rfc3339(t.Expires); until > m.Until {
			m.Until = until
		}
	}
	return reply, nil
}
