package syncer

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
)

// revocations is a database that may be away, of whom the cluster has revoked.
type revocations struct {
	store.Store
	store.Reader
	away    atomic.Bool
	members atomic.Pointer[[]store.Member]
}

func (r *revocations) View(_ context.Context, fn func(store.Reader) error) error {
	if r.away.Load() {
		return errors.New("the database does not answer")
	}
	return fn(r)
}

func (r *revocations) Security() (store.Security, error) {
	return store.Security{CA: "certificate", Secured: true}, nil
}

func (r *revocations) Members() ([]store.Member, error) { return *r.members.Load(), nil }

// TestRevokedWhileTheDatabaseIsAway: a portal or monitor knows within 5 s whom the cluster has revoked, goes on refusing
// them for as long as the database is away, and when it starts then; and knows of others within 5 s of its return.
func TestRevokedWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "tls")
		ca, err := pki.NewCA("c1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		id, err := pki.Open(dir)
		if err == nil {
			err = id.IssueOwn(ca, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0:9520"})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		db := &revocations{}
		tell := func(names ...string) {
			var all []store.Member
			for _, n := range names {
				all = append(all, store.Member{Kind: pki.DN, Name: n, Revoked: time.Now()})
			}
			db.members.Store(&all)
		}
		tell()
		done := make(chan error, 1)
		go func() { done <- follow(ctx, db, id, slog.New(slog.DiscardHandler)) }()
		knows := func(when string, id *pki.Identity, want int) {
			t.Helper()
			if n := len(id.Revoked()); n != want {
				t.Errorf("%s: %d are refused, want %d", when, n, want)
			}
		}
		tell("dn0:9720")
		time.Sleep(5 * time.Second)
		knows("within 5 s", id, 1)
		db.away.Store(true)
		tell("dn0:9720", "dn1:9720")
		time.Sleep(24 * time.Hour)
		knows("a day without the database", id, 1)
		again, err := pki.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		knows("started without the database", again, 1)
		db.away.Store(false)
		time.Sleep(5 * time.Second)
		knows("the database is back", id, 2)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
