package portal_test

import (
	"context"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestSecureClusterIsRefused: a cluster that would be out of reach, or out of parts, stays
// plain.
func TestSecureClusterIsRefused(t *testing.T) {
	p := portaltest.New(t)
	portalClient, ctx := p.Client(), context.Background()
	try := func(words string) {
		t.Helper()
		_, err := portalClient.SecureCluster(ctx, &apiv1.SecureClusterRequest{})
		refusedWith(t, err, apiv1.CodeFailedPrecondition, words)
	}
	try("role admin")
	admin := store.Token{Hash: "1", Kind: "user", Name: "ann", Role: "admin", Expires: time.Now().Add(-time.Hour)}
	p.Change(func(tx store.Tx) error { return tx.InsertToken(&admin) })
	try("role admin") // his token has expired
	admin.Hash, admin.Expires = "2", time.Now().Add(time.Hour)
	p.Change(func(tx store.Tx) error { return tx.InsertToken(&admin) })
	try("has no CA")
	p.Change(func(tx store.Tx) error { return tx.SetSecurity(store.Security{CA: "certificate"}) })
	try("any portal")
	p.Change(func(tx store.Tx) error {
		s, err := tx.Security()
		if s.Secured || s.HopSecret != "" {
			t.Errorf("refused, and %+v", s)
		}
		return err
	})
}
