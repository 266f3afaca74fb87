package dn_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// When a data plane has started again, to export a vd costs as much whatever else there
// is to export.
func TestToComeBackCostsTheSamePerVD(t *testing.T) {
	t.Parallel()
	for _, vdaTgt := range []bool{true, false} {
		t.Run(fmt.Sprint("vda_tgt=", vdaTgt), func(t *testing.T) {
			t.Parallel()
			planetest.CostsTheSame(t, 10, 50, func(t *testing.T, n int) (calls, bytes float64) { return comeBack(t, n, vdaTgt) })
		})
	}
}

// comeBack returns how many calls, and bytes of lists, it takes per vd until n vds are
// exported again after the data plane has started again.
func comeBack(t *testing.T, n int, vdaTgt bool) (calls, bytes float64) {
	t.Cleanup(func() { time.Sleep(time.Minute) }) // calls end that a closed agent has left under way
	l := &lab{T: t, c: planetest.NewCluster(), dir: t.TempDir()}
	l.plane = l.c.Place("dn0", vdaTgt)
	l.plane.Boot()
	a, err := dn.Start(context.Background(), planetest.Node(t, planetest.NodeConfig{Kind: "dn", Socket: "none", Port: "4420",
		StateDir: l.dir, OpenRaw: l.c.OpenRaw, Disks: l.c.Machine(), CheckInterval: time.Hour,
		Connect: func() (agent.Client, error) { return l.plane.Direct(), nil }}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	t.Cleanup(l.stop)
	l.c.Blank("/dev/null")
	var vds []*apiv1.VdSpec
	for i := range n {
		v := vd(1)
		v.Id = fmt.Sprintf("b%031x", i)
		v.Uuid, v.Nqn, v.Size = v.Id, "nqn.2016-06.io.spdk:vda-vd-"+v.Id, 1<<20
		vds = append(vds, v)
	}
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vds...))
	made := l.plane.ComeBack(t, "nvmf_create_subsystem", time.Millisecond, 1) // the first is the owner's mark
	l.good(full(2, []*apiv1.PdSpec{aioPD()}, vds...))
	for method, a := range l.plane.Asked() {
		calls += float64(a.Calls) / float64(n)
		if strings.HasSuffix(method, " *") {
			bytes += float64(a.Bytes) / float64(n)
		}
	}
	if made.Load() < int32(n) {
		t.Errorf("%d subsystems were made, want %d", made.Load(), n)
	}
	return calls, bytes
}
