package spdk

import (
	"context"
	"encoding/json"

	jsonv2 "github.com/go-json-experiment/json"
)

// Bdev is one element of bdev_get_bdevs.
type Bdev struct {
	Name               string          `json:"name"`
	Aliases            []string        `json:"aliases"`
	ProductName        string          `json:"product_name"`
	BlockSize          uint32          `json:"block_size"` // bytes
	NumBlocks          uint64          `json:"num_blocks"`
	UUID               string          `json:"uuid"`
	AssignedRateLimits RateLimits      `json:"assigned_rate_limits"`
	Claimed            bool            `json:"claimed"`
	ClaimType          string          `json:"claim_type,omitempty"` // such as "exclusive_write"
	DriverSpecific     json.RawMessage `json:"driver_specific"`
}

// Bytes returns the capacity.
func (b *Bdev) Bytes() uint64 { return b.NumBlocks * uint64(b.BlockSize) }

// RateLimits are QoS limits; 0 is unlimited. Megabytes are 1048576 bytes. SPDK
// rounds RWIOsPerSec up to a multiple of 1000.
type RateLimits struct {
	RWIOsPerSec    uint64 `json:"rw_ios_per_sec"`
	RWMbytesPerSec uint64 `json:"rw_mbytes_per_sec"`
	RMbytesPerSec  uint64 `json:"r_mbytes_per_sec"`
	WMbytesPerSec  uint64 `json:"w_mbytes_per_sec"`
}

// BdevSetQoSLimit sets all limits of a bdev, while it is in use.
func (a API) BdevSetQoSLimit(ctx context.Context, bdev string, l RateLimits) error {
	return a.do(ctx, "bdev_set_qos_limit", struct {
		name
		RateLimits
	}{name{bdev}, l})
}

// BdevLvol is driver_specific.lvol of an lvol.
type BdevLvol struct {
	LvolStoreUUID        string   `json:"lvol_store_uuid"`
	BaseBdev             string   `json:"base_bdev"`
	ThinProvision        bool     `json:"thin_provision"`
	NumAllocatedClusters uint64   `json:"num_allocated_clusters"`
	Snapshot             bool     `json:"snapshot"`
	Clone                bool     `json:"clone"`
	BaseSnapshot         string   `json:"base_snapshot,omitempty"`
	Clones               []string `json:"clones,omitempty"`
	EsnapClone           bool     `json:"esnap_clone"`
	ExternalSnapshotName string   `json:"external_snapshot_name,omitempty"`
}

// Lvol returns the lvol part of DriverSpecific, nil for other modules.
func (b *Bdev) Lvol() *BdevLvol {
	var d struct {
		Lvol *BdevLvol `json:"lvol"`
	}
	if jsonv2.Unmarshal(b.DriverSpecific, &d, lenient) != nil {
		return nil
	}
	return d.Lvol
}

// BdevSetOptions are the parameters of bdev_set_options, a start-up method.
type BdevSetOptions struct {
	IOPoolSize          *uint32 `json:"bdev_io_pool_size,omitempty"`
	IOCacheSize         *uint32 `json:"bdev_io_cache_size,omitempty"`
	AutoExamine         *bool   `json:"bdev_auto_examine,omitempty"`
	IobufSmallCacheSize *uint32 `json:"iobuf_small_cache_size,omitempty"`
	IobufLargeCacheSize *uint32 `json:"iobuf_large_cache_size,omitempty"`
}

// BdevSetOptions sets the block layer's options before it starts.
func (a API) BdevSetOptions(ctx context.Context, p BdevSetOptions) error {
	return a.do(ctx, "bdev_set_options", p)
}

// BdevGetBdevs lists all bdevs.
func (a API) BdevGetBdevs(ctx context.Context) ([]Bdev, error) {
	return ask[[]Bdev](ctx, a, "bdev_get_bdevs", nil)
}

// BdevGet returns the bdev of a name, alias or UUID; IsNoSuchDevice when
// there is none. timeoutMillis above 0 has the data plane wait for the bdev
// to appear.
func (a API) BdevGet(ctx context.Context, bdev string, timeoutMillis uint64) (*Bdev, error) {
	r, answer := askBdev(bdev, timeoutMillis)
	return answer(a.Call(ctx, r.Method, r.Params, r.Result))
}

// askBdev is a question for a bdev; answer makes of the call's error what BdevGet returns.
func askBdev(bdev string, timeoutMillis uint64) (r Request, answer func(error) (*Bdev, error)) {
	l := new([]Bdev)
	params := struct {
		Name    string `json:"name"`
		Timeout uint64 `json:"timeout,omitempty"`
	}{bdev, timeoutMillis}
	return Request{"bdev_get_bdevs", params, l}, func(err error) (*Bdev, error) {
		if err == nil && len(*l) != 1 {
			err = &RPCError{Code: -19, Message: "no such bdev in the reply: " + bdev, Method: "bdev_get_bdevs"}
		}
		if err != nil {
			return nil, err
		}
		return &(*l)[0], nil
	}
}

// BdevExamine has every module look at the bdev for something it knows, such
// as an lvstore. It is needed only when auto examine is off. It returns when
// the examination has been started; see BdevWaitForExamine.
func (a API) BdevExamine(ctx context.Context, bdev string) error {
	return a.do(ctx, "bdev_examine", name{bdev})
}

// BdevWaitForExamine returns when no examination is under way.
func (a API) BdevWaitForExamine(ctx context.Context) error {
	return a.do(ctx, "bdev_wait_for_examine", nil)
}

// IOStat is one bdev's counters since it was registered. Latencies are sums
// over all operations, in ticks.
type IOStat struct {
	Name              string `json:"name"`
	BytesRead         uint64 `json:"bytes_read"`
	NumReadOps        uint64 `json:"num_read_ops"`
	BytesWritten      uint64 `json:"bytes_written"`
	NumWriteOps       uint64 `json:"num_write_ops"`
	BytesUnmapped     uint64 `json:"bytes_unmapped"`
	NumUnmapOps       uint64 `json:"num_unmap_ops"`
	ReadLatencyTicks  uint64 `json:"read_latency_ticks"`
	WriteLatencyTicks uint64 `json:"write_latency_ticks"`
	UnmapLatencyTicks uint64 `json:"unmap_latency_ticks"`

	// IOError counts requests that failed, by why. vda_tgt has failed (all),
	// medium and no_space; SPDK failed, aio_error, nvme_error, nomem, aborted
	// and others, those that happened.
	IOError map[string]uint64 `json:"io_error"`

	// QueueDepth is how many requests were under way, in vda_tgt now, in SPDK at the
	// last sample, which it takes every QueuePeriod microseconds; 0: it takes none.
	// Ended is how many requests of any kind have ended, of vda_tgt alone and while
	// some are under way.
	QueueDepth  uint64 `json:"queue_depth"`
	QueuePeriod uint64 `json:"queue_depth_polling_period"`
	Ended       uint64 `json:"vda_ended_ops"`
}

// Progress is a number that changes whenever a request ends. SPDK counts no flushes
// and no write zeroes.
func (s *IOStat) Progress() uint64 {
	if s.Ended > 0 {
		return s.Ended
	}
	n := s.NumReadOps + s.NumWriteOps + s.NumUnmapOps
	for _, failed := range s.IOError {
		n += failed
	}
	return n
}

// Counts is s with times in nanoseconds, of so many ticks a second. Latencies of single
// requests are not in it.
func (s *IOStat) Counts(tickRate uint64) IOCounts {
	nanos := func(ticks uint64) uint64 { return uint64(float64(ticks) / float64(max(tickRate, 1)) * 1e9) }
	c := IOCounts{Reads: s.NumReadOps, Writes: s.NumWriteOps, ReadBytes: s.BytesRead, WrittenBytes: s.BytesWritten,
		ReadNanos: nanos(s.ReadLatencyTicks), WriteNanos: nanos(s.WriteLatencyTicks)}
	if all, ok := s.IOError["failed"]; ok {
		c.Errors = all // the others are parts of it
		return c
	}
	for _, n := range s.IOError {
		c.Errors += n
	}
	return c
}

// IOStats is the result of bdev_get_iostat.
type IOStats struct {
	TickRate uint64   `json:"tick_rate"` // ticks per second
	Ticks    uint64   `json:"ticks"`     // now
	Bdevs    []IOStat `json:"bdevs"`
}

// BdevSetQDSamplingPeriod has SPDK look every so many microseconds at how many
// requests of a bdev are under way.
func (a API) BdevSetQDSamplingPeriod(ctx context.Context, bdev string, micros uint64) error {
	return a.do(ctx, "bdev_set_qd_sampling_period", struct {
		Name   string `json:"name"`
		Period uint64 `json:"period"`
	}{bdev, micros})
}

// BdevGetIOStat returns the counters of the named bdevs, of all when none is
// named.
func (a API) BdevGetIOStat(ctx context.Context, names ...string) (*IOStats, error) {
	return ask[*IOStats](ctx, a, "bdev_get_iostat", struct {
		Names []string `json:"names,omitempty"`
	}{names})
}
