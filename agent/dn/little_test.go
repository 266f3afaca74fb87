package dn

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/disk"
)

// A file that has all of its space needs none; one that lacks some is in error
// when its file system has next to none left.
func TestTooLittle(t *testing.T) {
	const gib = 1 << 30
	for _, x := range []struct {
		size, allocated, left int64
		bad                   bool
	}{
		{gib, gib, 0, false},
		{gib, gib + 4096, 0, false},
		{gib, 0, gib, false},
		{gib, 0, little, false},
		{gib, 0, little - 1, true},
		{gib, gib - 4096, 4096, false},
		{gib, gib - 4096, 0, true},
	} {
		err := tooLittle("/disk", disk.Room{Size: x.size, Allocated: x.allocated, Left: x.left})
		if (err != nil) != x.bad {
			t.Errorf("%+v: %v", x, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "no space") || !strings.Contains(err.Error(), "/disk")) {
			t.Errorf("%v", err)
		}
	}
}
