package bdev

import "math/bits"

// Latencies are counts of reads or writes by how long they took: element i of those that
// took at most LatencyBound(i) and longer than the bound before, the last one of all
// that took longer. Near ones are counted in steps of timedEvery or fewer, see OpStat.
type Latencies [latencies]uint64

const (
	// latencies is how many counts there are: bounds of 32 µs, doubled up to 1.05 s,
	// and one for what takes longer. A bound is all that a quantile can tell, and each
	// is a series of Prometheus per device.
	latencies    = 17
	firstLatency = 5 // log2 of the first bound in µs
)

// LatencyBound is the longest latency that element i of Latencies counts, in nanoseconds;
// the last element has none, and gets 0.
func LatencyBound(i int) uint64 {
	if i == latencies-1 {
		return 0
	}
	return 1000 << (firstLatency + i)
}

// latencyOf is which element counts a latency.
func latencyOf(nanos uint64) int {
	if nanos == 0 {
		return 0
	}
	return min(max(bits.Len64((nanos-1)/1000)-firstLatency, 0), latencies-1)
}
