package dn_test

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestVolatileCacheOnSPDK: a disk whose write cache a power cut loses is not formatted on a
// data plane that passes no flush on, unless its user says that he knows of it. One that has
// been formatted is used, and so is any on vda_tgt.
func TestVolatileCacheOnSPDK(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name             string
		vdaTgt, volatile bool
		conf             string
		refused          bool
	}{
		{name: "SPDK, volatile", volatile: true, refused: true},
		{name: "SPDK, accepted", volatile: true, conf: `,"volatile_cache":"accepted"`},
		{name: "SPDK, written through"},
		{name: "vda_tgt, volatile", vdaTgt: true, volatile: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLabOf(t, tc.vdaTgt)
			*l.c.Disk("/dev/sdb") = planetest.Medium{Zero: true, Volatile: tc.volatile}
			pd := &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: `{"type":"aio","filename":"/dev/sdb"` + tc.conf + `}`, Format: true, Version: 1}
			s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]
			if s.Error != tc.refused {
				t.Fatalf("%v", s)
			}
			for _, part := range []string{"/dev/sdb is not formatted", "volatile write cache", "SPDK", "hdparm -W 0", `"volatile_cache":"accepted"`} {
				if tc.refused && !strings.Contains(s.ErrorMsg, part) {
					t.Errorf("%q lacks %q", s.ErrorMsg, part)
				}
			}
			if tc.refused {
				// With the cache turned off it comes up by itself.
				l.c.Disk("/dev/sdb").Volatile = false
				l.a.Loop.KickAll()
			}
			planetest.Eventually(t, func() string {
				if s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]; s.Error {
					return s.ErrorMsg
				}
				return ""
			})
			// It is used from now on, whatever its cache is.
			l.c.Disk("/dev/sdb").Volatile = true
			l.stop()
			l.plane.Stop()
			l.plane.Start()
			l.start()
			planetest.Eventually(t, func() string {
				if s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]; s.Error {
					return s.ErrorMsg
				}
				return ""
			})
		})
	}
}
