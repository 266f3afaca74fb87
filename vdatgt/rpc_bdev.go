package vdatgt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func bdevMethods() []*Method {
	return []*Method{
		method("bdev_set_options", "Sets options of the block layer before it starts.", setOptions, startup, optional, nvmfStyle),
		method("bdev_get_bdevs", "Lists all bdevs, or the one of a name, alias or UUID.", getBdevs, optional, slow),
		method("bdev_examine", "Has the modules look for something of theirs on a bdev, now or when it appears; needed when bdev_auto_examine "+
			"is off.", examineBdev),
		bare("bdev_wait_for_examine", "Returns when no bdev is being examined.", "bdev_wait_for_examine requires no parameters", waitForExamine,
			slow),
		method("bdev_set_qos_limit", "Limits the I/O of a bdev.", setQoSLimit),
		method("bdev_get_iostat", "Returns the I/O counters of all bdevs or of the named ones. While requests are under way, "+
			"queue_depth is how many and vda_ended_ops how many have ended so far. Latencies are in nanoseconds; those of bdevs "+
			"that complete at once (memory) are taken of one request in 61, which stands for all.", getIOStat, optional),
		method("bdev_reset_iostat", "Sets the I/O counters of one bdev or of all to zero.", resetIOStat, optional),
		method("bdev_enable_histogram", "Starts or ends the latency histogram of a bdev.", enableHistogram),
		method("bdev_get_histogram", "Returns the latency histogram of a bdev.", getHistogram),
	}
}

type setOptionsParams struct {
	AutoExamine *bool `rpc:"bdev_auto_examine,optional" doc:"examine every new bdev by itself; default true"`

	IOPoolSize          *uint32 `rpc:"bdev_io_pool_size,optional" doc:"SPDK's pool of I/O objects; nothing here is sized by it"`
	IOCacheSize         *uint32 `rpc:"bdev_io_cache_size,optional" doc:"likewise"`
	IobufSmallCacheSize *uint32 `rpc:"iobuf_small_cache_size,optional" doc:"likewise"`
	IobufLargeCacheSize *uint32 `rpc:"iobuf_large_cache_size,optional" doc:"likewise"`
}

func setOptions(_ context.Context, t *Target, p setOptionsParams) (any, error) {
	if p.AutoExamine != nil {
		t.examines.setAuto(*p.AutoExamine)
	}
	return true, nil
}

type getBdevsParams struct {
	Name    string `rpc:"name,optional" doc:"name, alias or UUID"`
	Timeout uint64 `rpc:"timeout,optional" doc:"milliseconds to wait for the named bdev to appear"`
}

// pollPeriod is how often bdev_get_bdevs with a timeout looks.
const pollPeriod = 10 * time.Millisecond

func getBdevs(ctx context.Context, t *Target, p getBdevsParams) (any, error) {
	if p.Name == "" {
		out := []bdevJSON{}
		for _, d := range t.reg.List() {
			if b, ok := t.describe(d.Info().Name); ok {
				out = append(out, b)
			}
		}
		return out, nil
	}
	end := time.Now().Add(time.Duration(min(p.Timeout, 3_600_000)) * time.Millisecond)
	for {
		if b, ok := t.describe(p.Name); ok {
			return []bdevJSON{b}, nil
		}
		if p.Timeout == 0 {
			return nil, syscall.ENODEV
		}
		if !time.Now().Before(end) {
			return nil, syscall.ETIMEDOUT
		}
		select {
		case <-time.After(pollPeriod):
		case <-ctx.Done():
			return nil, syscall.ECANCELED
		}
	}
}

type nameParams struct {
	Name string `rpc:"name" doc:"name"`
}

func examineBdev(_ context.Context, t *Target, p nameParams) (any, error) {
	t.examines.examine(p.Name)
	return true, nil
}

func waitForExamine(ctx context.Context, t *Target) (any, error) {
	if err := t.examines.wait(ctx); err != nil {
		return nil, err
	}
	return true, nil
}

type setQoSParams struct {
	Name  string  `rpc:"name" doc:"bdev"`
	RWIOs *uint64 `rpc:"rw_ios_per_sec,optional" doc:"reads and writes per second, rounded up to a multiple of 1000; 0 lifts the limit"`
	RWMB  *uint64 `rpc:"rw_mbytes_per_sec,optional" doc:"MiB per second read or written"`
	RMB   *uint64 `rpc:"r_mbytes_per_sec,optional" doc:"MiB per second read"`
	WMB   *uint64 `rpc:"w_mbytes_per_sec,optional" doc:"MiB per second written"`
}

func setQoSLimit(_ context.Context, t *Target, p setQoSParams) (any, error) {
	if _, ok := t.reg.Get(p.Name); !ok {
		return nil, syscall.ENODEV
	}
	if p.RWIOs == nil && p.RWMB == nil && p.RMB == nil && p.WMB == nil {
		return nil, &jsonrpc.Error{Code: -int(syscall.EINVAL), Message: "No rate limits specified"}
	}
	t.qosUpdate.Lock()
	defer t.qosUpdate.Unlock()
	l, err := t.reg.QoS(p.Name)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		dst   *uint64
		value *uint64
	}{{&l.RWIOs, p.RWIOs}, {&l.RWMB, p.RWMB}, {&l.RMB, p.RMB}, {&l.WMB, p.WMB}} {
		if f.value != nil {
			*f.dst = *f.value
		}
	}
	if err := t.reg.SetQoS(p.Name, l); err != nil {
		return nil, err
	}
	return true, nil
}

type getIOStatParams struct {
	Names      []string `rpc:"names,optional" doc:"bdevs; default all"`
	PerChannel bool     `rpc:"per_channel,optional" doc:"SPDK's per-thread counters; there are no channels here, so the list is empty"`
	ResetMode  string   `rpc:"reset_mode,optional" doc:"all, maxmin or none: what to set to zero after reading"`
}

type iostatJSON struct {
	Name string `json:"name"`
	bdev.IOStatJSON
}

func getIOStat(_ context.Context, t *Target, p getIOStatParams) (any, error) {
	reset, extremes, err := resetMode(p.ResetMode, "none")
	if err != nil {
		return nil, err
	}
	names := p.Names
	if len(names) == 0 {
		for _, d := range t.reg.List() {
			names = append(names, d.Info().Name)
		}
	}
	stats := make([]iostatJSON, 0, len(names))
	for _, name := range names {
		s, err := t.reg.IOStat(name)
		if err != nil {
			if len(p.Names) == 0 && errors.Is(err, syscall.ENODEV) {
				continue // it went after it was listed
			}
			return nil, syscall.ENODEV
		}
		stats = append(stats, iostatJSON{name, s.JSON()})
	}
	if reset {
		for _, s := range stats {
			if err := t.reg.ResetIOStat(s.Name, extremes); err != nil && !errors.Is(err, syscall.ENODEV) {
				return nil, err
			}
		}
	}
	type header struct {
		TickRate int64 `json:"tick_rate"`
		Ticks    int64 `json:"ticks"`
	}
	h := header{int64(time.Second), int64(time.Since(started))}
	if p.PerChannel {
		if len(p.Names) != 1 {
			return nil, jsonrpc.Errno(syscall.EINVAL, "per_channel takes exactly one name")
		}
		return struct {
			header
			Name     string     `json:"name"`
			Channels []struct{} `json:"channels"`
		}{h, p.Names[0], []struct{}{}}, nil
	}
	return struct {
		header
		Bdevs []iostatJSON `json:"bdevs"`
	}{h, stats}, nil
}

// resetMode reads SPDK's reset modes.
func resetMode(mode, byDefault string) (reset, extremes bool, err error) {
	if mode == "" {
		mode = byDefault
	}
	switch mode {
	case "all":
		return true, false, nil
	case "maxmin":
		return true, true, nil
	case "none", "error":
		return false, false, nil
	}
	return false, false, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed",
		Data: fmt.Sprintf("reset mode %q must be one of all, maxmin, error, none", mode)}
}

type resetIOStatParams struct {
	Name string `rpc:"name,optional" doc:"bdev; default all"`
	Mode string `rpc:"mode,optional" doc:"all (default), maxmin, error or none"`
}

func resetIOStat(_ context.Context, t *Target, p resetIOStatParams) (any, error) {
	reset, extremes, err := resetMode(p.Mode, "all")
	if err != nil {
		return nil, err
	}
	names := []string{p.Name}
	if p.Name == "" {
		names = t.reg.Names()
	}
	for _, name := range names {
		if _, ok := t.reg.Get(name); !ok && p.Name != "" {
			return nil, syscall.ENODEV
		}
		if !reset {
			continue
		}
		if err := t.reg.ResetIOStat(name, extremes); err != nil && p.Name != "" {
			return nil, err
		}
	}
	return true, nil
}

type enableHistogramParams struct {
	Name   string `rpc:"name" doc:"bdev"`
	Enable bool   `rpc:"enable" doc:"true starts a new one, false ends it"`
	Opc    string `rpc:"opc,optional" doc:"only this operation: read, write, flush, unmap, write_zeroes or compare; default all"`
}

func enableHistogram(_ context.Context, t *Target, p enableHistogramParams) (any, error) {
	var only bdev.Op
	if p.Opc != "" {
		for op := bdev.OpRead; op <= bdev.OpReset; op++ {
			if op.String() == p.Opc {
				only = op
			}
		}
		if only == 0 {
			return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("opc %q is not an operation", p.Opc))
		}
	}
	if err := t.reg.EnableHistogram(p.Name, p.Enable, only); err != nil {
		return nil, err
	}
	return true, nil
}

func getHistogram(_ context.Context, t *Target, p nameParams) (any, error) {
	h, err := t.reg.Histogram(p.Name)
	if errors.Is(err, syscall.EFAULT) {
		return nil, jsonrpc.Errno(syscall.ENOMEM, "the histogram is not enabled") // SPDK's code for it
	}
	if err != nil {
		return nil, err
	}
	return h.JSON(), nil
}
