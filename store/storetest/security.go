package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func testSecurity(t *testing.T, s *suite) {
	for _, want := range []store.Security{{CA: "certificate"}, {CA: "certificate", Secured: true, HopSecret: "0123"}, {}} {
		s.update(t, func(tx store.Tx) error { return tx.SetSecurity(want) })
		s.view(t, func(tx store.Reader) error {
			got, err := tx.Security()
			same(t, "security", got, want)
			return err
		})
	}

	name := store.NewID()
	member := store.Member{Kind: "dn", Name: name, Expires: noon}
	for _, want := range []store.Member{member, {Kind: "dn", Name: name, Expires: noon.Add(time.Hour), Revoked: noon}, member} {
		s.update(t, func(tx store.Tx) error { return tx.UpsertMember(want) })
		s.view(t, func(tx store.Reader) error {
			all, err := tx.Members()
			all = slices.DeleteFunc(all, func(m store.Member) bool { return m.Name != name })
			same(t, "members", all, []store.Member{want})
			return err
		})
	}

	ann := store.User{Name: name, Role: "admin", Password: "$argon2id$", Changed: noon}
	s.update(t, func(tx store.Tx) error { return tx.InsertUser(&ann) })
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error { return tx.InsertUser(&ann) })
	ann.Role, ann.Password, ann.Changed = "viewer", "other", noon.Add(time.Hour)
	s.update(t, func(tx store.Tx) error { return tx.UpdateUser(&ann) })
	s.view(t, func(tx store.Reader) error {
		all, err := tx.Users()
		if !slices.Contains(all, ann) {
			t.Errorf("the user is not listed: %v", all)
		}
		return err
	})
	s.update(t, func(tx store.Tx) error { return tx.DeleteUser(name) })
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.DeleteUser(name) })

	tok := store.Token{Hash: store.NewID(), Kind: "user", Name: name, Role: "admin", Expires: noon}
	s.update(t, func(tx store.Tx) error { return tx.InsertToken(&tok) })
	s.refused(t, vda.AlreadyExists, func(tx store.Tx) error { return tx.InsertToken(&tok) })
	s.view(t, func(tx store.Reader) error {
		got, err := tx.Token(tok.Hash)
		if err != nil {
			return err
		}
		same(t, "token", *got, tok)
		all, err := tx.Tokens()
		if !slices.Contains(all, tok) {
			t.Errorf("the token is not listed: %v", all)
		}
		return err
	})
	s.update(t, func(tx store.Tx) error { return tx.DeleteToken(tok.Hash) })
	s.refused(t, vda.NotFound, func(tx store.Tx) error { return tx.DeleteToken(tok.Hash) }) // once
	s.refused(t, vda.NotFound, func(tx store.Tx) error { _, err := tx.Token(tok.Hash); return err })
}
