package rpc

import (
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/pki"
)

// BenchmarkSecured is what calls cost: in the clear, and by mutual TLS with a look at
// who it is; on one connection, and with a connection of their own.
func BenchmarkSecured(b *testing.B) {
	for _, secured := range []bool{false, true} {
		ca := authorityOf(b, "c1")
		r, own := agentRig(b, ca)
		go func() { // what is called is nothing to this one
			for {
				select {
				case <-r.entered:
				case <-b.Context().Done():
					return
				}
			}
		}()
		cfg, name := DialConfig{}, "clear"
		if secured {
			enrol(b, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: r.addr}, time.Now(), time.Hour)
			cfg.Identity, cfg.Server = member(b, ca, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}, time.Now(), time.Hour), as(r.addr)
			name = "mTLS"
		}
		b.Run("call/"+name, func(b *testing.B) {
			conn := r.dial(cfg)
			for b.Loop() {
				if err := do(b.Context(), conn, "Echo"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
		b.Run("connect/"+name, func(b *testing.B) {
			for b.Loop() {
				conn, err := Dial(r.addr, cfg)
				if err != nil {
					b.Fatal(err)
				}
				if err := do(b.Context(), conn, "Echo"); err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connects/s")
		})
	}
}
