package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// Fault is a way in which a database fails.
type Fault struct {
	Name string
	URI  string // of the database, with the fault or before Begin
	Kind vda.Kind
	Says string       // what users are told
	Open func() error // how to meet it; nil: a change of a row
	// Begin brings the fault about once the store is open, and ends it again.
	Begin func() (end func())
	// Locked: another transaction holds the row.
	Locked bool
	// Limit bounds the change; 0: nothing does.
	Limit time.Duration
}

var errEnough = errors.New("enough")

// Check meets the fault.
func (f Fault) Check(t *testing.T) {
	err := f.Meet(t)
	var e *vda.Error
	if !errors.As(err, &e) || e.Kind != f.Kind || e.Op != reason.OpDatabase {
		t.Fatalf("%s: got %v, want an error about the database of kind %q", f.Name, err, f.Kind)
	}
	if says := reason.Of(err); !strings.HasPrefix(says, "the database ") || !strings.Contains(says, f.Says) {
		t.Errorf("%s: users are told %q, want %q", f.Name, says, f.Says)
	}
	for _, secret := range []string{"vda_user", "vda_password", "127.0.0.1", "vda_db"} {
		if strings.Contains(reason.Of(err), secret) {
			t.Errorf("%s: users are told of %s: %q", f.Name, secret, reason.Of(err))
		}
	}
	for _, text := range []string{reason.Of(err), reason.Full(err)} {
		checkSecret(t, text)
		if raw := reason.Raw(text); raw != "" {
			t.Errorf("%s: %q is a library's, in %q", f.Name, raw, text)
		}
	}
	t.Logf("%s", reason.Full(err))
}

// Meet returns what the fault makes of a change.
func (f Fault) Meet(t *testing.T) error {
	ctx := t.Context()
	if f.Open != nil {
		return f.Open()
	}
	s, err := store.Open(ctx, f.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dn := newDN()
	su := &suite{Store: s, ctx: ctx}
	change := func(ctx context.Context) error {
		return s.Update(ctx, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, dn.ID); return err })
	}
	if f.Begin == nil {
		if err := s.Update(ctx, func(tx store.Tx) error { return tx.InsertNode(vda.DiskNode, &dn.Node) }); err != nil || !f.Locked {
			return err
		}
	} else {
		su.update(t, func(tx store.Tx) error { return tx.InsertNode(vda.DiskNode, &dn.Node) })
		defer f.Begin()()
	}
	if f.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Limit)
		defer cancel()
	}
	if !f.Locked {
		return change(ctx)
	}
	holder, err := store.Open(ctx, f.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	var got error
	err = holder.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.BumpNode(vda.DiskNode, dn.ID); err != nil {
			return err
		}
		got = change(ctx)
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	return got
}
