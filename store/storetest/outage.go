package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Outage checks a store whose server goes away and comes back: Unavailable
// while it is gone, and all is well by itself afterwards.
func Outage(t *testing.T, uri string, stop, start func()) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	su := &suite{Store: s, ctx: ctx}
	dn := newDN()
	su.update(t, func(tx store.Tx) error { return tx.InsertNode(vda.DiskNode, &dn.Node) })

	stop()
	for name, fn := range map[string]func() error{
		"update": func() error {
			return s.Update(ctx, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, dn.ID); return err })
		},
		"view": func() error { return s.View(ctx, func(tx store.Reader) error { _, err := tx.DN(dn.ID); return err }) },
		"ping": func() error { return s.Ping(ctx) },
		"open": func() error { _, err := store.Open(ctx, uri); return err },
	} {
		begin := time.Now()
		err := fn()
		if err == nil || vda.KindOf(err) != vda.Unavailable {
			t.Errorf("%s without the server: %v", name, err)
		}
		if d := time.Since(begin); d > 20*time.Second {
			t.Errorf("%s took %v to fail", name, d)
		}
		if err != nil {
			checkSecret(t, err.Error())
			t.Logf("%s: %v", name, err)
		}
	}
	start()
	deadline := time.Now().Add(time.Minute)
	for s.Ping(ctx) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the store does not find its server again")
		}
		time.Sleep(20 * time.Millisecond)
	}
	su.update(t, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, dn.ID); return err })

	// A restart between two calls goes unnoticed.
	stop()
	start()
	for {
		probe, err := store.Open(ctx, uri)
		if err == nil {
			probe.Close()
			su.update(t, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, dn.ID); return err })
			su.view(t, func(tx store.Reader) error {
				got, err := tx.DN(dn.ID)
				if err == nil && got.Version != dn.Version+2 {
					t.Errorf("version %d, want %d", got.Version, dn.Version+2)
				}
				return err
			})
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not come back: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// checkSecret fails when a message shows the password of dbtest's servers.
func checkSecret(t *testing.T, msg string) {
	t.Helper()
	if strings.Contains(msg, "vda_password") {
		t.Errorf("the password is in %q", msg)
	}
}
