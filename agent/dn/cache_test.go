package dn_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
)

const (
	sdbConf = `{"type":"aio","filename":"/dev/sdb"`
	pciConf = `{"type":"nvme","traddr":"0000:5e:00.0"`
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
		refused          string // the error says so, too
	}{
		{name: "SPDK, volatile", volatile: true, conf: sdbConf, refused: "hdparm -W 0"},
		{name: "SPDK, accepted", volatile: true, conf: sdbConf + `,"volatile_cache":"accepted"`},
		{name: "SPDK, written through", conf: sdbConf},
		{name: "vda_tgt, volatile", vdaTgt: true, volatile: true, conf: sdbConf},
		{name: "SPDK, PCIe, volatile", volatile: true, conf: pciConf, refused: "nvme set-feature -f 6 -V 0 --save"},
		{name: "SPDK, PCIe, accepted", volatile: true, conf: pciConf + `,"volatile_cache":"accepted"`},
		{name: "SPDK, PCIe, switched off", conf: pciConf},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLabOf(t, tc.vdaTgt)
			at := "/dev/sdb"
			if strings.HasPrefix(tc.conf, pciConf) {
				at = "0000:5e:00.0"
			}
			*l.c.Disk(at) = planetest.Medium{Zero: true, Volatile: tc.volatile}
			pd := &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: tc.conf + "}", Format: true, Version: 1}
			s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]
			if s.Error != (tc.refused != "") {
				t.Fatalf("%v", s)
			}
			for _, part := range []string{at + " is not formatted", "volatile write cache", "SPDK", tc.refused, `"volatile_cache":"accepted"`} {
				if tc.refused != "" && !strings.Contains(s.ErrorMsg, part) {
					t.Errorf("%q lacks %q", s.ErrorMsg, part)
				}
			}
			if tc.refused != "" {
				// With the cache turned off it comes up by itself.
				l.c.Volatile(at, false)
				l.a.Loop.KickAll()
			}
			planetest.Eventually(t, func() string {
				if s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]; s.Error {
					return s.ErrorMsg
				}
				return ""
			})
			// It is used from now on, whatever its cache is.
			l.c.Volatile(at, true)
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

// TestWriteCacheIsTold: a dn says of each pd what a power cut does to writes that were acknowledged, as its data plane
// and its disk are, and says so again when that has changed.
func TestWriteCacheIsTold(t *testing.T) {
	t.Parallel()
	const accepted = `,"volatile_cache":"accepted"`
	for _, tc := range []struct {
		name   string
		vdaTgt bool
		conf   string
		disk   planetest.Medium
		want   string
	}{
		{"memory", true, `{"type":"malloc","size":67108864`, planetest.Medium{}, "memory"},
		{"memory on SPDK", false, `{"type":"malloc","size":67108864`, planetest.Medium{}, "memory"},
		{"a disk without a cache", true, sdbConf, planetest.Medium{Zero: true}, "none"},
		{"a disk without a cache on SPDK", false, sdbConf, planetest.Medium{Zero: true}, "none"},
		{"a disk with a cache", true, sdbConf, planetest.Medium{Zero: true, Volatile: true}, "flushed"},
		{"a disk with a cache on SPDK", false, sdbConf + accepted, planetest.Medium{Zero: true, Volatile: true}, "not flushed"},
		{"a file", true, sdbConf, planetest.Medium{Zero: true, File: true}, "flushed"},
		{"a file on SPDK", false, sdbConf, planetest.Medium{Zero: true, File: true}, "not flushed"},
		{"PCIe, no cache", false, pciConf, planetest.Medium{Zero: true, NoCache: true}, "none"},
		{"PCIe, off", false, pciConf, planetest.Medium{Zero: true}, "none"},
		{"PCIe, on", false, pciConf + accepted, planetest.Medium{Zero: true, Volatile: true}, "not flushed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLabOf(t, tc.vdaTgt)
			at := ""
			switch {
			case strings.HasPrefix(tc.conf, pciConf):
				at = "0000:5e:00.0"
			case strings.HasPrefix(tc.conf, sdbConf):
				at = "/dev/sdb"
			}
			*l.c.Disk(at) = tc.disk
			pd := &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: tc.conf + "}", Format: true, Version: 1}
			r := l.good(full(1, []*apiv1.PdSpec{pd}))
			if len(r.Capacities) != 1 || r.Capacities[0].WriteCache != tc.want {
				t.Fatalf("%v, want %q", r.Capacities, tc.want)
			}
			if at == "" || tc.disk.File || tc.disk.NoCache {
				return
			}
			on := !tc.disk.Volatile
			l.c.Volatile(at, on)
			want := "none"
			if on && tc.vdaTgt {
				want = "flushed"
			} else if on {
				want = "not flushed"
			}
			planetest.Eventually(t, func() string {
				l.a.Loop.KickAll()
				if r := l.good(full(1, []*apiv1.PdSpec{pd})); len(r.Capacities) != 1 || r.Capacities[0].WriteCache != want {
					return r.String()
				}
				return ""
			})
		})
	}
}

// TestSilentDeviceIsNotFormatted: an NVMe device that does not say what its write cache is counts as one that may lose
// writes, and is asked again.
func TestSilentDeviceIsNotFormatted(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, false)
	l.c.Disk("0000:5e:00.0").NoCache = true
	l.plane.Hide("bdev_nvme_send_cmd")
	pd := &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: pciConf + "}", Format: true, Version: 1}
	s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]
	if !s.Error || !strings.Contains(s.ErrorMsg, "cannot be told") || !strings.Contains(s.ErrorMsg, "0000:5e:00.0 is not formatted") {
		t.Fatalf("%v", s)
	}
	l.plane.Hide("")
	planetest.Eventually(t, func() string {
		l.a.Loop.KickAll()
		if s := l.sync(full(1, []*apiv1.PdSpec{pd})).States[0]; s.Error {
			return s.ErrorMsg
		}
		return ""
	})
}

// TestRealNVMeWriteCache: SPDK itself passes on what an NVMe controller says of its write cache. The controller is one
// of vda_tgt over TCP, at the place of a PCIe device.
func TestRealNVMeWriteCache(t *testing.T) {
	if os.Getenv("SPDK_TGT") == "" {
		t.Skip("SPDK_TGT names no spdk_tgt, which alone drives NVMe devices")
	}
	far, near := newRealLab(t, false), newRealLab(t, true)
	disk, v := aioPD(), vd(1)
	disk.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, far.file, 128<<20)
	v.Size = 64 << 20
	far.good(full(1, []*apiv1.PdSpec{disk}, v))

	pd := &apiv1.PdSpec{Id: pdID, Name: "pd0", ConfJson: pciConf + "}", Format: true, Version: 1}
	if s := near.sync(full(1, []*apiv1.PdSpec{pd})).States[0]; !s.Error {
		t.Fatalf("there is no such device: %v", s)
	}
	rpc, err := spdk.New(spdk.Config{Socket: near.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer rpc.Close()
	if _, err := rpc.BdevNvmeAttachController(t.Context(), spdk.NvmeAttach{Name: "vda-pd-" + pdID, TrType: "TCP", AdrFam: "IPv4",
		TrAddr: "127.0.0.1", TrSvcID: far.port, SubNQN: vdNQN, HostNQN: hostNQN(1)}); err != nil {
		t.Fatal(err)
	}
	set := func(on uint32) {
		t.Helper()
		var sqe nvme.Command
		sqe[0] = byte(nvme.AdminSetFeatures)
		sqe.SetCDW(10, uint32(nvme.FeatureWriteCache))
		sqe.SetCDW(11, on)
		if err := rpc.Call(t.Context(), "bdev_nvme_send_cmd", map[string]any{"name": "vda-pd-" + pdID, "cmd_type": "admin",
			"data_direction": "h2c", "cmdbuf": base64.URLEncoding.EncodeToString(sqe[:])}, nil); err != nil {
			t.Fatal(err)
		}
	}
	says := func(part string) {
		t.Helper()
		planetest.Eventually(t, func() string {
			near.a.Loop.KickAll()
			if s := near.sync(full(1, []*apiv1.PdSpec{pd})).States[0]; !strings.Contains(s.ErrorMsg, part) || part == "" && s.Error {
				return s.String()
			}
			return ""
		})
	}
	told := func(want string) {
		t.Helper()
		planetest.Eventually(t, func() string {
			near.a.Loop.KickAll()
			if r := near.good(full(1, []*apiv1.PdSpec{pd})); len(r.Capacities) != 1 || r.Capacities[0].WriteCache != want {
				return r.String()
			}
			return ""
		})
	}
	says("0000:5e:00.0 is not formatted: it has a volatile write cache")
	set(0)
	says("")
	told("none")
	set(1)
	told("not flushed")
}
