package perf

import (
	"math/bits"
	"time"
)

// histogram counts latencies in buckets that are an eighth of their power of
// two wide, so that a quantile is right within 12.5 %. Not safe for
// concurrent use.
type histogram struct {
	counts [64 * 8]uint32
	n      uint64
	sum    uint64 // ns
	max    int64  // ns
}

func bucket(ns int64) int {
	v := uint64(max(ns, 0))
	if v < 8 {
		return int(v)
	}
	e := bits.Len64(v) - 4
	return e*8 + int(v>>e)
}

// ceiling is the largest value of a bucket.
func ceiling(i int) int64 {
	if i < 16 {
		return int64(i)
	}
	e := i/8 - 1
	return int64(uint64(i%8+8+1)<<e) - 1
}

func (h *histogram) add(ns int64) {
	h.counts[bucket(ns)]++
	h.n++
	h.sum += uint64(max(ns, 0))
	h.max = max(h.max, ns)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

func (h *histogram) mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum / h.n)
}

// quantile returns the latency that a share of q of all stays within.
func (h *histogram) quantile(q float64) time.Duration {
	want := uint64(q*float64(h.n)) + 1
	for i, c := range h.counts {
		if uint64(c) >= want {
			return time.Duration(min(ceiling(i), h.max))
		}
		want -= uint64(c)
	}
	return time.Duration(h.max)
}
