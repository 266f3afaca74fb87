package dn_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

const (
	copyID   = "a0000000000000000000000000000002"
	copyFile = "/dev/zero"
)

// base returns the bdev that the vd's namespace comes from in the end, "" when
// it is not exported.
func (l *lab) base() string {
	l.Helper()
	ctx, api := context.Background(), l.plane.Client()
	subs, err1 := api.NvmfGetSubsystems(ctx)
	stores, err2 := api.BdevLvolGetLvstores(ctx)
	if err1 != nil || err2 != nil {
		l.Fatal(err1, err2)
	}
	for _, s := range subs {
		if s.NQN == vdNQN && len(s.Namespaces) > 0 && len(stores) == 1 {
			return stores[0].BaseBdev
		}
	}
	return ""
}

// TestACopyIsNeverServed: a copy of a pd's disk has been given to the node as
// another pd, which is refused. Whichever of the two the data plane gets first
// after a restart, the vd comes from its own pd's disk, and the copy is named
// as one.
func TestACopyIsNeverServed(t *testing.T) {
	t.Parallel()
	for _, first := range []string{pdID, copyID} {
		t.Run(map[string]string{pdID: "the disk first", copyID: "the copy first"}[first], func(t *testing.T) {
			l := newLab(t)
			l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
			l.c.Copy("/dev/null", copyFile)
			other := proto.CloneOf(aioPD())
			other.Id, other.Name, other.Version = copyID, "pd1", 2
			other.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q}`, copyFile)
			delta := full(2, []*apiv1.PdSpec{other})
			delta.BaseVersion = 1
			named := func(msg string) string {
				for _, w := range []string{"copy", "pd pd0"} {
					if !strings.Contains(msg, w) {
						return fmt.Sprintf("the copy's state does not say %q: %q", w, msg)
					}
				}
				return ""
			}
			if msg := named(l.errorOf(l.sync(delta), copyID)); msg != "" {
				t.Error(msg)
			}
			for range 3 {
				l.plane.Stop()
				var both atomic.Bool
				l.plane.SetHook(func(method string, p map[string]any) error {
					name, _ := p["name"].(string)
					if method == "bdev_aio_create" && name != "vda-pd-"+first && !both.Load() {
						return planetest.Refuse(syscall.EBUSY)
					}
					return nil
				})
				l.plane.Start()
				planetest.Eventually(t, func() string {
					switch l.bad(first) {
					case "":
						if first == copyID {
							return "the copy is not refused"
						}
						if l.base() == "" {
							return "the vd is not exported"
						}
					}
					return ""
				})
				if base := l.base(); base != "" && base != "vda-pd-"+pdID {
					t.Fatalf("the vd is served from %s", base)
				}
				both.Store(true)
				planetest.Eventually(t, func() string {
					if base := l.base(); base != "vda-pd-"+pdID {
						return "the vd is served from " + base
					}
					if msg := l.bad(pdID) + l.bad(vdID); msg != "" {
						return msg
					}
					return named(l.bad(copyID))
				})
			}
		})
	}
}

// TestADiskPutBackFromACopyIsNotServed: what is at the pd's path carries its
// stamp and is not the disk that was accepted. It is refused and left alone,
// also when the pd is deleted, until an operator says that it is to count.
func TestADiskPutBackFromACopyIsNotServed(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"bring the disk back", "take it", "delete the pd"} {
		t.Run(then, func(t *testing.T) {
			l := newLab(t)
			l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
			swap := func(by int) {
				l.plane.Stop()
				l.c.Swap("/dev/null", by)
				l.plane.Start()
			}
			note := filepath.Join(l.dir, "notes", "disk-"+pdID)
			swap(1)
			planetest.Eventually(t, func() string {
				msg := l.bad(pdID)
				for _, w := range []string{"copy", "serial", "/dev/null.0", "/dev/null.1", note} {
					if !strings.Contains(msg, w) {
						return fmt.Sprintf("the pd's state does not say %q: %q", w, msg)
					}
				}
				if base := l.base(); base != "" {
					return "the vd is served from " + base
				}
				return ""
			})
			served := func() string {
				if l.base() == "" || l.bad(pdID) != "" {
					return "the vd is not served: " + l.bad(pdID)
				}
				return ""
			}
			switch then {
			case "bring the disk back":
				swap(-1)
				planetest.Eventually(t, served)
			case "take it":
				if err := os.Remove(note); err != nil {
					t.Fatal(err)
				}
				planetest.Eventually(t, served)
				swap(-1) // the old one is the copy now
				planetest.Eventually(t, func() string {
					if !strings.Contains(l.bad(pdID), "copy") {
						return "the old disk is not refused"
					}
					return ""
				})
			default:
				p, v := proto.CloneOf(aioPD()), proto.CloneOf(vd(1))
				p.Deleted, v.Deleted = true, true
				p.ConfJson = `{"type":"aio","filename":"/dev/null","lost":true}`
				delta := full(2, []*apiv1.PdSpec{p}, v)
				delta.BaseVersion = 1
				l.sync(delta)
				planetest.Eventually(t, func() string { return l.bad(pdID) })
				if l.c.Lvols(l.c.Disk("/dev/null")) == nil {
					t.Error("the copy was wiped")
				}
			}
		})
	}
}

// A vd that somebody exports from a copy already is taken back.
func TestAnExportedCopyIsTakenBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.c.Copy("/dev/null", copyFile)
	l.stop()
	l.plane.Stop()
	l.plane.Start()
	ctx, api := context.Background(), l.plane.Client()
	for _, call := range []struct {
		method string
		params map[string]any
	}{
		{"bdev_aio_create", map[string]any{"name": "mine", "filename": copyFile, "block_size": 4096}},
		{"bdev_examine", map[string]any{"name": "mine"}},
		{"nvmf_create_transport", map[string]any{"trtype": "TCP"}},
		{"nvmf_create_subsystem", map[string]any{"nqn": vdNQN}},
		{"nvmf_subsystem_add_ns", map[string]any{"nqn": vdNQN, "namespace": map[string]any{"nsid": 1,
			"bdev_name": fmt.Sprintf("vda-%s-%s/vda-vd-%s", cluster[:16], pdID, vdID)}}},
	} {
		if err := api.Call(ctx, call.method, call.params, nil); err != nil {
			t.Fatal(call.method, err)
		}
	}
	if l.base() != "mine" {
		t.Fatal("the test does not export the copy")
	}
	l.start()
	planetest.Eventually(t, func() string {
		if base := l.base(); base != "" {
			return "the vd is served from " + base
		}
		for _, id := range []string{pdID, vdID} {
			if msg := l.bad(id); !strings.Contains(msg, "copy") || !strings.Contains(msg, "mine") {
				return id + " says " + msg
			}
		}
		return ""
	})
}

// An lvstore that the data plane has given up, because another program wrote
// to it, is said so by the pd and its vds, and by what to do.
func TestAnLvstoreThatWasGivenUp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.c.Take("/dev/null", "another program has written to the blobstore")
	l.says([]string{pdID, vdID}, "given up", "another program", "/dev/null", "restart")
	l.c.Take("/dev/null", "")
	planetest.Eventually(t, func() string { return l.bad(pdID) + l.bad(vdID) })
}
