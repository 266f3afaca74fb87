package portal

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestPlanMirrors: the legs of an orphaned array get the roles that its last primary
// remembers. Without that primary, or without a member, there is no plan.
func TestPlanMirrors(t *testing.T) {
	leg := func(id string, r apiv1.LegRole, epoch uint64) *apiv1.LegSpec {
		return &apiv1.LegSpec{Vd: &apiv1.VdTarget{VdId: id, Epoch: epoch}, Role: r}
	}
	const member, target, stale = apiv1.LegRole_LEG_ROLE_MEMBER, apiv1.LegRole_LEG_ROLE_TARGET, apiv1.LegRole_LEG_ROLE_STALE
	last := &apiv1.CntlrSpec{Id: "c0", DaName: "da0", Primary: true, Term: 5, Size: 1 << 20, Redundancy: "mirror:3", MinLegs: 2,
		Limits: &apiv1.Limits{RwIosPerSec: 4000, WMbytesPerSec: 5, RebuildMbps: 6},
		Grps: []*apiv1.GrpSpec{{Id: "g", StripeSizeKb: 64, Mirrors: []*apiv1.MirrorSpec{{Id: "m", Gen: 7, DataSize: 2 << 20,
			Legs: []*apiv1.LegSpec{leg("a", member, 0), leg("b", target, 3), leg("c", stale, 4), leg("d", stale, 1)}}}}}}
	vds := func(ids ...string) map[string]orphanVd {
		m := map[string]orphanVd{}
		for _, id := range ids {
			m[id] = orphanVd{&apiv1.VdSpec{Id: id, PdId: "pd", Size: 4 << 20, Epoch: 3}, "dn"}
		}
		return m
	}
	cntlrs := func(term uint64) map[string]*apiv1.CntlrSpec {
		return map[string]*apiv1.CntlrSpec{"cn0": last, "cn1": {Id: "c1", Term: term}}
	}
	o := &orphans{}
	a, err := o.plan("da", cntlrs(5), vds("a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	if a.DA.Redundancy != vda.Mirror3 || a.DA.MinLegs != 2 || a.DA.StripeCount != 1 || a.Grps[0].Size != 2<<20 {
		t.Errorf("da %+v, group %+v", a.DA, a.Grps[0])
	}
	if a.DA.Limits != (vda.Limits{RWIOs: 4000, WMB: 5, RebuildMB: 6}) {
		t.Errorf("limits %+v", a.DA.Limits)
	}
	if len(a.Mirrors) != 1 || *a.Mirrors[0] != (vda.Mirror{ID: "m", DAID: "da", Size: 2 << 20, Gen: 7, Recovered: 7}) {
		t.Errorf("mirrors %+v", a.Mirrors)
	}
	last.Grps[0].Mirrors[0].Recovered = new(uint64)
	if b, err := o.plan("da", cntlrs(5), vds("a", "b", "c")); err != nil || b.Mirrors[0].Recovered != 0 {
		t.Errorf("of an agent that was told which set was a user's: %+v, %v", b, err)
	}
	var got []string
	for _, v := range a.VDs {
		got = append(got, v.ID+" "+v.Role.String()+" "+string('0'+rune(v.Epoch))+" "+v.MirrorID)
	}
	if s := strings.Join(got, ", "); s != "a member 3 m, b stale 4 m, c stale 5 m" {
		t.Errorf("legs %s", s)
	}

	for _, tt := range []struct {
		name string
		o    *orphans
		term uint64
		vds  map[string]orphanVd
		want string
	}{
		{"another primary since", o, 6, vds("a", "b", "c"), "its primary of term 6 is on no cn that answers"},
		{"a silent node", &orphans{mute: []string{"dn x could not be asked"}}, 5, vds("a", "b", "c"), "dn x could not be asked"},
		{"a member is gone", o, 5, vds("b", "c"), "its vd a, which has all data of its column"},
	} {
		if _, err := tt.o.plan("da", cntlrs(tt.term), tt.vds); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
