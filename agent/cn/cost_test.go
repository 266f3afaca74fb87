package cn_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
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

// costs returns what each step asks of the dn's and the cn's data plane when
// there are n other arrays.
func costs(t *testing.T, n int, swaps bool) (steps []map[string]planetest.Asked) {
	c := planetest.NewCluster()
	l := &lab{T: t, term: 1}
	dp, cp := c.Place("dn0", swaps), c.Place("cn0", swaps)
	config := func(name, port string, p *planetest.Plane) planetest.NodeConfig {
		p.Boot()
		connect := func() (agent.Client, error) { return p.Direct(), nil }
		return planetest.NodeConfig{Socket: name, Connect: connect, Port: port, OpenRaw: c.OpenRaw, Disks: c.Machine(), Reach: p.Reach,
			CheckInterval: time.Hour}
	}
	l.addDN(0, config("dn0", "4420", dp))
	l.addCN(0, config("cn0", "4430", cp))
	l.array()
	d, cn := l.dns[0], l.cns[0]
	settle := func(states []*apiv1.ObjectState, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			if s.Error {
				t.Fatal(s)
			}
		}
	}
	syncDN := func(req *apiv1.SyncDnRequest) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		req.ClusterId, req.NodeId, req.BaseVersion, req.Version = cluster, d.id, d.version, d.version+1
		d.version++
		r, err := d.a.Sync(ctx, req)
		settle(r.GetStates(), err)
	}
	syncCN := func(specs ...*apiv1.CntlrSpec) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		req := &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: cn.id, BaseVersion: cn.version, Version: cn.version + 1, Cntlrs: specs}
		cn.version++
		r, err := cn.a.Sync(ctx, req)
		settle(r.GetStates(), err)
	}
	vd := func(i int) *apiv1.VdSpec {
		return &apiv1.VdSpec{Id: id("b0", i), PdId: id("a0", 0), Size: 12 << 20, Nqn: "nqn.2016-06.io.spdk:vda-vd-" + id("b0", i),
			Term: 1, HostNqn: l.hostNQN(), DaId: id("da", i), Uuid: id("b0", i), Version: 1}
	}
	exp := func(i, k int) *apiv1.ExpSpec {
		return &apiv1.ExpSpec{Id: id("ee", 2*i+k), EsId: id("e5", 2*i+k), Name: "exp",
			Nqn: fmt.Sprintf("nqn.2016-06.io.spdk:vda-exp-%06d-%d", i, k), InitiatorNqn: host0, Serial: fmt.Sprintf("%020d",
				2*i+k), NsUuid: id("f0", 2*i+k)}
	}
	array := func(i int) *apiv1.CntlrSpec {
		v := &apiv1.VdTarget{VdId: id("b0", i), Listener: at(d.port), Nqn: "nqn.2016-06.io.spdk:vda-vd-" + id("b0", i), Uuid: id("b0", i)}
		return &apiv1.CntlrSpec{Id: id("cc", i), DaId: id("da", i), DaName: "da", Size: 8 << 20, ClusterSize: 1 << 20,
			Create: true, Primary: true, HostNqn: l.hostNQN(), Term: 1, Version: 1, MinCntlid: 1, MaxCntlid: 1000,
			Grps: []*apiv1.GrpSpec{{Id: id("e0", i), StripeSizeKb: 64, Vds: []*apiv1.VdTarget{v}}}, Exps: []*apiv1.ExpSpec{exp(i, 0)}}
	}
	// The first sync of each node is a full one.
	pd := &apiv1.PdSpec{Id: id("a0", 0), Name: "pd0", ConfJson: `{"type":"malloc","size":1099511627776}`, Format: true, Version: 1}
	syncDN(&apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{pd}})
	syncCN()
	var vds []*apiv1.VdSpec
	var arrays []*apiv1.CntlrSpec
	for i := 1; i <= n; i++ {
		vds, arrays = append(vds, vd(i)), append(arrays, array(i))
	}
	syncDN(&apiv1.SyncDnRequest{Vds: vds})
	syncCN(arrays...)

	cost := func(f func()) {
		t.Helper()
		dp.Asked()
		cp.Asked()
		f()
		sum := map[string]planetest.Asked{}
		for i, m := range []map[string]planetest.Asked{dp.Asked(), cp.Asked()} {
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
	mine, both := array(n+1), array(n+1)
	both.Exps = append(both.Exps, exp(n+1, 1))
	cost(func() {
		syncDN(&apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{pd}, Vds: []*apiv1.VdSpec{vd(n + 1)}}) // the pd for what is free on it
		syncCN(mine)
	})
	cost(func() { syncCN(both) })
	cost(func() {
		gone, v := proto.CloneOf(both), vd(n+1)
		gone.Deleted, v.Deleted = true, true
		for _, e := range gone.Exps {
			e.Deleted = true
		}
		syncCN(gone)
		syncDN(&apiv1.SyncDnRequest{Vds: []*apiv1.VdSpec{v}})
	})
	return steps
}
