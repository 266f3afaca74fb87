package monitor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
)

// TestPlanHeal: which legs are copied to, given up or replaced.
func TestPlanHeal(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	timing := &Timing{ReplaceAfter: 10 * time.Minute}
	leg := func(id string, role vda.LegRole, change ...func(*LegView)) LegView {
		v := LegView{DAID: "da-" + id, VD: vda.VD{ID: id, Role: role, DNID: "dn-" + id, MirrorID: "m-" + id}, DNUp: true, Fenced: true}
		for _, fn := range change {
			fn(&v)
		}
		return v
	}
	on := func(dn string) func(*LegView) { return func(v *LegView) { v.DNID = dn } }
	of := func(mirror string) func(*LegView) {
		return func(v *LegView) { v.MirrorID, v.DAID = mirror, "da-"+mirror }
	}
	lacks := func(n uint64) func(*LegView) { return func(v *LegView) { v.Lack = n } }
	sick := func(since time.Duration) func(*LegView) {
		return func(v *LegView) { v.DNUp = false; v.Health = vda.Health{Error: true, Since: now.Add(-since)} }
	}
	ailing := func(since time.Duration, why string) func(*LegView) {
		return func(v *LegView) { v.Health = vda.Health{Error: true, Msg: why, Since: now.Add(-since)} }
	}
	leaving := func(v *LegView) { v.Leaving = true }
	for _, c := range []struct {
		name string
		legs []LegView
		want string
	}{
		{"none", nil, ""},
		{"one that is back", []LegView{leg("a", vda.Stale)}, "admit a"},
		{"its dn lets in whom it let in before", []LegView{leg("a", vda.Stale, func(v *LegView) { v.Fenced = false })}, ""},
		{"its dn is down", []LegView{leg("a", vda.Stale, func(v *LegView) { v.DNUp = false })}, ""},
		{"its disk is not well", []LegView{leg("a", vda.Stale, func(v *LegView) { v.Health = vda.Health{Error: true, Since: now} })}, ""},
		{"it was lost too often", []LegView{leg("a", vda.Stale, func(v *LegView) { v.Wait = time.Second })}, ""},
		{"few at once, those that lack least", []LegView{leg("a", vda.Stale, on("d"), lacks(9)), leg("b", vda.Stale, on("d"), lacks(1)),
			leg("c", vda.Stale, on("d"), lacks(2)), leg("e", vda.Stale, on("f"), lacks(99))}, "admit b c e"},
		{"those that are copied to count", []LegView{leg("a", vda.Target, on("d")), leg("b", vda.Target, on("d")),
			leg("c", vda.Stale, on("d"))}, ""},
		{"a target without a connection for a moment", []LegView{leg("a", vda.Target, func(v *LegView) { v.Apart = targetDelay - 1 })}, ""},
		{"a target without a connection", []LegView{leg("a", vda.Target, func(v *LegView) { v.Apart = targetDelay })}, "expel a"},
		{"one that is away for a while", []LegView{leg("a", vda.Stale, sick(10*time.Minute-1))}, ""},
		{"one that is away for too long", []LegView{leg("a", vda.Stale, sick(10*time.Minute))}, "replace a"},
		{"it is being replaced", []LegView{leg("a", vda.Stale, sick(time.Hour), of("m"), leaving), leg("b", vda.Target, of("m"))}, ""},
		{"two of one mirror are away", []LegView{leg("a", vda.Stale, sick(time.Hour), of("m")), leg("b", vda.Stale, sick(time.Hour), of("m"))},
			"replace a"},
		{"its successor is away too", []LegView{leg("a", vda.Stale, sick(time.Hour), of("m"), leaving),
			leg("b", vda.Stale, sick(time.Hour), of("m"))}, "replace b"},
		{"it comes back before its successor is ready", []LegView{leg("a", vda.Stale, of("m"), leaving), leg("b", vda.Target, of("m"))},
			"admit a"},
		{"its data is lost", []LegView{leg("a", vda.Stale, ailing(0, vda.DataLost+"it is gone"))}, "replace a"},
		{"a member whose disk is sick for a while", []LegView{leg("a", vda.Member, ailing(10*time.Minute-1, "I/O errors"))}, ""},
		{"a member whose disk is sick for too long", []LegView{leg("a", vda.Member, ailing(10*time.Minute, "I/O errors"))}, "replace a"},
		{"a member whose node is down", []LegView{leg("a", vda.Member, sick(time.Hour))}, ""},
		{"a member that says that its data is lost is the primary's to judge",
			[]LegView{leg("a", vda.Member, ailing(0, vda.DataLost+"it is gone"))}, ""},
		{"a sick member is replaced already", []LegView{leg("a", vda.Member, ailing(time.Hour, "I/O errors"), of("m"), leaving),
			leg("b", vda.Target, of("m"))}, ""},
		{"a leg that is away goes before a sick member", []LegView{leg("a", vda.Member, ailing(time.Hour, "I/O errors"), of("m")),
			leg("b", vda.Stale, sick(time.Hour), of("m"), lacks(9))}, "replace b"},
		{"a member that is to leave", []LegView{leg("a", vda.Member, leaving)}, ""},
	} {
		p := PlanHeal(timing, now, c.legs)
		var got []string
		for _, part := range []struct {
			name string
			legs []LegView
		}{{"admit", p.Admit}, {"expel", p.Expel}, {"replace", p.Replace}} {
			if len(part.legs) == 0 {
				continue
			}
			got = append(got, part.name)
			for _, v := range part.legs {
				got = append(got, v.ID)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

// TestFlappingLegWaits: a leg that is lost again and again waits longer each time,
// and is forgiven after a while.
func TestFlappingLegWaits(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l, timing := &legMemory{}, &Timing{FlapWait: time.Minute}
	var got []string
	for epoch := uint64(1); epoch <= 6; epoch++ {
		l.noteEpoch(now, epoch)
		l.noteEpoch(now, epoch) // the same loss
		got = append(got, fmt.Sprint(max(l.wait(timing, now), 0)))
		now = now.Add(time.Second)
	}
	if s := strings.Join(got, " "); s != "0s 0s 1m0s 2m0s 4m0s 8m0s" {
		t.Errorf("it waits %s", s)
	}
	if w := l.wait(&Timing{FlapWait: time.Second}, now); w > 8*time.Second {
		t.Errorf("with a shorter wait at first it waits %v", w)
	}
	if w := l.wait(timing, now.Add(flapTime+time.Second)); w > 0 {
		t.Errorf("after %v without a loss it waits %v", flapTime, w)
	}
}

// TestDecisionsFirst: while I/O waits for decisions no legs are replaced, but not for ever where
// no decision comes.
func TestDecisionsFirst(t *testing.T) {
	var d decisionsFirst
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, c := range []struct {
		at    time.Duration
		waits bool
		want  bool
	}{
		{0, false, false}, {time.Second, true, true}, {2 * time.Second, true, true}, {3 * time.Second, false, false},
		{4 * time.Second, true, true}, {4*time.Second + decisionsMost - 1, true, true}, {4*time.Second + decisionsMost, true, false},
		{time.Hour, true, false}, {time.Hour, false, false}, {time.Hour, true, true},
	} {
		if got := d.wait(begin.Add(c.at), c.waits); got != c.want {
			t.Errorf("step %d: %v, want %v", i, got, c.want)
		}
	}
}

// TestALostMemberThatNothingIsLeftOf: I/O that waits for the last leg waits for no decision.
func TestALostMemberThatNothingIsLeftOf(t *testing.T) {
	lost, well, behind := array.LegReport{Lost: true}, array.LegReport{Connected: true}, array.LegReport{Lack: 1}
	for _, c := range []struct {
		legs []array.LegReport
		want bool
	}{
		{nil, false}, {[]array.LegReport{well, well}, false}, {[]array.LegReport{lost, well}, true}, {[]array.LegReport{lost}, false},
		{[]array.LegReport{lost, lost}, false}, {[]array.LegReport{lost, behind}, false},
	} {
		n := &node{legs: []*array.LegsReport{{Mirrors: []array.MirrorReport{{Legs: c.legs}}}}}
		if got := n.hasLost(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.legs, got, c.want)
		}
	}
}
