package bdevnvme

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/nvmf/host/perf"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

// BenchmarkConnect is a host that connects, with one I/O queue, and leaves:
// without authentication, and two-way with groups.
func BenchmarkConnect(b *testing.B) {
	for _, c := range []struct {
		name string
		auth bool
		g    dhchap.Group
	}{{"open", false, 0}, {"null", true, dhchap.Null}, {"ffdhe2048", true, dhchap.FFDHE2048}, {"ffdhe3072", true, dhchap.FFDHE3072},
		{"ffdhe8192", true, dhchap.FFDHE8192}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, 1)
			const name = "nqn.2016-06.io.spdk:bench"
			cfg := host.Config{Traddr: r.addrs[0].Traddr, Trsvcid: r.addrs[0].Trsvcid, SubNQN: nqn, HostNQN: name, Queues: 1, Log: quiet}
			if c.auth {
				cfg.Keys = dhchap.Keys{Host: dhchap.NewSecret(dhchap.SHA256), Controller: dhchap.NewSecret(dhchap.SHA256)}
				cfg.AuthOffer = dhchap.Offer{Hashes: []dhchap.Hash{dhchap.SHA256}, Groups: []dhchap.Group{c.g}}
				r.ok(r.sub.AddHost(name, nvmftgt.HostKeys{Keys: cfg.Keys}))
			}
			for b.Loop() {
				ctl, err := host.Connect(context.Background(), cfg)
				r.ok(err)
				ctl.Close()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connects/s")
		})
	}
}

// BenchmarkAuthenticatedIO is I/O of a host that had to prove itself, and of one that had
// not, by turns, so that both meet the same machine. The medians of the turns count.
func BenchmarkAuthenticatedIO(b *testing.B) {
	const name = "nqn.2016-06.io.spdk:bench"
	dial := func(auth bool) *host.Controller {
		r := newRig(b, 1)
		cfg := host.Config{Traddr: r.addrs[0].Traddr, Trsvcid: r.addrs[0].Trsvcid, SubNQN: nqn, HostNQN: name, Queues: 1, Log: quiet}
		if auth {
			cfg.Keys = dhchap.Keys{Host: dhchap.NewSecret(dhchap.SHA256), Controller: dhchap.NewSecret(dhchap.SHA256)}
			r.ok(r.sub.AddHost(name, nvmftgt.HostKeys{Keys: cfg.Keys}))
		}
		c, err := host.Connect(context.Background(), cfg)
		r.ok(err)
		b.Cleanup(c.Close)
		return c
	}
	hosts := []*host.Controller{dial(false), dial(true)}
	for _, w := range []perf.Workload{perf.RandRead, perf.RandWrite} {
		for _, qd := range []int{1, 32} {
			b.Run(w.String()+"/"+strconv.Itoa(qd), func(b *testing.B) {
				var iops [2][]float64
				for first := 0; b.Loop(); first ^= 1 {
					for _, i := range []int{first, first ^ 1} {
						r, err := perf.Run(b.Context(), hosts[i].Namespace(1), perf.Config{Workload: w, QueueDepth: qd, Duration: 200 * time.Millisecond})
						if err != nil {
							b.Fatal(err)
						}
						iops[i] = append(iops[i], r.IOPS)
					}
				}
				for i, unit := range []string{"open-iops", "proven-iops"} {
					slices.Sort(iops[i])
					b.ReportMetric(iops[i][len(iops[i])/2], unit)
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
