package cn_test

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// switches returns how many planned switches a test makes: VDA_TEST_SWITCHES,
// else a few.
func switches(t *testing.T) int {
	text := os.Getenv("VDA_TEST_SWITCHES")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("VDA_TEST_SWITCHES=%q must be a number of switches", text)
	}
	return n
}

// TestRealManySwitches moves a disk array to and fro between two controller
// nodes, under a load that verifies what it reads and takes an error as Linux
// would: with SPDK_TGT between spdk_tgt and vda_tgt, so that each opens what
// the other has written. In the end all of the disk is read through both, and
// written through one and read through the other.
func TestRealManySwitches(t *testing.T) { planes(t, realManySwitches) }

func realManySwitches(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, true, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	l.spec.Create = false
	work := startLoad(l.multipath())
	pauses := [2][]time.Duration{}
	n := switches(t)
	for round := range n {
		was, is := round%2, (round+1)%2
		work.goesOn()
		work.pause()
		l.standBy(is, 5*time.Second)
		l.term++
		l.sync(was, l.cntlr(was, is)) // retires
		l.fence(false)
		l.good(is, l.cntlr(is, is))
		l.good(was, l.cntlr(was, is))
		work.goesOn()
		pauses[is] = append(pauses[is], work.pause())
		if t.Failed() {
			t.Fatalf("switch %d, to cn%d", round+1, is)
		}
	}
	work.end()
	for is, p := range pauses {
		if len(p) == 0 {
			continue
		}
		slices.Sort(p)
		t.Logf("%d switches to cn%d: longest I/O min %v, median %v, 9 of 10 %v, max %v", len(p), is, p[0].Round(time.Millisecond),
			p[len(p)/2].Round(time.Millisecond), p[len(p)*9/10].Round(time.Millisecond), p[len(p)-1].Round(time.Millisecond))
	}
	t.Logf("%d blocks written and read back during %d switches", work.total(), n)
	l.healthy(0)
	l.healthy(1)
	write(t, l.disk(0), 0x11)
	verify(t, l.disk(1), 0x11)
	write(t, l.disk(1), 0x22)
	verify(t, l.disk(0), 0x22)
}
