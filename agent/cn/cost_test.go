package cn_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// To make an array, to give it another exporter and to delete both asks a data
// plane the same, and is answered as much, whatever else there is.
func TestAnArrayCostsTheSameWhateverElseThereIs(t *testing.T) {
	t.Parallel()
	for _, swaps := range []bool{true, false} {
		t.Run(fmt.Sprint("swaps=", swaps), func(t *testing.T) {
			t.Parallel()
			var few, many []map[string]planetest.Asked
			synctest.Test(t, func(t *testing.T) { few = costs(t, 10, swaps) })
			synctest.Test(t, func(t *testing.T) { many = costs(t, 200, swaps) })
			for step := range few {
				if !maps.Equal(few[step], many[step]) {
					t.Errorf("step %d: with 10 arrays %v\nwith 200 %v", step, few[step], many[step])
				}
				if len(few[step]) == 0 {
					t.Errorf("step %d asks nothing", step)
				}
			}
		})
	}
}

// crowd is a node of each kind with many arrays on them.
type crowd struct {
	*lab
	dp, cp *planetest.Plane
}

// newCrowd makes n arrays of one vd and one exporter, numbered from 1.
func newCrowd(t *testing.T, n int, swaps bool) *crowd {
	c := planetest.NewCluster()
	w := &crowd{lab: &lab{T: t, term: 1}, dp: c.Place("dn0", swaps), cp: c.Place("cn0", swaps)}
	config := func(name, port string, p *planetest.Plane) planetest.NodeConfig {
		p.Boot()
		connect := func() (agent.Client, error) { return p.Direct(), nil }
		return planetest.NodeConfig{Socket: name, Connect: connect, Port: port, OpenRaw: c.OpenRaw, Disks: c.Machine(), Reach: p.Reach,
			CheckInterval: time.Hour}
	}
	w.addDN(0, config("dn0", "4420", w.dp))
	w.addCN(0, config("cn0", "4430", w.cp))
	w.array()
	// The first sync of each node is a full one.
	w.syncVDs(&apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{w.pd()}})
	w.syncArrays(false)
	var vds []*apiv1.VdSpec
	for i := 1; i <= n; i++ {
		vds = append(vds, w.vd(i))
	}
	w.syncVDs(&apiv1.SyncDnRequest{Vds: vds})
	w.syncArrays(false, w.arrays(n)...)
	return w
}

func (w *crowd) settle(states []*apiv1.ObjectState, err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range states {
		if s.Error {
			w.Fatal(s)
		}
	}
}

func (w *crowd) syncVDs(req *apiv1.SyncDnRequest) {
	w.Helper()
	d := w.dns[0]
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	req.ClusterId, req.NodeId, req.BaseVersion, req.Version = cluster, d.id, d.version, d.version+1
	d.version++
	r, err := d.a.Sync(ctx, req)
	w.settle(r.GetStates(), err)
}

// syncArrays tells the cn of changes, or all there is.
func (w *crowd) syncArrays(all bool, specs ...*apiv1.CntlrSpec) {
	w.Helper()
	n := w.cns[0]
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	req := &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, BaseVersion: n.version, Version: n.version + 1, Cntlrs: specs}
	if all {
		req.BaseVersion = 0
	}
	n.version++
	r, err := n.a.Sync(ctx, req)
	w.settle(r.GetStates(), err)
}

func (w *crowd) pd() *apiv1.PdSpec {
	return &apiv1.PdSpec{Id: id("a0", 0), Name: "pd0", ConfJson: `{"type":"malloc","size":1099511627776}`, Format: true, Version: 1}
}

func (w *crowd) vd(i int) *apiv1.VdSpec {
	return &apiv1.VdSpec{Id: id("b0", i), PdId: id("a0", 0), Size: 12 << 20, Nqn: "nqn.2016-06.io.spdk:vda-vd-" + id("b0", i),
		Term: 1, HostNqn: w.hostNQN(), DaId: id("da", i), Uuid: id("b0", i), Version: 1}
}

func (w *crowd) exp(i, k int) *apiv1.ExpSpec {
	return &apiv1.ExpSpec{Id: id("ee", 2*i+k), EsId: id("e5", 2*i+k), Name: "exp",
		Nqn: fmt.Sprintf("nqn.2016-06.io.spdk:vda-exp-%06d-%d", i, k), InitiatorNqn: host0, Serial: fmt.Sprintf("%020d",
			2*i+k), NsUuid: id("f0", 2*i+k)}
}

func (w *crowd) arrayOf(i int) *apiv1.CntlrSpec {
	v := &apiv1.VdTarget{VdId: id("b0", i), Listener: at(w.dns[0].port), Nqn: "nqn.2016-06.io.spdk:vda-vd-" + id("b0", i), Uuid: id("b0", i)}
	return &apiv1.CntlrSpec{Id: id("cc", i), DaId: id("da", i), DaName: "da", Size: 8 << 20, ClusterSize: 1 << 20,
		Create: true, Primary: true, HostNqn: w.hostNQN(), Term: 1, Version: 1, MinCntlid: 1, MaxCntlid: 1000,
		Grps: []*apiv1.GrpSpec{{Id: id("e0", i), StripeSizeKb: 64, Vds: []*apiv1.VdTarget{v}}}, Exps: []*apiv1.ExpSpec{w.exp(i, 0)}}
}

func (w *crowd) arrays(n int) (all []*apiv1.CntlrSpec) {
	for i := 1; i <= n; i++ {
		all = append(all, w.arrayOf(i))
	}
	return all
}

// costs returns what each step asks of the dn's and the cn's data plane when
// there are n other arrays.
func costs(t *testing.T, n int, swaps bool) (steps []map[string]planetest.Asked) {
	w := newCrowd(t, n, swaps)
	cost := func(f func()) {
		t.Helper()
		w.dp.Asked()
		w.cp.Asked()
		f()
		sum := map[string]planetest.Asked{}
		for i, m := range []map[string]planetest.Asked{w.dp.Asked(), w.cp.Asked()} {
			for method, a := range m {
				// The watches of the two agents ask this all the time.
				watch := []string{"bdev_nvme_get_controllers *", "bdev_nvme_get_io_paths *", "bdev_get_iostat *"}
				if !slices.Contains(watch, method) {
					sum[[]string{"dn ", "cn "}[i]+method] = a
				}
			}
		}
		steps = append(steps, sum)
	}
	mine, both := w.arrayOf(n+1), w.arrayOf(n+1)
	both.Exps = append(both.Exps, w.exp(n+1, 1))
	cost(func() {
		w.syncVDs(&apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{w.pd()}, Vds: []*apiv1.VdSpec{w.vd(n + 1)}}) // the pd for what is free on it
		w.syncArrays(false, mine)
	})
	cost(func() { w.syncArrays(false, both) })
	cost(func() {
		gone, v := proto.CloneOf(both), w.vd(n+1)
		gone.Deleted, v.Deleted = true, true
		for _, e := range gone.Exps {
			e.Deleted = true
		}
		w.syncArrays(false, gone)
		w.syncVDs(&apiv1.SyncDnRequest{Vds: []*apiv1.VdSpec{v}})
	})
	return steps
}

// When a data plane has started again, to bring an array up costs as much whatever else
// there is to bring up: passes that begin together share lists, and those that follow, as
// a monitor sends everything once more meanwhile, go by name.
func TestToComeBackCostsTheSamePerArray(t *testing.T) {
	t.Parallel()
	for _, swaps := range []bool{true, false} {
		t.Run(fmt.Sprint("swaps=", swaps), func(t *testing.T) {
			t.Parallel()
			planetest.CostsTheSame(t, 20, 100, func(t *testing.T, n int) (calls, bytes float64) { return comeBack(t, n, swaps) })
		})
	}
}

// comeBack returns how many calls, and bytes of lists, it takes per array until n arrays
// are up again after the cn's data plane has started again.
func comeBack(t *testing.T, n int, swaps bool) (calls, bytes float64) {
	w := newCrowd(t, n, swaps)
	attached := w.cp.ComeBack(t, "bdev_nvme_attach_controller", time.Microsecond, 0)
	w.syncArrays(true, w.arrays(n)...)
	for method, a := range w.cp.Asked() {
		// What the watches ask all the time, whatever there is to do.
		if slices.Contains([]string{"bdev_nvme_get_controllers *", "bdev_nvme_get_io_paths *", "bdev_lvol_get_lvstores *"}, method) {
			continue
		}
		calls += float64(a.Calls) / float64(n)
		if strings.HasSuffix(method, " *") || method == "bdev_raid_get_bdevs" {
			bytes += float64(a.Bytes) / float64(n)
		}
	}
	if attached.Load() < int32(n) {
		t.Errorf("%d vds were attached, want %d", attached.Load(), n)
	}
	return calls, bytes
}
