package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/sim/ledger"
)

// TestVerdict tells the ledger short stories, and what it must find in them.
func TestVerdict(t *testing.T) {
	host := func(term uint64) string { return vda.PrimaryHostNQN("c0", term) }
	leg := func(term, epoch uint64) string { return vda.LegHostNQN(host(term), epoch) }
	const vd = "nqn.2016-06.io.spdk:vda-vd-1"
	for _, c := range []struct {
		name string
		tell func(l *ledger.Ledger)
		want string // part of what is wrong; "": nothing is
	}{
		{"a primary writes", func(l *ledger.Ledger) { l.Admitted("dn", vd, host(1)); l.Wrote("dn", vd, host(1)) }, ""},
		{"the next one, too", func(l *ledger.Ledger) {
			l.Admitted("dn", vd, host(1))
			l.Admitted("dn", vd, host(2))
			l.Wrote("dn", vd, host(2))
		}, ""},
		{"two writers", func(l *ledger.Ledger) {
			l.Admitted("dn", vd, host(1))
			l.Admitted("dn", vd, host(2))
			l.Wrote("dn", vd, host(1))
		}, "two writers"},
		{"a term falls", func(l *ledger.Ledger) { l.Admitted("dn", vd, host(2)); l.Admitted("dn", vd, host(1)) }, "admits term 1"},
		{"a leg that was dropped comes back", func(l *ledger.Ledger) {
			l.Admitted("dn", vd, host(2))
			l.Admitted("dn", vd, leg(2, 1))
			l.Wrote("dn", vd, leg(2, 1))
			l.Admitted("dn", vd, leg(3, 1))
			l.Wrote("dn", vd, leg(3, 1))
		}, ""},
		{"what was sent before the drop lands late", func(l *ledger.Ledger) {
			l.Admitted("dn", vd, leg(2, 1))
			l.Admitted("dn", vd, leg(2, 2))
			l.Wrote("dn", vd, leg(2, 1))
		}, "a write of term 2 epoch 1"},
		{"before the first drop, too", func(l *ledger.Ledger) {
			l.Admitted("dn", vd, host(2))
			l.Admitted("dn", vd, leg(2, 1))
			l.Wrote("dn", vd, host(2))
		}, "a write of term 2 reaches"},
		{"an epoch falls", func(l *ledger.Ledger) {
			l.Admitted("dn", vd, leg(2, 2))
			l.Admitted("dn", vd, leg(2, 1))
		}, "admits term 2 epoch 1"},
		{"terms are each vd's own", func(l *ledger.Ledger) { l.Admitted("dn", vd, host(2)); l.Admitted("dn", vd+"1", host(1)) }, ""},
		{"the agent zeroes a vd", func(l *ledger.Ledger) { l.Admitted("dn", vd, host(2)); l.Wrote("dn", vd, "nqn.2016-06.io.spdk:other") }, ""},
		{"what was acknowledged is read", func(l *ledger.Ledger) { l.Ack("da", 3, 7); l.Saw("da", 3, 7) }, ""},
		{"an older value is read", func(l *ledger.Ledger) { l.Ack("da", 3, 7); l.Ack("da", 3, 9); l.Saw("da", 3, 7) }, "lost write"},
		{"a block is empty", func(l *ledger.Ledger) { l.Ack("da", 3, 7); l.Saw("da", 3, 0) }, "lost write"},
		{"a block was never written", func(l *ledger.Ledger) { l.Ack("da", 3, 7); l.Saw("da", 4, 0) }, ""},
		{"data comes from nowhere", func(l *ledger.Ledger) { l.Saw("da", 4, 1) }, "lost write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log []string
			l := ledger.New(func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) })
			c.tell(l)
			wrongs, _ := l.Verdict()
			if c.want == "" && len(wrongs) > 0 {
				t.Errorf("found %v", wrongs)
			}
			if c.want != "" && (len(wrongs) != 1 || !strings.Contains(wrongs[0], c.want) || !strings.Contains(log[len(log)-1], wrongs[0])) {
				t.Errorf("found %v, logged %v; want %q", wrongs, log, c.want)
			}
		})
	}
}

func TestCount(t *testing.T) {
	l := ledger.New(func(string, ...any) {})
	l.Ack("da", 1, 1)
	l.Saw("da", 1, 1)
	l.Attempt()
	l.Admitted("dn", "vd", vda.PrimaryHostNQN("c0", 4))
	if _, c := l.Verdict(); c != (ledger.Count{Writes: 1, Reads: 1, Again: 1, Moves: 3}) {
		t.Errorf("%+v", c)
	}
}
