package syncer

import (
	"bytes"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
)

// TestHopKeys: each vd, epoch, controller and term has a key of its own, which only who
// has the secret can make; a plain cluster has none.
func TestHopKeys(t *testing.T) {
	h := hops(bytes.Repeat([]byte{7}, 32))
	vd := &vda.VD{ID: "v1", DAID: "d1", Epoch: 1}
	other, later := *vd, *vd
	other.ID, later.Epoch = "v2", 2
	c, peer := &vda.Cntlr{ID: "c1", DAID: "d1"}, &vda.Cntlr{ID: "c2", DAID: "d1"}
	keys := [][]byte{h.vd(vd, 1), h.vd(vd, 2), h.vd(&other, 1), h.vd(&later, 1), h.cntlr(c, 1), h.cntlr(c, 2), h.cntlr(peer, 1),
		hops(bytes.Repeat([]byte{8}, 32)).vd(vd, 1), h.clone("e1", 1), h.clone("e1", 2), h.clone("e2", 1)}
	for i, k := range keys {
		if len(k) != 32 {
			t.Errorf("key %d has %d bytes", i, len(k))
		}
		for j, o := range keys[:i] {
			if bytes.Equal(k, o) {
				t.Errorf("keys %d and %d are the same", i, j)
			}
		}
	}
	if !bytes.Equal(h.vd(vd, 1), keys[0]) {
		t.Error("a key is another one when it is made again")
	}
	if k, l := hops(nil).vd(vd, 1), hops(nil).ofSource("e1", 3); k != nil || l != nil {
		t.Errorf("a plain cluster has keys %x, %x", k, l)
	}
	if k := h.ofSource("e1", 2); len(k) != 2 || !bytes.Equal(k[0], h.clone("e1", 2)) || !bytes.Equal(k[1], h.clone("e1", 1)) {
		t.Errorf("a source of term 2 takes %x", k)
	}
	if k := h.ofSource("e1", 1); len(k) != 1 || h.clone("e1", 0) != nil {
		t.Errorf("a source of the first term takes %x", k)
	}
	if !strings.Contains(legHost(vd, 3), "-3") {
		t.Errorf("host %s does not name the term", legHost(vd, 3))
	}
}
