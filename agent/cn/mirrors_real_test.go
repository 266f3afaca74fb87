package cn_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// mirrorLab is a lab with an array of two mirrors, each of a leg per dn. It plays
// the monitor and the database for it.
type mirrorLab struct {
	*lab
	mirrors []*apiv1.MirrorSpec
}

const legData = 12 << 20

func newMirrorLab(l *lab) *mirrorLab {
	m := &mirrorLab{lab: l}
	for k := range 2 {
		spec := &apiv1.MirrorSpec{Id: id("aa", k), Gen: 1, DataSize: legData, Fresh: true}
		for i, d := range l.dns {
			v := id("b0", 10*k+i)
			spec.Legs = append(spec.Legs, &apiv1.LegSpec{Role: apiv1.LegRole_LEG_ROLE_MEMBER,
				Vd: &apiv1.VdTarget{VdId: v, Listener: at(d.port), Nqn: vda.VdNQN(v), Uuid: v}})
		}
		m.mirrors = append(m.mirrors, spec)
	}
	l.spec.Grps = []*apiv1.GrpSpec{{Id: grpID, StripeSizeKb: 64, Mirrors: m.mirrors}}
	return m
}

// fence syncs dn i: its legs admit the primary of the present term, in their
// epochs.
func (m *mirrorLab) fence(i int) {
	m.Helper()
	for _, s := range untilNotLate(func() []*apiv1.ObjectState { return m.syncDN(i) }) {
		if s.Error {
			m.Fatalf("dn%d: %v", i, s)
		}
	}
	m.dns[i].formatted = true
}

func (m *mirrorLab) syncDN(i int) []*apiv1.ObjectState {
	m.Helper()
	d := m.dns[i]
	d.version++
	req := &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: d.id, Version: d.version, Listener: at(d.port), Pds: []*apiv1.PdSpec{
		{Id: id("a0", i), Name: "pd0", ConfJson: m.pdConf[i], Format: !d.formatted, Version: d.version}}}
	for _, spec := range m.mirrors {
		v := spec.Legs[i].Vd
		req.Vds = append(req.Vds, &apiv1.VdSpec{Id: v.VdId, PdId: id("a0", i), Size: legData + vda.LegTail, Nqn: v.Nqn, Term: m.term,
			Epoch: v.Epoch, HostNqn: vda.LegHostNQN(m.hostNQN(), v.Epoch), DaId: daID, Uuid: v.Uuid, Version: d.version})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := d.a.Sync(ctx, req)
	if err != nil {
		m.Fatal(err)
	}
	return r.States
}

// made is a lab whose mirrors have been made, with cn 0 as their primary.
func made(l *lab) *mirrorLab {
	l.Helper()
	m := newMirrorLab(l)
	m.fence(0)
	m.fence(1)
	m.leased()
	m.up(0)
	m.spec.Create = false
	for _, spec := range m.mirrors {
		spec.Fresh = false
	}
	return m
}

// up makes a controller primary, and the others secondaries.
func (m *mirrorLab) up(primary int) {
	m.Helper()
	// A leg that takes more than dialGrace to connect to is lost at first.
	planetest.Eventually(m, func() string {
		for _, s := range m.settled(primary, m.cntlr(primary, primary)) {
			if strings.Contains(s.ErrorMsg, "waits for vd") {
				return s.ErrorMsg
			}
		}
		return ""
	})
	m.good(primary, m.cntlr(primary, primary))
	for i := range m.cns {
		if i != primary {
			m.good(i, m.cntlr(i, primary))
		}
	}
}

// ready waits until the agent of dn i is at work on the data plane that has
// started.
func (m *mirrorLab) ready(i int) {
	m.Helper()
	planetest.Eventually(m, func() string {
		r, err := m.dns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: m.dns[i].id})
		switch {
		case err != nil:
			return err.Error()
		case !r.DataPlaneOk:
			return r.DataPlaneMsg
		}
		return ""
	})
}

// reports waits until what controller node i says of the mirrors is as f wants it;
// "" from f is yes.
func (m *mirrorLab) reports(i int, f func(l []*apiv1.MirrorState) string) {
	m.Helper()
	planetest.Eventually(m, func() string {
		r, err := m.cns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: m.cns[i].id})
		if err != nil {
			return err.Error()
		}
		if why := f(r.Mirrors); why != "" {
			return fmt.Sprintf("%s: %v", why, r.Mirrors)
		}
		return ""
	})
}

// legs is what reports asks for of the leg on dn d of each mirror.
func (m *mirrorLab) legs(d int, what string, f func(l *apiv1.LegState) bool) func([]*apiv1.MirrorState) string {
	return func(l []*apiv1.MirrorState) string {
		for _, spec := range m.mirrors {
			at := slices.IndexFunc(l, func(s *apiv1.MirrorState) bool { return s.MirrorId == spec.Id && s.Term == m.term })
			if at < 0 {
				return "mirror " + spec.Id + " is not reported in this term"
			}
			leg := slices.IndexFunc(l[at].Legs, func(s *apiv1.LegState) bool { return s.VdId == spec.Legs[d].Vd.VdId })
			if leg < 0 || !f(l[at].Legs[leg]) {
				return fmt.Sprintf("the leg of mirror %s on dn%d is not %s", spec.Id, d, what)
			}
		}
		return ""
	}
}

func quiet(l []*apiv1.MirrorState) string {
	if len(l) > 0 {
		return "mirrors are reported"
	}
	return ""
}

// role gives the legs on dn d another role, and gen as a database counts it.
func (m *mirrorLab) role(d int, r apiv1.LegRole) {
	for _, spec := range m.mirrors {
		leg := spec.Legs[d]
		if leg.Role == apiv1.LegRole_LEG_ROLE_MEMBER || r == apiv1.LegRole_LEG_ROLE_MEMBER {
			spec.Gen++
		}
		if leg.Role == apiv1.LegRole_LEG_ROLE_MEMBER {
			leg.Vd.Epoch++
		}
		leg.Role = r
	}
}

// read reads a leg on its dn, as the host that the dn admits.
func (m *mirrorLab) read(spec *apiv1.MirrorSpec, d int) []byte {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	v := spec.Legs[d].Vd
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: m.dns[d].port, SubNQN: v.Nqn,
		HostNQN: vda.LegHostNQN(m.hostNQN(), v.Epoch), Queues: 1})
	if err != nil {
		m.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, legData)
	for off := 0; off < legData; off += ioSize {
		if err := c.Namespace(1).ReadAt(ctx, data[off:off+ioSize], int64(off)); err != nil {
			m.Fatal(err)
		}
	}
	return data
}

// equal fails unless the legs of each mirror have the same data.
func (m *mirrorLab) equal() {
	m.Helper()
	for k, spec := range m.mirrors {
		if !bytes.Equal(m.read(spec, 0), m.read(spec, 1)) {
			m.Errorf("the legs of mirror %d differ", k)
		}
	}
}

// delete takes the array away from the cns, so that labels are clean.
func (m *mirrorLab) delete(primary int) {
	m.Helper()
	for i := range m.cns {
		c := m.cntlr(i, primary)
		c.Deleted = true
		m.good(i, c)
	}
}

// TestRealMirrors is a disk node's death under load and its return: the mirrors
// wait, go on without its legs once they are told so, and take them back; a
// failover in the middle of the rebuild changes nothing of that.
func TestRealMirrors(t *testing.T) {
	t.Parallel()
	l, dnTgts, cnTgts := reals(t, 2, true, false, false)
	m := made(l)
	write(t, m.disk(0), 3)
	m.reports(0, quiet)

	work := startLoad(m.multipath())
	ended := false
	defer func() {
		if !ended {
			work.end()
		}
	}()
	work.goesOn()
	dnTgts[1].stop()
	killed := time.Now()
	m.reports(0, m.legs(1, "lost", func(s *apiv1.LegState) bool { return s.Lost && !s.Connected }))
	m.reports(0, m.legs(0, "connected", func(s *apiv1.LegState) bool { return s.Connected && !s.Lost }))
	t.Logf("reported after %v", time.Since(killed))
	m.role(1, apiv1.LegRole_LEG_ROLE_STALE)
	m.good(0, m.cntlr(0, 0))
	work.goesOn()
	t.Logf("longest I/O %v", work.pause())
	m.reports(0, quiet)
	m.healthy(0)
	for _, o := range cnTgts[0].objects() {
		if o == "controller vda-vd-"+m.mirrors[0].Legs[1].Vd.VdId {
			t.Error("a stale leg is still attached")
		}
	}

	dnTgts[1].start()
	m.ready(1)
	m.fence(1)
	m.spec.Limits = &apiv1.Limits{RebuildMbps: uint64(len(m.mirrors))}
	m.role(1, apiv1.LegRole_LEG_ROLE_TARGET)
	m.good(0, m.cntlr(0, 0))
	m.reports(0, m.legs(1, "a target", func(s *apiv1.LegState) bool {
		return s.Role == apiv1.LegRole_LEG_ROLE_TARGET && s.Connected && (s.LackBytes > 0 || s.Ready) // ready by now: a starved machine
	}))
	work.pause()

	m.spec.Limits = nil
	m.term++                 // a planned switch in the middle of the rebuild
	m.sync(0, m.cntlr(0, 1)) // retires
	m.fence(0)
	m.fence(1)
	m.up(1)
	work.goesOn()
	t.Logf("switch to cn1: longest I/O %v", work.pause())
	m.reports(1, m.legs(1, "ready", func(s *apiv1.LegState) bool { return s.Ready && s.Role == apiv1.LegRole_LEG_ROLE_TARGET }))
	m.role(1, apiv1.LegRole_LEG_ROLE_MEMBER)
	m.good(1, m.cntlr(1, 1))
	m.reports(1, quiet)
	work.goesOn()

	dnTgts[0].stop() // now the legs that came back are the only ones
	m.reports(1, m.legs(0, "lost", func(s *apiv1.LegState) bool { return s.Lost }))
	m.role(0, apiv1.LegRole_LEG_ROLE_STALE)
	m.good(1, m.cntlr(1, 1))
	work.goesOn()
	dnTgts[0].start()
	m.ready(0)
	m.fence(0)
	m.role(0, apiv1.LegRole_LEG_ROLE_TARGET)
	m.good(1, m.cntlr(1, 1))
	m.reports(1, m.legs(0, "ready", func(s *apiv1.LegState) bool { return s.Ready }))
	m.role(0, apiv1.LegRole_LEG_ROLE_MEMBER)
	m.good(1, m.cntlr(1, 1))
	m.reports(1, quiet)
	m.scrub(1)
	work.goesOn()
	ended = true
	work.end()
	write(t, m.disk(1), 4)
	verify(t, m.disk(0), 4)
	m.delete(1)
	for i, g := range cnTgts {
		if o := g.objects(); len(o) > 0 {
			t.Errorf("left on cn%d: %v", i, o)
		}
	}
	m.equal()
}

// scrub has the primary on controller node i compare the legs, and what it says of that
// is under the order's id.
func (m *mirrorLab) scrub(i int) {
	m.Helper()
	order := func(id string, change func(*apiv1.ScrubRequest)) (*apiv1.ScrubReply, error) {
		r := &apiv1.ScrubRequest{ClusterId: cluster, NodeId: m.cns[i].id, DaId: daID, Term: m.term, ScrubId: id}
		change(r)
		return m.cns[i].a.Scrub(context.Background(), r)
	}
	all := func(*apiv1.ScrubRequest) {}
	scrubbed := func(id string, mirrors ...*apiv1.MirrorSpec) func(l []*apiv1.MirrorState) string {
		return func(l []*apiv1.MirrorState) string {
			for _, spec := range mirrors {
				if !slices.ContainsFunc(l, func(s *apiv1.MirrorState) bool {
					return s.MirrorId == spec.Id && s.Scrub.GetState() == "done" && s.Scrub.ScrubId == id && s.Scrub.DoneBytes == legData &&
						s.Scrub.Mismatches == 0
				}) {
					return "mirror " + spec.Id + " is not scrubbed"
				}
			}
			return ""
		}
	}
	for _, id := range []string{"first", "second"} {
		if r, err := order(id, all); err != nil || len(r.Problems) > 0 {
			m.Fatalf("scrub %s: %v, %v", id, r, err)
		}
		m.reports(i, scrubbed(id, m.mirrors...))
	}
	from := m.mirrors[0].Legs[0].Vd.VdId
	if r, err := order("third", func(r *apiv1.ScrubRequest) { r.RepairFrom = from }); err != nil || len(r.Problems) > 0 {
		m.Fatalf("scrub of one mirror: %v, %v", r, err)
	}
	m.reports(i, scrubbed("third", m.mirrors[0]))
	m.reports(i, scrubbed("second", m.mirrors[1]))
	if r, err := order("", func(r *apiv1.ScrubRequest) { r.Stop = true }); err != nil || len(r.Problems) > 0 {
		m.Errorf("stop, when none is running: %v, %v", r, err)
	}
	for want, change := range map[string]func(*apiv1.ScrubRequest){
		"term 0":  func(r *apiv1.ScrubRequest) { r.Term = 0 },
		"da none": func(r *apiv1.ScrubRequest) { r.DaId = "none" },
		"node":    func(r *apiv1.ScrubRequest) { r.NodeId = "other" },
	} {
		if _, err := order("x", change); err == nil || !strings.Contains(err.Error(), want) {
			m.Errorf("%v does not say %q", err, want)
		}
	}
}

// A controller of a mirrored array on a data plane without mirrors says what
// would be right, and touches nothing.
func TestMirrorsWhereThereAreNone(t *testing.T) {
	t.Parallel()
	l, _ := fakes(t, 1, false)
	m := newMirrorLab(l)
	l.cns[0].plane.Changes()
	for _, s := range l.sync(0, l.cntlr(0, 0)).States {
		if !s.Error || !strings.Contains(s.ErrorMsg, "has no mirrors") || !strings.Contains(s.ErrorMsg, "vda_tgt") {
			t.Errorf("state %v", s)
		}
	}
	if n := l.cns[0].plane.Changes(); n > 1 { // the owner's mark
		t.Errorf("%d changes of the data plane", n)
	}
	r, err := l.cns[0].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: l.cns[0].id})
	if err != nil || r.CanMirror || len(r.Mirrors) > 0 {
		t.Errorf("heartbeat %v, %v of %v", r, err, m.mirrors)
	}
}
