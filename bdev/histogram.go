package bdev

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Histogram counts latencies in SPDK's buckets (spdk/histogram_data.h): range
// 0 holds the 128 values 0 to 127, range k > 0 the values from 2^(k+6) to
// 2^(k+7)-1 in 128 buckets of 2^(k-1) values each. Values are nanoseconds.
type Histogram struct {
	only Op // 0: all operations
	// bucket is range*128 + index in the range.
	bucket [histRanges << histGranularity]atomic.Uint64
}

const (
	histGranularity = 7
	histRanges      = 64 - histGranularity + 1
)

func histBucket(v uint64) int {
	r := max(0, bits.Len64(v)-histGranularity)
	shift := max(0, r-1)
	return r<<histGranularity | int(v>>shift)&(1<<histGranularity-1)
}

func (h *Histogram) tally(op Op, nanos uint64) {
	if h.only == 0 || h.only == op {
		h.bucket[histBucket(nanos)].Add(1)
	}
}

// Quantile returns the latency in nanoseconds that a part q (0 to 1) of the
// requests stayed at or below, 0 when there were none.
func (h *Histogram) Quantile(q float64) uint64 {
	var total uint64
	for i := range h.bucket {
		total += h.bucket[i].Load()
	}
	want, seen := uint64(q*float64(total)), uint64(0)
	for i := range h.bucket {
		n := h.bucket[i].Load()
		if seen += n; n > 0 && seen >= want {
			return histUpper(i)
		}
	}
	return 0
}

// histUpper is the largest value that bucket i counts.
func histUpper(i int) uint64 {
	r, index := i>>histGranularity, uint64(i&(1<<histGranularity-1))
	if r == 0 {
		return index
	}
	shift := r - 1
	return (index+1<<histGranularity+1)<<shift - 1
}

// HistogramJSON is the result of bdev_get_histogram: the buckets as
// little-endian 64-bit numbers in base64.
type HistogramJSON struct {
	Histogram   string `json:"histogram"`
	Granularity int    `json:"granularity"`
	MinRange    uint32 `json:"min_range"`
	MaxRange    uint32 `json:"max_range"`
	TscRate     int64  `json:"tsc_rate"`
}

// JSON encodes the buckets.
func (h *Histogram) JSON() HistogramJSON {
	raw := make([]byte, 0, 8*len(h.bucket))
	for i := range h.bucket {
		raw = binary.LittleEndian.AppendUint64(raw, h.bucket[i].Load())
	}
	return HistogramJSON{Histogram: base64.StdEncoding.EncodeToString(raw), Granularity: histGranularity,
		MaxRange: histRanges - 1, TscRate: TickRate}
}

// EnableHistogram starts a new histogram of a device's latencies, of one
// operation or of all with only 0, or with on false ends it. ENODEV if
// unknown.
func (reg *Registry) EnableHistogram(name string, on bool, only Op) error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	if on {
		e.hist.Store(&Histogram{only: only})
	} else {
		e.hist.Store(nil)
	}
	return nil
}

// Histogram returns the running histogram of a device. ENODEV if unknown,
// EFAULT (as SPDK says) if it is not enabled.
func (reg *Registry) Histogram(name string) (*Histogram, error) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return nil, fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	t := e.hist.Load()
	if t == nil {
		return nil, fmt.Errorf("bdev %q: histogram is not enabled: %w", name, ErrNoHistogram)
	}
	return t, nil
}
