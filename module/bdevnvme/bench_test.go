package bdevnvme

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host/perf"
)

// BenchmarkTwoHops measures host, target, bdev, host, target and memory in one
// process, and what a request allocates on the whole way.
func BenchmarkTwoHops(b *testing.B) {
	r := newRig(b, 1)
	r.attach(0, nil)
	_, c := chain(r)
	for _, w := range []perf.Workload{perf.RandRead, perf.RandWrite} {
		for _, qd := range []int{1, 32, 128} {
			b.Run(w.String()+"/"+strconv.Itoa(qd), func(b *testing.B) {
				var iops, ios float64
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					res, err := perf.Run(b.Context(), c.Namespace(1), perf.Config{Workload: w, QueueDepth: qd, Duration: 500 * time.Millisecond})
					if err != nil {
						b.Fatal(err)
					}
					iops += res.IOPS
					ios += float64(res.IOs)
				}
				runtime.ReadMemStats(&after)
				b.ReportMetric(iops/float64(b.N), "iops")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/ios, "allocs/io")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
