package dbcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// roles are those of users; package portal says what each may do.
var roles = []string{"admin", "operator", "viewer", "csi"}

// How long tokens are good unless --life says.
const (
	enrolLife = time.Hour
	userLife  = 90 * 24 * time.Hour
)

// secured is an action on the rows about security, in one transaction.
func secured(do func(m Main, tx store.Tx, now time.Time) (string, error)) func(context.Context, Main) (string, error) {
	return func(ctx context.Context, m Main) (msg string, err error) {
		db, err := store.Open(ctx, m.DatabaseURI)
		if err != nil {
			return "", err
		}
		err = db.Update(ctx, func(tx store.Tx) error {
			msg, err = do(m, tx, time.Now())
			return err
		})
		return msg, errors.Join(err, db.Close())
	}
}

// makeCA is the action make-ca.
func makeCA(m Main, tx store.Tx, now time.Time) (string, error) {
	if m.CADir == "" {
		return "", errors.New("--ca-dir is missing: the folder for the CA, which a portal that issues certificates must have")
	}
	was, err := tx.Security()
	if err != nil {
		return "", err
	}
	ca, err := pki.LoadCA(m.CADir)
	if errors.Is(err, fs.ErrNotExist) {
		if was.CA != "" {
			return "", fmt.Errorf("--ca-dir %s: the cluster has a CA already, and it is not there", m.CADir)
		}
		cluster, err2 := tx.Unlocked().ClusterID()
		if err2 != nil {
			return "", err2
		}
		if ca, err = pki.NewCA(cluster, now); err == nil {
			err = ca.Save(m.CADir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("--ca-dir: %w", err)
	}
	print, err := pki.Fingerprint(ca.PEM())
	if err != nil {
		return "", err
	}
	switch was.CA {
	case string(ca.PEM()):
		return "already there, nothing changed; the CA's SHA-256 is " + print, nil
	case "":
		was.CA = string(ca.PEM())
		return fmt.Sprintf("the cluster's CA is in %s; its SHA-256 is %s", m.CADir, print), tx.SetSecurity(was)
	}
	return "", fmt.Errorf("--ca-dir %s: the cluster has another CA already", m.CADir)
}

// whose reads --for.
func (m Main) whose() (kind, name string, err error) {
	kind, name, ok := strings.Cut(m.For, "/")
	n := pki.Name{Cluster: "any", Kind: kind, Name: name}
	if kind == pki.User {
		n.Kind = pki.DN // the same words are names
	}
	if err := n.Check(); !ok || err != nil {
		return "", "", fmt.Errorf("--for %q must be KIND/NAME: portal, monitor, dn or cn with the name that the cluster knows, such as "+
			"dn/192.168.0.14:9720, or user with a name", m.For)
	}
	return kind, name, nil
}

// about is what token and user begin with.
func (m Main) about(tx store.Tx, user bool) (kind, name, ca string, err error) {
	if kind, name, err = m.whose(); err != nil {
		return "", "", "", err
	}
	if (kind == pki.User) != user {
		return "", "", "", fmt.Errorf("--for %s: members get a token by --action token, users by --action user", m.For)
	}
	if m.Life < 0 {
		return "", "", "", fmt.Errorf("--life %v must be above 0", m.Life)
	}
	s, err := tx.Security()
	if err == nil && s.CA == "" {
		err = errors.New("the cluster has no CA yet: see --action make-ca")
	}
	return kind, name, s.CA, err
}

// enrolToken is the action token.
func enrolToken(m Main, tx store.Tx, now time.Time) (string, error) {
	kind, name, ca, err := m.about(tx, false)
	if err != nil {
		return "", err
	}
	if m.Portal == "" {
		return "", errors.New("--portal is missing: HOST:PORT of a portal that has the CA")
	}
	cluster, err := tx.Unlocked().ClusterID()
	if err != nil {
		return "", err
	}
	t, err := pki.NewToken(pki.Name{Cluster: cluster, Kind: kind, Name: name}, m.Portal, []byte(ca))
	if err != nil {
		return "", fmt.Errorf("--portal: %w", err)
	}
	return t.String(), tx.InsertToken(&store.Token{Hash: pki.HashSecret(t.Secret), Kind: kind, Name: name,
		Expires: now.Add(orDefault(m.Life, enrolLife))})
}

// userToken is the action user.
func userToken(m Main, tx store.Tx, now time.Time) (string, error) {
	_, name, ca, err := m.about(tx, true)
	if err != nil {
		return "", err
	}
	if !slices.Contains(roles, m.Role) {
		return "", fmt.Errorf("--role %q must be one of %s", m.Role, strings.Join(roles, ", "))
	}
	cluster, err := tx.Unlocked().ClusterID()
	if err != nil {
		return "", err
	}
	t, err := pki.NewUserToken(cluster, []byte(ca))
	if err != nil {
		return "", err
	}
	return t.String(), tx.InsertToken(&store.Token{Hash: pki.HashSecret(t.Secret), Kind: pki.User, Name: name, Role: m.Role,
		Expires: now.Add(orDefault(m.Life, userLife))})
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// revoke is the action revoke: it ends the tokens of a user or member, and its certificates.
func revoke(m Main, tx store.Tx, now time.Time) (string, error) {
	kind, name, err := m.whose()
	if err != nil {
		return "", err
	}
	tokens, err := tx.Tokens()
	if err != nil {
		return "", err
	}
	n := 0
	for _, t := range tokens {
		if t.Name == name && (t.Kind == kind || kind == pki.User && t.Kind == "session") {
			n++
			if err := tx.DeleteToken(t.Hash); err != nil {
				return "", err
			}
		}
	}
	if kind == pki.User {
		if err := tx.DeleteUser(name); err == nil {
			return fmt.Sprintf("%d tokens of user %s are void, and the password is gone", n, name), nil
		} else if vda.KindOf(err) != vda.NotFound {
			return "", err
		}
	}
	all, err := tx.Members()
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(all, func(m store.Member) bool { return m.Kind == kind && m.Name == name })
	switch {
	case at >= 0:
		all[at].Revoked = now
		return fmt.Sprintf("certificates of %s %s that were issued so far are refused, by all members within a minute; %d tokens are void",
			kind, name, n), tx.UpsertMember(all[at])
	case n == 0:
		return "", fmt.Errorf("--for %s has neither a certificate nor a token; see --action members", m.For)
	}
	return fmt.Sprintf("%d tokens of %s %s are void", n, kind, name), nil
}

// secure is the action secure.
func secure(ctx context.Context, m Main) (msg string, err error) {
	db, err := store.Open(ctx, m.DatabaseURI)
	if err != nil {
		return "", err
	}
	fresh, err := syncer.SecureCluster(ctx, db, time.Now())
	msg = "the cluster is secured: its daemons refuse calls in the clear within a few seconds, for good"
	if !fresh {
		msg = "the cluster was secured before; the keys of connections between its nodes are handed out again"
	}
	return msg, errors.Join(err, db.Close())
}

// members is the action members.
func members(_ Main, tx store.Tx, now time.Time) (string, error) {
	s, err := tx.Security()
	if err != nil {
		return "", err
	}
	lines := []string{"the cluster is plain: it has no CA"}
	switch {
	case s.Secured:
		lines[0] = "the cluster is secured"
	case s.CA != "":
		lines[0] = "the cluster has a CA and still takes calls in the clear: see --action secure"
	}
	all, err := tx.Members()
	if err != nil {
		return "", err
	}
	for _, m := range all {
		line := fmt.Sprintf("%s/%s certificate until %s", m.Kind, m.Name, m.Expires.Format(time.RFC3339))
		if !m.Revoked.IsZero() {
			line += ", those from before " + m.Revoked.Format(time.RFC3339) + " are revoked"
		}
		lines = append(lines, line)
	}
	users, err := tx.Users()
	if err != nil {
		return "", err
	}
	for _, u := range users {
		lines = append(lines, fmt.Sprintf("user/%s password, %s, set %s", u.Name, u.Role, u.Changed.Format(time.RFC3339)))
	}
	tokens, err := tx.Tokens()
	for _, t := range tokens {
		what := "token to enrol"
		switch t.Kind {
		case pki.User:
			what = "token, " + t.Role + ","
		case "session":
			what = "session, " + t.Role + ","
			t.Kind = pki.User
		}
		state := " until "
		if !now.Before(t.Expires) {
			state = " expired at "
		}
		lines = append(lines, fmt.Sprintf("%s/%s %s%s%s", t.Kind, t.Name, what, state, t.Expires.Format(time.RFC3339)))
	}
	return strings.Join(lines, "\n"), err
}
