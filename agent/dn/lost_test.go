package dn_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

func TestRestartedDataPlaneGetsItsObjectsBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	var formats atomic.Int32
	l.plane.Stop()
	hb, err := l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil || hb.DataPlaneOk || hb.DataPlaneMsg == "" {
		t.Errorf("heartbeat without data plane: %v, %v", hb, err)
	}
	was := hb.DataPlaneStartId
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_create_lvstore" || method == "bdev_lvol_create" {
			formats.Add(1)
		}
		return nil
	})
	l.plane.Start()
	planetest.Eventually(t, func() string {
		if len(l.hosts()) == 0 {
			return "the vd does not come back"
		}
		return ""
	})
	if formats.Load() > 0 {
		t.Error("something was made again")
	}
	hb, err = l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil || !hb.DataPlaneOk || hb.DataPlaneStartId == was {
		t.Errorf("heartbeat: %v, %v; start id was %s", hb, err, was)
	}
}

func TestRestartOfBothRestoresWithoutBeingTold(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(4)))
	l.stop()
	l.plane.Stop()
	l.plane.Start()
	l.start()
	planetest.Eventually(t, func() string {
		if got := l.hosts(); !slices.Equal(got, []string{hostNQN(4)}) {
			return fmt.Sprintf("admitted %v", got)
		}
		return ""
	})
}

func TestMallocDataIsLostAndSaidSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{mallocPD()}, vd(1)))
	l.plane.Stop()
	l.plane.Start()
	planetest.Eventually(t, func() string {
		if msg := l.bad(vdID); !strings.Contains(msg, "data is lost") {
			return "the vd's state: " + msg
		}
		return ""
	})
	if len(l.hosts()) != 0 {
		t.Error("the vd is exported")
	}
	if msg := l.bad(pdID); msg != "" {
		t.Errorf("pd: %s", msg)
	}
}

func TestForeignDisksAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(l *lab)
		format  bool
		says    []string
	}{
		"another cluster's": {func(l *lab) {
			other := newLabOn(l.T, l.c)
			req := full(1, []*apiv1.PdSpec{aioPD()})
			req.ClusterId = "f0e1d2c3b4a5968700000000000000ff"
			other.good(req)
			other.stop()
			other.plane.Stop()
		}, true, []string{"f0e1d2c3b4a59687", cluster[:16], pdID}},
		"a file system": {func(l *lab) {
			l.c.Disk("/dev/null").Magic = "XFSB"
		}, true, []string{"XFS", "/dev/null"}},
		"blank, but formatted before": {func(*lab) {}, false, []string{"formatted before"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.prepare(l)
			p := aioPD()
			p.Format = c.format
			l.plane.SetHook(func(method string, _ map[string]any) error {
				if method == "bdev_lvol_create_lvstore" || method == "bdev_lvol_delete_lvstore" {
					t.Errorf("%s", method)
				}
				return nil
			})
			msg := l.errorOf(l.sync(full(1, []*apiv1.PdSpec{p})), pdID)
			for _, w := range c.says {
				if !strings.Contains(msg, w) {
					t.Errorf("%q does not say %q", msg, w)
				}
			}
		})
	}
}

// newLabOn is a second agent with a data plane of its own on the same disks.
// The caller stops both.
func newLabOn(t *testing.T, c *planetest.Cluster) *lab {
	l := &lab{T: t, c: c, dir: t.TempDir()}
	l.plane = planetest.NewPlane(t, c, false)
	a, err := dn.Start(context.Background(), planetest.Node(t, planetest.NodeConfig{
		Kind: "dn", Socket: l.plane.Socket, Port: "4421", StateDir: l.dir, OpenRaw: c.OpenRaw, Disks: c.Machine(),
	}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	return l
}

func TestFailedExamineDoesNotFormat(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.plane.Stop()
	l.plane.SetHook(func(method string, _ map[string]any) error {
		switch method {
		case "bdev_examine":
			return planetest.Refuse(syscall.EIO)
		case "bdev_lvol_create_lvstore":
			t.Error("formatted")
		}
		return nil
	})
	l.plane.Start()
	planetest.Eventually(t, func() string {
		if msg := l.bad(pdID); !strings.Contains(msg, "formatted before") {
			return "the pd's state: " + msg
		}
		return ""
	})
	l.says([]string{vdID}, "pd is not ready")
	if len(l.c.Lvols(l.c.Disk("/dev/null"))) != 1 {
		t.Error("the vd is gone from the medium")
	}
}

func TestLostSubsystemIsRepaired(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if err := l.plane.Client().NvmfDeleteSubsystem(context.Background(), vdNQN); err != nil {
		t.Fatal(err)
	}
	planetest.Eventually(t, func() string {
		if len(l.hosts()) == 0 {
			return "the subsystem does not come back"
		}
		return ""
	})
}

func TestASlowObjectHoldsUpNothing(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.good(full(1, []*apiv1.PdSpec{aioPD()}))
		release := make(chan struct{})
		defer close(release)
		l.plane.SetHook(func(method string, _ map[string]any) error {
			if method == "bdev_lvol_create" {
				<-release
			}
			return nil
		})
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			delta := full(2, nil, vd(1))
			delta.BaseVersion = 1
			_, _ = l.a.Sync(ctx, delta)
		}()
		time.Sleep(50 * time.Millisecond) // of fake time: it waits
		begin := time.Now()
		l.bad(vdID)
		p2 := proto.CloneOf(aioPD())
		p2.Id, p2.ConfJson = "a0000000000000000000000000000002", `{"type":"aio","filename":"/dev/zero"}`
		delta := full(3, []*apiv1.PdSpec{p2})
		delta.BaseVersion = 2
		l.good(delta)
		if d := time.Since(begin); d > 100*time.Millisecond {
			l.Errorf("took %v", d)
		}
	})
}

func TestForeignObjectsAreNotTouched(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	api := l.plane.Client()
	for _, err := range []error{
		api.Call(context.Background(), "bdev_malloc_create", map[string]any{"name": "Malloc0", "num_blocks": 1024, "block_size": 4096}, nil),
		api.Call(context.Background(), "nvmf_create_subsystem", map[string]any{"nqn": "nqn.2016-06.io.spdk:cnode1"}, nil),
		api.Call(context.Background(), "nvmf_create_subsystem", map[string]any{"nqn": "nqn.2016-06.io.spdk:vda-exp-da0-exp0"}, nil),
		api.Call(context.Background(), "nvmf_create_subsystem", map[string]any{"nqn": "nqn.2016-06.io.spdk:vda-vd-stray"}, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.good(full(1, []*apiv1.PdSpec{aioPD()}))
	planetest.Eventually(t, func() string {
		if slices.Contains(l.plane.Objects(), "subsystem nqn.2016-06.io.spdk:vda-vd-stray") {
			return "the stray subsystem is still there"
		}
		return ""
	})
	for _, want := range []string{"bdev Malloc0", "subsystem nqn.2016-06.io.spdk:cnode1", "subsystem nqn.2016-06.io.spdk:vda-exp-da0-exp0"} {
		if !slices.Contains(l.plane.Objects(), want) {
			t.Errorf("%s is gone", want)
		}
	}
}

func TestHungDataPlaneIsSaidInTime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	release := make(chan struct{})
	l.plane.SetHook(func(string, map[string]any) error {
		<-release
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	hb, err := l.a.Heartbeat(ctx, &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil || hb.DataPlaneOk || !strings.Contains(hb.DataPlaneMsg, "does not answer") {
		t.Errorf("%v, %v", hb, err)
	}
	close(release)
	l.plane.SetHook(nil)
	planetest.Eventually(t, func() string {
		hb, err := l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
		if err != nil || !hb.DataPlaneOk || len(hb.States) > 0 || hb.Version != 1 {
			return fmt.Sprintf("%v, %v", hb, err)
		}
		return ""
	})
}
