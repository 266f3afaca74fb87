package cn_test

import (
	"context"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestRealConversion has a striped array become one of two legs per column while a load
// verifies what it reads, and go on without the legs that it had at first.
func TestRealConversion(t *testing.T) {
	t.Parallel()
	l, _, _ := reals(t, 2, true, false, false)
	m := newMirrorLab(l)
	size := uint64(legData)
	plain := &apiv1.GrpSpec{Id: grpID, StripeSizeKb: 64} // one vd per column, on dn0
	for _, spec := range m.mirrors {
		spec.Legs[0].Bare = true
		plain.Vds = append(plain.Vds, spec.Legs[0].Vd)
		plain.Columns = append(plain.Columns, &apiv1.MirrorSpec{Id: spec.Id, Gen: 1, DataSize: legData, Fresh: true, Legs: spec.Legs[:1]})
	}
	// dns makes the vds of the legs that there are: on dn0 with and without a tail.
	dns := func(legs int, size uint64) {
		t.Helper()
		for i := range legs {
			d := m.dns[i]
			d.version++
			req := &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: d.id, Version: d.version, Listener: at(d.port), Pds: []*apiv1.PdSpec{
				{Id: id("a0", i), Name: "pd0", ConfJson: m.pdConf[i], Format: !d.formatted, Version: d.version}}}
			for _, spec := range m.mirrors {
				v := spec.Legs[i].Vd
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
	dns(1, size)
	m.up(0)
	m.leased()
	m.spec.Create = false
	write(t, m.disk(0), 3)
	work := startLoad(m.multipath())
	work.goesOn()

	// It is told of the new legs before the disk has made room: nothing is copied yet.
	m.spec.Redundancy = vda.Mirror2.String()
	m.spec.Grps = []*apiv1.GrpSpec{{Id: grpID, StripeSizeKb: 64, Mirrors: m.mirrors}}
	for _, spec := range m.mirrors {
		spec.Fresh = false
		spec.Legs[1].Role = apiv1.LegRole_LEG_ROLE_TARGET
	}
	m.sync(0, m.cntlr(0, 0))
	work.goesOn()
	size += vda.LegTail
	dns(2, size)
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
	dns(2, size)
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
