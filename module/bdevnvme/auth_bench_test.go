package bdevnvme

import (
	"context"
	"testing"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
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
