package cn_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// TestRealDamagedVolumeStore: an array whose volume store cannot be loaded says that it is
// damaged, not that there is none, and is not made again.
func TestRealDamagedVolumeStore(t *testing.T) {
	t.Parallel()
	l, _, cnTgts := reals(t, 1, true, false, false)
	l.leased()
	l.up(0)
	write(t, l.disk(0), 7)
	l.spec.Create = false
	cnTgts[0].stop() // nothing is written any more
	damaged := 0
	for _, conf := range l.pdConf {
		damaged += damageVolumeStore(t, conf)
	}
	if damaged == 0 {
		t.Fatal("no page of metadata was found")
	}
	cnTgts[0].start()
	planetest.Eventually(t, func() string {
		for _, s := range l.states(0) {
			if strings.Contains(s, "is on its disks and damaged; it is not made again") {
				return ""
			}
		}
		return "no state says that the store is damaged"
	})
	for _, conf := range l.pdConf {
		if damageVolumeStore(t, conf) != 0 {
			t.Error("the metadata was made again")
		}
	}
}

// damageVolumeStore wipes the lists of clusters of the volume store that is within a pd's own
// store, and returns how many there were.
func damageVolumeStore(t *testing.T, conf string) (n int) {
	t.Helper()
	var pd struct{ Filename string }
	if err := json.Unmarshal([]byte(conf), &pd); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(pd.Filename)
	if err != nil {
		t.Fatal(err)
	}
	for at := 1 << 20; at < len(b); at += 1 << 20 {
		if !bytes.HasPrefix(b[at:], []byte(format.Signature)) {
			continue
		}
		sb, err := format.DecodeSuperBlock(b[at:at+format.PageSize], 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		for i := range min(sb.Layout.MDLen, 16) { // within the first strip
			p := b[at+int(sb.Layout.MDOffset(i)):][:format.PageSize]
			if format.PageBlobID(p)&format.BlobIDHighBit != 0 && format.PageIntact(p) && !format.PageIsRoot(p, i) {
				clear(p)
				n++
			}
		}
	}
	if err := os.WriteFile(pd.Filename, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}
