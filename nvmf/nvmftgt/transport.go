package nvmftgt

import (
	"fmt"
	"math/bits"
	"syscall"
)

// TransportOpts are the limits of a transport's connections, in SPDK's names
// (nvmf_create_transport). Zero means the default.
type TransportOpts struct {
	Trtype string // "TCP"

	MaxQueueDepth       uint16 // entries of an I/O queue; default 128. A connection holds about 700 bytes for each that was ever in use.
	MaxAQDepth          uint32 // entries of the admin queue, at least 32; default 128
	MaxIOQpairsPerCtrlr uint16 // I/O queues of a controller; default 127
	InCapsuleDataSize   uint32 // bytes of data a command capsule may carry, a multiple of 16; default 8192
	MaxIOSize           uint32 // bytes of the largest transfer of a command (MDTS), a power of two from 8 KiB to 4 MiB; default 128 KiB
	IOUnitSize          uint32 // reported only; default 128 KiB

	C2HSuccess   *bool // answer a read by its last data PDU's SUCCESS flag; default true
	SockPriority uint32
	NumSharedBuf uint32 // reported only; default 511

	NoHeaderDigest bool // refuse header digests
	NoDataDigest   bool // refuse data digests

	AbortTimeoutSec uint32 // reported only; default 1
	ZCopy           bool   // reported only: mapped devices are always sent from without a copy
	KAS             uint16 // keep-alive granularity in units of 100 ms; default 10
	MinKATO         uint32 // smallest keep-alive time-out granted, milliseconds; 0: any
	AckTimeout      uint32 // milliseconds that a peer may leave sent data unacknowledged (TCP_USER_TIMEOUT); 0: the system's
}

const (
	maxTransfer = 4 << 20
	minTransfer = 8 << 10
)

// validate fills zero fields and checks the rest.
func (o *TransportOpts) validate() error {
	if o.Trtype == "" || equalFold(o.Trtype, "tcp") {
		o.Trtype = "TCP"
	}
	def16 := func(p *uint16, v uint16) {
		if *p == 0 {
			*p = v
		}
	}
	def32 := func(p *uint32, v uint32) {
		if *p == 0 {
			*p = v
		}
	}
	def16(&o.MaxQueueDepth, 128)
	def32(&o.MaxAQDepth, 128)
	def16(&o.MaxIOQpairsPerCtrlr, 127)
	def32(&o.InCapsuleDataSize, 8192)
	def32(&o.MaxIOSize, 128<<10)
	def32(&o.IOUnitSize, 128<<10)
	def32(&o.NumSharedBuf, 511)
	def32(&o.AbortTimeoutSec, 1)
	def16(&o.KAS, 10)
	if o.C2HSuccess == nil {
		yes := true
		o.C2HSuccess = &yes
	}
	bad := func(field string, v any, want string) error {
		return fmt.Errorf("%s %v: must be %s: %w", field, v, want, syscall.EINVAL)
	}
	switch {
	case o.Trtype != "TCP":
		return bad("trtype", o.Trtype, "TCP")
	case o.MaxQueueDepth < 2 || o.MaxQueueDepth > 4096:
		return bad("max_queue_depth", o.MaxQueueDepth, "from 2 to 4096")
	case o.MaxAQDepth < 32 || o.MaxAQDepth > 4096:
		return bad("max_aq_depth", o.MaxAQDepth, "from 32 to 4096")
	case o.MaxIOQpairsPerCtrlr > 1024:
		return bad("max_io_qpairs_per_ctrlr", o.MaxIOQpairsPerCtrlr, "from 1 to 1024")
	case o.InCapsuleDataSize < 1024 || o.InCapsuleDataSize > 64<<10 || o.InCapsuleDataSize%16 != 0:
		return bad("in_capsule_data_size", o.InCapsuleDataSize, "a multiple of 16 from 1024 to 65536")
	case o.MaxIOSize < minTransfer || o.MaxIOSize > maxTransfer || o.MaxIOSize&(o.MaxIOSize-1) != 0:
		return bad("max_io_size", o.MaxIOSize, "a power of two from 8192 to 4194304")
	}
	return nil
}

// CreateTransport sets the limits of the connections that are made from now
// on. EEXIST when it was called before.
func (t *Target) CreateTransport(o TransportOpts) error {
	if err := o.validate(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.transport != nil {
		return fmt.Errorf("transport type %q: %w", o.Trtype, syscall.EEXIST)
	}
	for _, s := range t.subs {
		if err := s.cfg.fits(&o); err != nil {
			return err
		}
	}
	t.transport = &o
	return nil
}

// anaLogBytes is the length of the longest ANA log of n namespaces, each in a
// group of its own.
func anaLogBytes(n uint32) uint32 { return 16 + n*(32+4) }

// fits reports whether hosts can read the subsystem's ANA log in one transfer:
// Linux, if it cannot, uses the subsystem without ANA, and then hands I/O errors
// to file systems where it should have waited.
func (c *SubsystemConfig) fits(o *TransportOpts) error {
	n := c.MaxNamespaces
	if !c.ANAReporting || anaLogBytes(n) <= o.MaxIOSize {
		return nil
	}
	return fmt.Errorf("ana_reporting of subsystem %s with max_namespaces %d: the ANA log of up to %d bytes does not fit max_io_size %d, so "+
		"that Linux would switch ANA off; "+
		"max_namespaces may be %d, or max_io_size %d: "+
		"%w", c.NQN, n, anaLogBytes(n), o.MaxIOSize, (o.MaxIOSize-16)/36, uint32(1)<<bits.Len32(anaLogBytes(n)-1), syscall.EINVAL)
}

// Transports returns the transports with their defaults filled in.
func (t *Target) Transports() []TransportOpts {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.transport == nil {
		return nil
	}
	return []TransportOpts{*t.transport}
}
