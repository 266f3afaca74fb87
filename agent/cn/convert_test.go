package cn_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestRealConversion has a striped array become one of two legs per column while a load
// verifies what it reads, and go on without the legs that it had at first.
func TestRealConversion(t *testing.T) {
	t.Parallel()
	l, _, cnTgts := reals(t, 2, true, false, false)
	m := newMirrorLab(l)
	plain := &apiv1.GrpSpec{Id: grpID, StripeSizeKb: 64} // one vd per column, on dn0
	for _, spec := range m.mirrors {
		spec.Legs[0].Bare = true
		plain.Vds = append(plain.Vds, spec.Legs[0].Vd)
		plain.Columns = append(plain.Columns, &apiv1.MirrorSpec{Id: spec.Id, Gen: 1, DataSize: legData, Fresh: true, Legs: spec.Legs[:1]})
	}
	// dns makes the vds of the legs that there are; that on dn0 of so many bytes, with or
	// without room for a label.
	dns := func(legs int, old uint64) {
		t.Helper()
		for i := range legs {
			d := m.dns[i]
			d.version++
			req := &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: d.id, Version: d.version, Listener: at(d.port), Pds: []*apiv1.PdSpec{
				{Id: id("a0", i), Name: "pd0", ConfJson: m.pdConf[i], Format: !d.formatted, Version: d.version}}}
			for _, spec := range m.mirrors {
				v, size := spec.Legs[i].Vd, uint64(legData+vda.LegTail)
				if i == 0 {
					size = old
				}
				req.Vds = append(req.Vds, &apiv1.VdSpec{Id: v.VdId, PdId: id("a0", i), Size: size, Nqn: v.Nqn, Term: m.term, Epoch: v.Epoch,
					HostNqn: vda.LegHostNQN(m.hostNQN(), v.Epoch), DaId: daID, Uuid: v.Uuid, Version: d.version})
			}
			sync := func() []*state {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				r, err := d.a.Sync(ctx, req)
				if err != nil {
					t.Fatal(err)
				}
				return r.States
			}
			for _, s := range untilNotLate(sync) {
				if s.Error {
					t.Fatalf("dn%d: %v", i, s)
				}
			}
			d.formatted = true
		}
	}
	l.spec.Grps = []*apiv1.GrpSpec{plain}
	dns(1, legData)
	m.leased()
	m.up(0)
	m.spec.Create = false
	write(t, m.disk(0), 3)
	work := startLoad(m.multipath())
	work.goesOn()

	// It is told of the new legs before the old ones have room for a label: it connects to
	// them, but nothing is copied yet, for the next primary would have to begin again.
	m.spec.Redundancy = vda.Mirror2.String()
	m.spec.Grps = []*apiv1.GrpSpec{{Id: grpID, StripeSizeKb: 64, Mirrors: m.mirrors}}
	for _, spec := range m.mirrors {
		spec.Fresh = false
		spec.Legs[1].Role = apiv1.LegRole_LEG_ROLE_TARGET
	}
	dns(2, legData)
	m.sync(0, m.cntlr(0, 0))
	m.connectedTo(cnTgts[0], 1)
	m.sync(0, m.cntlr(0, 0)) // a pass that has the connections
	for _, s := range m.sets(cnTgts[0]) {
		for _, l := range s.Legs {
			if l.Role == spdk.MirrorTarget || l.Role == spdk.MirrorJoining {
				t.Errorf("mirror %s copies to vd %s (%s) although its member has no room for a label", s.Name, l.VD, l.Role)
			}
		}
	}
	work.goesOn()
	dns(2, legData+vda.LegTail)
	m.sync(0, m.cntlr(0, 0))
	m.reports(0, m.legs(1, "ready", func(s *apiv1.LegState) bool { return s.Ready && s.Role == apiv1.LegRole_LEG_ROLE_TARGET }))
	for _, spec := range m.mirrors {
		spec.Legs[0].Bare = false
	}
	m.role(1, apiv1.LegRole_LEG_ROLE_MEMBER)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, quiet)
	work.goesOn()
	t.Logf("longest I/O %v", work.pause())

	m.term++ // both legs have labels: another primary assembles them
	m.sync(0, m.cntlr(0, 1))
	dns(2, legData+vda.LegTail)
	m.up(1)
	work.goesOn()
	for _, spec := range m.mirrors { // back to one leg, the new one
		spec.Legs[0].Vd, spec.Legs[1].Vd = spec.Legs[1].Vd, spec.Legs[0].Vd
		spec.Legs = spec.Legs[:1]
		spec.Gen++
	}
	plain.Vds, plain.Columns = nil, nil
	for _, spec := range m.mirrors {
		plain.Vds, plain.Columns = append(plain.Vds, spec.Legs[0].Vd), append(plain.Columns, spec)
	}
	m.spec.Redundancy, m.spec.Grps = vda.Striped.String(), []*apiv1.GrpSpec{plain}
	m.good(1, m.cntlr(1, 1))
	work.goesOn()
	work.end()
	write(t, m.disk(1), 4)
	verify(t, m.disk(0), 4)
}

// connectedTo waits until a data plane is connected to the legs on dn d.
func (m *mirrorLab) connectedTo(g *tgt, d int) {
	m.Helper()
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		m.Fatal(err)
	}
	defer c.Close()
	planetest.Eventually(m, func() string {
		all, err := c.BdevGetBdevs(context.Background())
		if err != nil {
			return err.Error()
		}
		for _, spec := range m.mirrors {
			name := "vda-vd-" + spec.Legs[d].Vd.VdId + "n1"
			if !slices.ContainsFunc(all, func(b spdk.Bdev) bool { return b.Name == name }) {
				return "there is no bdev " + name
			}
		}
		return ""
	})
}

// sets are the mirrors of a data plane.
func (m *mirrorLab) sets(g *tgt) []spdk.Mirror {
	m.Helper()
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		m.Fatal(err)
	}
	defer c.Close()
	all, err := c.VdaMirrorGetBdevs(context.Background(), "")
	if err != nil || len(all) != len(m.mirrors) {
		m.Fatalf("mirrors: %+v %v", all, err)
	}
	return all
}
