package store

import (
	"time"

	"github.com/virtual-disk-array/vda"
)

// Security is how a cluster is secured. Without a CA it is plain.
type Security struct {
	CA      string // certificate of its CA, PEM
	Secured bool   // no call in the clear is taken any more
	// HopSecret is what the keys of connections between nodes are made of, in
	// hexadecimal; "": they do not authenticate.
	HopSecret string
}

// Member is a daemon that has, or had, a certificate of the cluster's CA.
type Member struct {
	Kind, Name string    // as package pki has them
	Expires    time.Time // the last certificate; zero: none was issued
	Revoked    time.Time // certificates from before that moment are refused; zero: none is
}

// Token is what a secret stands for that was handed out: an enrolment, or a user.
type Token struct {
	Hash    string // of the secret
	Kind    string // of the member that may enrol with it, or "user"
	Name    string
	Role    string // of a user
	Expires time.Time
}

// User is somebody who logs in with a password.
type User struct {
	Name     string
	Role     string
	Password string    // as pki.PasswordCost.Hash made it
	Changed  time.Time // the password
}

type securityRow struct {
	id string
	Security
}

// securityID is the id of the only row.
const securityID = "cluster"

var securityTable = table[securityRow]{
	name: "vda_security", noun: "security",
	cols:   []string{"id", "ca_cert", "secured", "hop_secret"},
	dest:   func(v *securityRow) []any { return []any{&v.id, &v.CA, &v.Secured, &v.HopSecret} },
	values: func(v *securityRow) []any { return []any{v.id, v.CA, v.Secured, v.HopSecret} },
	label:  func(*securityRow) string { return "of the cluster" },
}

type memberRow struct {
	id string
	Member
}

var memberTable = table[memberRow]{
	name: "vda_member", noun: "member",
	cols:   []string{"id", "kind", "name", "expires_us", "revoked_us"},
	dest:   func(v *memberRow) []any { return []any{&v.id, &v.Kind, &v.Name, us{&v.Expires}, us{&v.Revoked}} },
	values: func(v *memberRow) []any { return []any{v.id, v.Kind, v.Name, us{&v.Expires}, us{&v.Revoked}} },
	label:  func(v *memberRow) string { return v.id },
}

var tokenTable = table[Token]{
	name: "vda_token", noun: "token",
	cols:   []string{"id", "kind", "name", "role", "expires_us"},
	dest:   func(v *Token) []any { return []any{&v.Hash, &v.Kind, &v.Name, &v.Role, us{&v.Expires}} },
	values: func(v *Token) []any { return []any{v.Hash, v.Kind, v.Name, v.Role, us{&v.Expires}} },
	label:  func(v *Token) string { return "of " + v.Kind + " " + v.Name },
}

var userTable = table[User]{
	name: "vda_user", noun: "user",
	cols:   []string{"id", "role", "password", "changed_us"},
	dest:   func(v *User) []any { return []any{&v.Name, &v.Role, &v.Password, us{&v.Changed}} },
	values: func(v *User) []any { return []any{v.Name, v.Role, v.Password, us{&v.Changed}} },
	label:  func(v *User) string { return v.Name },
}

func (t *sqlReader) Security() (Security, error) {
	rows, err := listRows(t, &securityTable, "id = ?", securityID)
	if err != nil || len(rows) == 0 {
		return Security{}, err
	}
	return rows[0].Security, nil
}

func (t *sqlTx) SetSecurity(s Security) error {
	return put(t, &securityTable, &securityRow{securityID, s})
}

// put writes a row, whether there is one or not.
func put[T any](t *sqlTx, tb *table[T], v *T) error {
	if there, err := listRows(t.sqlReader, tb, "id = ?", tb.values(v)[0]); err != nil || len(there) == 0 {
		if err == nil {
			err = insertRow(t, tb, v)
		}
		return err
	}
	_, err := updateRow(t, tb, v, "")
	return err
}

func (t *sqlReader) Members() ([]Member, error) {
	rows, err := listRows(t, &memberTable, "TRUE ORDER BY kind, name")
	var all []Member
	for _, r := range rows {
		all = append(all, r.Member)
	}
	return all, err
}

func (t *sqlTx) UpsertMember(m Member) error {
	return put(t, &memberTable, &memberRow{m.Kind + " " + m.Name, m})
}

func (t *sqlReader) Token(hash string) (*Token, error) {
	rows, err := listRows(t, &tokenTable, "id = ?", hash)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, noToken()
	}
	return &rows[0], nil
}

// noToken says nothing of the hash, which is next to a secret.
func noToken() error { return &vda.Error{Kind: vda.NotFound, Object: "token", Msg: "does not exist"} }

func (t *sqlReader) Tokens() ([]Token, error) {
	return listRows(t, &tokenTable, "TRUE ORDER BY kind, name, id")
}

func (t *sqlTx) InsertToken(v *Token) error { return insertRow(t, &tokenTable, v) }

func (t *sqlTx) DeleteToken(hash string) error {
	n, err := t.exec("DELETE FROM vda_token WHERE id = ?", hash)
	if err == nil && n == 0 {
		return noToken()
	}
	return err
}

func (t *sqlReader) Users() ([]User, error) { return listRows(t, &userTable, "TRUE ORDER BY id") }

func (t *sqlTx) InsertUser(v *User) error { return insertRow(t, &userTable, v) }

func (t *sqlTx) UpdateUser(v *User) error {
	_, err := updateRow(t, &userTable, v, "")
	return err
}

func (t *sqlTx) DeleteUser(name string) error {
	n, err := t.exec("DELETE FROM vda_user WHERE id = ?", name)
	if err == nil && n == 0 {
		return &vda.Error{Kind: vda.NotFound, Object: "user " + name, Msg: "does not exist"}
	}
	return err
}
