package vda

// Limits bound the reads and writes of a disk array, of all its hosts together,
// whatever controllers they use, and what its mirrors copy; 0 is no limit. Other
// commands are not limited.
type Limits struct {
	RWIOs uint64 // reads and writes per second, a multiple of LimitIOStep
	RWMB  uint64 // MiB per second read or written
	RMB   uint64 // MiB per second read
	WMB   uint64 // MiB per second written
	// RebuildMB is how many MiB per second are copied between legs, repaired and
	// scrubbed, of all columns together.
	RebuildMB uint64
}

// RebuildShare is how many MiB per second each of an array's columns may copy; 0: no
// bound.
func (l Limits) RebuildShare(columns int) uint32 {
	if l.RebuildMB == 0 {
		return 0
	}
	return uint32(max(min(l.RebuildMB, maxLimitMB)/uint64(max(columns, 1)), 1))
}

// LimitIOStep is the step of limits of I/O per second. SPDK rounds up to it, and
// a limit that is not kept as it was given would be none.
const LimitIOStep = 1000

// The greatest limits, far beyond what a controller can do: they keep sums of
// bytes within 64 bits.
const (
	maxLimitIOs = 1_000_000_000
	maxLimitMB  = 1 << 20
)

// CheckLimits refuses limits that a data plane would not keep as they are. The
// fields of the error are those of CreateDaRequest.
func CheckLimits(l Limits) error {
	switch step := l.RWIOs / LimitIOStep * LimitIOStep; {
	case l.RWIOs > maxLimitIOs:
		return invalid("rw_ios_per_sec is %d; it must be a multiple of %d up to %d, or 0 for no limit", l.RWIOs, LimitIOStep, maxLimitIOs)
	case step == 0 && l.RWIOs != 0:
		return invalid("rw_ios_per_sec is %d; it must be a multiple of %d: %d is the lowest, and 0 is no limit",
			l.RWIOs, LimitIOStep, LimitIOStep)
	case step != l.RWIOs:
		return invalid("rw_ios_per_sec is %d; it must be a multiple of %d, such as %d or %d, or 0 for no limit", l.RWIOs, LimitIOStep,
			step, step+LimitIOStep)
	}
	for _, f := range []struct {
		field string
		value uint64
	}{{"rw_mbytes_per_sec", l.RWMB}, {"r_mbytes_per_sec", l.RMB}, {"w_mbytes_per_sec", l.WMB}, {"rebuild_mbps", l.RebuildMB}} {
		if f.value > maxLimitMB {
			return invalid("%s is %d; it must be a number of MiB per second, 1 to %d, or 0 for no limit", f.field, f.value, maxLimitMB)
		}
	}
	return nil
}
