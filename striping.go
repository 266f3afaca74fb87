package vda

import (
	"fmt"
	"math/bits"
)

// Limits of an array's striping.
const (
	MaxStripeCount  = 64
	minStripeSizeKB = 4
	maxStripeSizeKB = 1024
	// MaxCntlrCount is how many controllers an array may have: each has 1000 of
	// NVMe's 65519 controller ids.
	MaxCntlrCount = 64
)

const daForm = `{"stripe_count":N,"stripe_size_kb":K}`

// Striping is an array's conf: over how many vds each group is striped, and how
// much of a stripe lies on one.
type Striping struct {
	Count  uint32
	SizeKB uint32
}

// ParseDAConf reads an array's conf; "" and missing keys give one vd and 64 KiB.
func ParseDAConf(field, text string) (Striping, error) {
	st := Striping{Count: 1, SizeKB: 64}
	if text == "" {
		return st, nil
	}
	o, err := parseObject(field, daForm, text)
	if err != nil {
		return st, err
	}
	if err := o.only("stripe_count", "stripe_size_kb"); err != nil {
		return st, err
	}
	n, set, err := o.number("stripe_count")
	if err != nil {
		return st, err
	}
	if set {
		if n < 1 || n > MaxStripeCount {
			return st, invalid("%s: stripe_count is %d; it must be 1 to %d", field, n, MaxStripeCount)
		}
		st.Count = uint32(n)
	}
	kb, set, err := o.number("stripe_size_kb")
	if err != nil {
		return st, err
	}
	if set {
		if bits.OnesCount64(kb) != 1 || kb < minStripeSizeKB || kb > maxStripeSizeKB {
			return st, invalid("%s: stripe_size_kb is %d; it must be a power of two from %d to %d", field, kb, minStripeSizeKB, maxStripeSizeKB)
		}
		st.SizeKB = uint32(kb)
	}
	return st, nil
}

// JSON is the conf in full.
func (s Striping) JSON() string {
	return fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, s.Count, s.SizeKB)
}
