package syncer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/store"
)

// SecureCluster turns a plain cluster into a secured one, for good, while it serves:
// daemons refuse calls in the clear within a few seconds, and the connections between
// nodes' data planes authenticate when monitors have told the nodes. fresh is false
// when the cluster was secured before: then the nodes are told again, which finishes a
// call that was cut off. FailedPrecondition, which changes nothing, while the cluster
// has no CA or a daemon has no certificate.
func SecureCluster(ctx context.Context, db store.Store, now time.Time) (fresh bool, err error) {
	var das []vda.DA
	made := false // the secret of the keys
	err = db.Update(ctx, func(tx store.Tx) error {
		s, err := tx.Security()
		if err != nil {
			return err
		}
		if fresh = !s.Secured; fresh {
			if err := maySecure(tx, &s, now); err != nil {
				return err
			}
			s.Secured = true
		}
		if s.HopSecret == "" {
			secret := make([]byte, sha256.Size)
			_, _ = rand.Read(secret) // never fails
			s.HopSecret, made = hex.EncodeToString(secret), true
		}
		return tx.SetSecurity(s)
	})
	if err != nil {
		return false, err
	}
	if err := db.View(ctx, func(tx store.Reader) (err error) {
		das, _, err = tx.ListDA(store.DAFilter{}, store.Page{})
		if err == nil {
			trash, _, err2 := tx.ListDA(store.DAFilter{Trash: true}, store.Page{})
			das, err = append(das, trash...), err2
		}
		return err
	}); err != nil {
		return fresh, err
	}
	for _, clones := range []bool{false, true} { // after what they are copied from
		for i := range das {
			if das[i].Source.Copying() != clones {
				continue
			}
			if err := db.Update(ctx, func(tx store.Tx) error { return array.Rekey(tx, das[i].ID, made) }); err != nil {
				return fresh, err
			}
		}
	}
	return fresh, nil
}

// maySecure says why a cluster cannot be secured yet.
func maySecure(tx store.Tx, s *store.Security, now time.Time) error {
	if s.CA == "" {
		return vda.Errorf(vda.FailedPrecondition, "the cluster has no CA yet: see vda_db --action make-ca")
	}
	lack, err := lacking(tx, now)
	if err != nil || len(lack) == 0 {
		return err
	}
	return vda.Errorf(vda.FailedPrecondition, "these have no certificate and would be cut off: %s; enrol them first, "+
		"see vda_db --action token",
		vda.Shorten(strings.Join(lack, ", "), 600))
}

// lacking are the members that the cluster knows and that have no good certificate.
func lacking(tx store.Tx, now time.Time) (lack []string, err error) {
	all, err := tx.Members()
	if err != nil {
		return nil, err
	}
	type who struct{ kind, name string }
	good := map[who]bool{}
	for _, m := range all {
		good[who{m.Kind, m.Name}] = m.Expires.After(now) && m.Expires.Add(-pki.LeafLife).After(m.Revoked)
	}
	portals := slices.ContainsFunc(all, func(m store.Member) bool { return m.Kind == pki.Portal && m.Expires.After(now) })
	if !portals {
		lack = append(lack, "any portal")
	}
	want := func(at vda.At) {
		text := at.Kind + " " + at.Name
		if !good[who{at.Kind, at.Name}] && !good[who{at.Kind, at.Addr}] && !slices.Contains(lack, text) {
			lack = append(lack, text)
		}
	}
	r := tx.Unlocked()
	dns, _, err := r.ListDN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return nil, err
	}
	for i := range dns {
		want(dns[i].At(vda.DiskNode))
	}
	cns, _, err := r.ListCN(store.NodeFilter{}, store.Page{})
	if err != nil {
		return nil, err
	}
	for i := range cns {
		want(cns[i].At(vda.ControllerNode))
	}
	monitors, err := r.Monitors()
	for _, m := range monitors {
		want(vda.MonitorAt(m.Name))
	}
	return lack, err
}
