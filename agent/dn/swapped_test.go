package dn_test

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
)

// swapped is a machine on which the disk at a path is changed for another
// after the agent has looked at it.
type swapped struct{ disk.Machine }

type looked struct {
	disk.Device
	path string
}

func (d looked) Path() string { return d.path }

func (m swapped) Open(path string) (disk.Device, error) {
	d, err := m.Machine.Open("/dev/blank")
	return looked{d, path}, err
}

// The last look at a disk is at the one that the data plane has.
func TestADiskThatIsSwappedAfterTheLookIsNotFormatted(t *testing.T) {
	t.Parallel()
	l := &lab{T: t, c: planetest.NewCluster(), dir: t.TempDir()}
	l.plane = planetest.NewPlane(t, l.c, false)
	l.c.Disk("/dev/null").Magic = "XFSB"
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_create_lvstore" {
			t.Error("formatted")
		}
		return nil
	})
	a, err := dn.Start(t.Context(), planetest.Node(l, planetest.NodeConfig{Kind: "dn", Socket: l.plane.Socket, Port: "4420", StateDir: l.dir,
		OpenRaw: l.c.OpenRaw, Disks: swapped{l.c.Machine()}}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	t.Cleanup(l.stop)
	msg := l.errorOf(l.sync(full(1, []*apiv1.PdSpec{aioPD()})), pdID)
	if !strings.Contains(msg, "XFS") || !strings.Contains(msg, "is not formatted") {
		t.Errorf("%q", msg)
	}
	for _, o := range l.plane.Objects() {
		if strings.Contains(o, "vda-pd-") {
			t.Errorf("the data plane still has %s", o)
		}
	}
}
