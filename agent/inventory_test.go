package agent

import (
	"testing"

	"github.com/virtual-disk-array/vda/spdk"
)

// A pass asks for each of its mirrors many times, and passes share inventories: what a bdev says
// is read once.
func TestAMirrorIsReadOnce(t *testing.T) {
	t.Parallel()
	inv := newInventory()
	inv.addBdev(&spdk.Bdev{Name: "vda-mir-1", Aliases: []string{"alias"}, DriverSpecific: []byte(`{"mirror":{"gen":7,"legs":[{"vd_id":"b1"}]}}`)})
	inv.addBdev(&spdk.Bdev{Name: "vda-grp-1", DriverSpecific: []byte(`{"raid":{"state":"online"}}`)})
	inv.addBdev(&spdk.Bdev{Name: "Malloc0"})
	m := inv.Mirror("vda-mir-1")
	if m == nil || m.Gen != 7 || len(m.Legs) != 1 {
		t.Fatalf("%+v", m)
	}
	if inv.Mirror("vda-mir-1") != m || inv.Mirror("alias") != m || inv.WithoutController("x").Mirror("vda-mir-1") != m {
		t.Error("it is read again")
	}
	for _, name := range []string{"vda-grp-1", "Malloc0", "vda-mir-2"} {
		if m := inv.Mirror(name); m != nil {
			t.Errorf("%s is %+v", name, m)
		}
	}
}
