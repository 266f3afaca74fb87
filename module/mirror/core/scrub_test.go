package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// plant has a leg hold something else in a block, on its medium and in its cache.
func (m *model) plant(leg int, b uint64) {
	d := m.rows[leg].disk
	m.number++
	d.data[b] = m.number
	delete(d.cache, b)
	m.planted++
}

// TestScrub: what a disk has made of its data by itself is found where it is, beside
// writes. Two legs stay as they are unless the operator says which is right; of
// three, two are.
func TestScrub(t *testing.T) {
	const bad = 40
	for _, c := range []struct {
		legs   int
		right  label.ID
		healed bool
	}{{2, label.ID{}, false}, {2, vdID(1), true}, {2, vdID(0), true}, {3, label.ID{}, true}, {3, vdID(2), true}} {
		t.Run(fmt.Sprintf("%d legs, right %x", c.legs, c.right[15]), func(t *testing.T) {
			for seed := range 20 {
				m := newModel(uint64(seed), c.legs, 0)
				m.scrubs = 0
				m.start()
				m.pass(50 * time.Millisecond)
				m.write(bad)
				m.write(bad + 1)
				m.pass(time.Second) // no bit is set
				wrong := 0
				if c.right == vdID(0) {
					wrong = 1
				}
				good := m.rows[c.legs-1-wrong*(c.legs-1)].disk.read(bad)
				m.plant(wrong, bad)
				m.right, m.scrubs = c.right, 1
				m.begin(bad + 1) // beside
				for i := 0; !m.p.c.Status().Scrub.Ended && i < 5000; i++ {
					if i%10 == 0 && len(m.reqs) < 3 {
						m.begin(bad + 1 + uint64(i/10)%20)
					}
					m.pass(time.Millisecond)
				}
				s := m.p.c.Status().Scrub
				m.scrubs = 0
				m.await()
				if m.wrong != "" {
					t.Fatalf("seed %d: %s\n%s", seed, m.wrong, strings.Join(m.log, "\n"))
				}
				offset := uint64(bad * block)
				if !s.Ended || s.Done != dataSize || !slices.Contains(s.Offsets, offset) || s.Mismatches != uint64(len(s.Offsets)) ||
					slices.ContainsFunc(s.Offsets, func(o uint64) bool { return o/block != bad }) {
					t.Fatalf("seed %d: %+v", seed, s)
				}
				if (s.Repaired == s.Mismatches) != c.healed {
					t.Errorf("seed %d: %d of %d are repaired", seed, s.Repaired, s.Mismatches)
				}
				for i, r := range m.rows {
					if v := r.disk.read(bad); c.healed && v != good || !c.healed && i != wrong && v != good {
						t.Errorf("seed %d: leg %d holds %d, not %d", seed, i, v, good)
					}
				}
			}
		})
	}
}
