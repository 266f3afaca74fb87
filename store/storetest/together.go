package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// testOnNode: what is on a node is found for all its arrays at once, in the order of each one's
// own, and of other nodes and older versions nothing.
func testOnNode(t *testing.T, s *suite) {
	c, other := s.newCluster(t), s.newCluster(t)
	second := newDA() // of which the cn has no primary
	apart := newCntlr(second, other.cn, 0)
	proxy := newCntlr(second, c.cn, 1)
	apart.Primary, proxy.Primary = true, false
	proxy.Version = c.cntlr.Version + 10
	leg := newVD(second, other.pd)
	mirror := &vda.Mirror{ID: store.NewID(), DAID: c.da.ID, Size: 4 << 20, Gen: 1}
	later := *c.vd
	later.ID, later.Idx, later.Deleted = store.NewID(), c.vd.Idx+1, true
	snap := &vda.Snap{ID: store.NewID(), DAID: second.ID, Name: "s0", State: vda.SnapTaken}
	s.update(t, func(tx store.Tx) error {
		if !c.cntlr.Primary {
			c.cntlr.Primary = true
			if err := tx.UpdateCntlr(c.cntlr); err != nil {
				return err
			}
		}
		return errors.Join(tx.InsertDA(second), tx.InsertCntlr(apart), tx.InsertCntlr(proxy), tx.InsertVD(leg), tx.InsertMirror(mirror),
			tx.InsertVD(&later), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: c.da.ID, Size: 4 << 20}),
			tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: second.ID, Size: 4 << 20}), tx.InsertSnap(snap))
	})
	sorted := func(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }
	byDA := func(first, then []string) []string {
		if c.da.ID > second.ID {
			first, then = then, first
		}
		return slices.Concat(first, then)
	}
	s.view(t, func(tx store.Reader) error {
		for _, tt := range []struct {
			since uint64
			das   []string
			peers []string
			snaps []string
			exps  []string
			vds   []string
			ess   []string
			one   int // grps and mirrors
		}{
			{0, sorted(c.da.ID, second.ID), byDA([]string{c.cntlr.ID}, []string{apart.ID, proxy.ID}), []string{snap.ID}, []string{c.exp.ID},
				[]string{c.vd.ID, later.ID}, []string{c.es.ID}, 1},
			{c.cntlr.Version, []string{second.ID}, []string{apart.ID, proxy.ID}, []string{snap.ID}, nil, nil, nil, 0},
			{proxy.Version, nil, nil, nil, nil, nil, nil, 0},
		} {
			das, err1 := tx.DAsOnCN(c.cn.ID, tt.since)
			peers, err2 := tx.PeersOnCN(c.cn.ID, tt.since)
			snaps, err3 := tx.SnapsOnCN(c.cn.ID, tt.since)
			exps, err4 := tx.ExpsOnCN(c.cn.ID, tt.since)
			vds, err5 := tx.VDsOnCN(c.cn.ID, tt.since)
			ess, err6 := tx.ESsOnCN(c.cn.ID, tt.since)
			grps, err7 := tx.GrpsOnCN(c.cn.ID, tt.since)
			mirrors, err8 := tx.MirrorsOnCN(c.cn.ID, tt.since)
			if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
				return err
			}
			same(t, "das", ids(das, func(v *vda.DA) string { return v.ID }), tt.das)
			same(t, "peers", ids(peers, func(v *vda.Cntlr) string { return v.ID }), tt.peers)
			same(t, "snaps", ids(snaps, func(v *vda.Snap) string { return v.ID }), tt.snaps)
			same(t, "exps", ids(exps, func(v *vda.Exp) string { return v.ID }), tt.exps)
			same(t, "vds", ids(vds, func(v *vda.VD) string { return v.ID }), tt.vds)
			same(t, "ess", ids(ess, func(v *vda.ES) string { return v.ID }), tt.ess)
			if len(grps) != tt.one || len(mirrors) != tt.one {
				t.Errorf("since %d: %d grps and %d mirrors, want %d", tt.since, len(grps), len(mirrors), tt.one)
			}
		}
		terms, err := tx.TermsOnDN(other.dn.ID, 0)
		same(t, "terms", terms, map[string]uint64{other.da.ID: other.da.Term, second.ID: second.Term})
		if err != nil {
			return err
		}
		terms, err = tx.TermsOnDN(c.dn.ID, c.vd.Version)
		same(t, "terms of nothing new", len(terms), 0)
		return err
	})
}
