package volume

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"

	"github.com/virtual-disk-array/vda"
)

// TestParseClass: each key has its effect, and what is wrong is named with what would
// be right.
func TestParseClass(t *testing.T) {
	c, err := ParseClass(map[string]string{
		"portals": "192.168.0.11:9520,[fd00::1]:9520", "cntlrCnt": "3", "redundancy": "mirror:2", "stripeCount": "4", "stripeSizeKb": "128",
		"physicalRatio": "50", "strict": "true", "rwIosPerSec": "5000", "rwMbytesPerSec": "100", "rMbytesPerSec": "90", "wMbytesPerSec": "80",
		"mkfsOptions": "-m 1  -b 4096", "nvmeCtrlLossTmo": "600", "nvmeReconnectDelay": "2", "nvmeKeepAliveTmo": "5", "nvmeNrIoQueues": "4",
		"dhchap":                      "mutual",
		"csi.storage.k8s.io/pvc/name": "db",
	})
	want := Class{Portals: "192.168.0.11:9520,[fd00::1]:9520", CntlrCnt: 3, Redundancy: "mirror:2", StripeCount: 4, StripeSizeKB: 128,
		PhysicalRatio: 50, Strict: true, Limits: vda.Limits{RWIOs: 5000, RWMB: 100, RMB: 90, WMB: 80},
		MkfsOptions: []string{"-m", "1", "-b", "4096"},
		NVMe:        NVMe{CtrlLossTmo: 600, ReconnectDelay: 2, KeepAliveTmo: 5, NrIOQueues: 4, Auth: MutualAuth}}
	if diff := cmp.Diff(want, c); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	mkfs, nvme, err := ParseContext(c.Context())
	if err != nil || !cmp.Equal(mkfs, c.MkfsOptions) || nvme != c.NVMe {
		t.Errorf("context %v: %v, %v, %v", c.Context(), mkfs, nvme, err)
	}
	for name, bad := range map[string][]string{
		"stripecount": {"4"}, "": {"x"}, "csi.storage.k8s.io/other": {"x"},
		"portals":  {"", "192.168.0.11", "a:9520,", "a:99999", ":9520", "a/b:9520"},
		"cntlrCnt": {"0", "", "-1", "two", "65", "+2"}, "redundancy": {"", "mirror", "mirror:4"}, "stripeCount": {"0"}, "stripeSizeKb": {"3"},
		"physicalRatio": {"1", "1001", "50%"}, "strict": {"", "yes", "True"}, "rwIosPerSec": {"", "-1", "5k"}, "mkfsOptions": {"-L 'a b'"},
		"nvmeCtrlLossTmo": {"0", "-2", ""}, "nvmeReconnectDelay": {"0", "61"}, "nvmeKeepAliveTmo": {"0", "x"}, "nvmeNrIoQueues": {"0", "129"},
		"dhchap": {"", "true", "Host"},
	} {
		for _, v := range bad {
			_, err := ParseClass(map[string]string{name: v})
			if err == nil || vda.KindOf(err) != vda.InvalidArgument || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), v) {
				t.Errorf("%s=%q: %v", name, v, err)
			}
		}
	}
	if _, _, err := ParseMutable(map[string]string{"redundancy": "none"}, vda.Limits{}); err == nil || !strings.Contains(err.Error(),
		"rwIosPerSec") {
		t.Errorf("a VolumeAttributesClass with a redundancy: %v", err)
	}
}

// TestNames: ids come back as they were made, and names that no array can have are
// replaced by ones that differ.
func TestNames(t *testing.T) {
	for _, id := range []ID{{Array: "pvc-1"}, {Portals: "a:1,[fd00::1]:2", Array: "pvc-1"}} {
		if got, ok := ParseID(id.String()); !ok || got != id {
			t.Errorf("%v: %v, %v", id, got, ok)
		}
		s := SnapshotID{Volume: id, Snap: "snapshot-1"}
		if got, ok := ParseSnapshotID(s.String()); !ok || got != s {
			t.Errorf("%v: %v, %v", s, got, ok)
		}
	}
	for _, g := range []GroupID{{Snap: "s-1"}, {Portals: "a:1,[fd00::1]:2", Snap: "s-1"}} {
		if got, ok := ParseGroupID(g.String()); !ok || got != g {
			t.Errorf("%v: %v, %v", g, got, ok)
		}
		if s, ok := ParseSnapshotID(g.String()); ok {
			t.Errorf("the group %v is the snapshot %v, too", g, s)
		}
		s := g.Member("pvc-1")
		if got, ok := ParseSnapshotID(s.String()); !ok || got != s || s.Volume.Portals != g.Portals {
			t.Errorf("%v: %v, %v", s, got, ok)
		}
	}
	for _, id := range []string{"", "*", "*@", "@s", "/*@s", "a@s", "a:1@s", "a:1/b@s", "*@a b"} {
		if g, ok := ParseGroupID(id); ok {
			t.Errorf("%q is the group %v", id, g)
		}
	}
	if Hash("g") == GroupRequest("g", nil) || GroupRequest("g", []string{"a"}) == GroupRequest("g", []string{"a", "b"}) {
		t.Error("requests of groups are not their own")
	}
	for _, id := range []string{"", "/pvc", "a:1/", "a b", "pvc@x", strings.Repeat("x", 64)} {
		if got, ok := ParseID(id); ok {
			t.Errorf("%q is %v", id, got)
		}
	}
	long := strings.Repeat("x", 128)
	if a, b := ObjectName(long), ObjectName(long+"y"); a == b || vda.CheckName("name", a) != nil || ObjectName("pvc-1") != "pvc-1" {
		t.Errorf("%s, %s", a, b)
	}
	const host = "nqn.2014-08.org.nvmexpress:uuid:019ac5b8-f9f0-7d0c-8a54-d1c3b2a19e01"
	nqn := vda.ExpNQN("pvc-1-x", ExporterName(host))
	if a, ok := ArrayOf(nqn, host); !ok || a != "pvc-1-x" {
		t.Errorf("%s is of %q", nqn, a)
	}
	if a, ok := ArrayOf(vda.ExpNQN("pvc-1", "exp0"), host); ok {
		t.Errorf("another's exporter is of %q", a)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		required, limit int64
		size            uint64
		outside, bad    bool
	}{
		{0, 0, 1 << 30, false, false}, {0, 5 << 20, 5 << 20, false, false}, {1, 0, 1 << 20, false, false},
		{5 << 20, 5 << 20, 5 << 20, false, false},
		{64 << 30, 0, 64 << 30, false, false}, {64<<30 + 1, 0, 64<<30 + 4<<20, false, false}, {64<<30 - 1, 0, 64 << 30, false, false},
		{1, 1000, 0, true, true}, {1 << 51, 0, 0, true, true}, {-1, 0, 0, false, true}, {5, 4, 0, false, true}, {0, 1000, 0, true, true},
	} {
		size, outside, err := Size(&csi.CapacityRange{RequiredBytes: c.required, LimitBytes: c.limit})
		if size != c.size || outside != c.outside || err != nil != c.bad {
			t.Errorf("%d to %d: %d, %v, %v", c.required, c.limit, size, outside, err)
		}
	}
}

// TestSharedFileSystem: only raw block volumes may be on several nodes.
func TestSharedFileSystem(t *testing.T) {
	for mode, shared := range modes {
		am := &csi.VolumeCapability_AccessMode{Mode: mode}
		block := &csi.VolumeCapability{AccessMode: am, AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}}
		mount := &csi.VolumeCapability{AccessMode: am, AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}}
		if err := CheckCapability(block); err != nil {
			t.Error(err)
		}
		if err := CheckCapability(mount); (err != nil) != shared {
			t.Errorf("%v: %v", mode, err)
		}
	}
}
