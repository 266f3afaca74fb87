package vdatgt

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/module/delay"
	"github.com/virtual-disk-array/vda/module/errorinj"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func faultMethods() []*Method {
	return []*Method{
		method("bdev_delay_create", "Makes a bdev that is slower than the one below, for tests.", delayCreate, slow),
		method("bdev_delay_delete", "Removes a delay bdev.", deleter[*delay.Device], slow),
		method("bdev_delay_update_latency", "Changes a latency of a delay bdev.", delayUpdate),
		method("bdev_error_create", "Makes EE_<base>, a bdev that fails on demand, for tests.", errorCreate, slow),
		method("bdev_error_delete", "Removes an error bdev.", errorDelete, slow),
		method("bdev_error_inject_error", "Has the next requests to an error bdev fail.", errorInject),
	}
}

type delayParams struct {
	Name     string     `rpc:"name" doc:"name of the new bdev"`
	Base     string     `rpc:"base_bdev_name" doc:"bdev below"`
	AvgRead  uint64     `rpc:"avg_read_latency" doc:"microseconds added to a read"`
	P99Read  uint64     `rpc:"p99_read_latency" doc:"microseconds added to one read in a hundred"`
	AvgWrite uint64     `rpc:"avg_write_latency" doc:"microseconds added to a write"`
	P99Write uint64     `rpc:"p99_write_latency" doc:"microseconds added to one write in a hundred"`
	UUID     *uuid.UUID `rpc:"uuid,optional" doc:"default: a random one"`
}

// micros converts a latency; an hour stands for anything longer.
func micros(n uint64) time.Duration {
	return time.Duration(min(n, uint64(time.Hour/time.Microsecond))) * time.Microsecond
}

func delayCreate(ctx context.Context, t *Target, p delayParams) (any, error) {
	d, err := delay.Create(t.reg, delay.Config{Name: p.Name, UUID: orNil(p.UUID), Base: p.Base,
		AvgRead: micros(p.AvgRead), P99Read: micros(p.P99Read), AvgWrite: micros(p.AvgWrite), P99Write: micros(p.P99Write)})
	if err != nil {
		return nil, err
	}
	if err := t.examines.waitAppeared(ctx); err != nil {
		return nil, err
	}
	return d.Info().Name, nil
}

type delayUpdateParams struct {
	Name    string `rpc:"delay_bdev_name" doc:"delay bdev"`
	Kind    string `rpc:"latency_type" doc:"avg_read, p99_read, avg_write or p99_write"`
	Latency uint64 `rpc:"latency_us" doc:"microseconds"`
}

func delayUpdate(_ context.Context, t *Target, p delayUpdateParams) (any, error) {
	d, err := deviceOf[*delay.Device](t, p.Name)
	if err != nil {
		return nil, err
	}
	if err := d.SetLatency(p.Kind, micros(p.Latency)); err != nil {
		return nil, err
	}
	return true, nil
}

type errorParams struct {
	Base string     `rpc:"base_name" doc:"bdev below"`
	UUID *uuid.UUID `rpc:"uuid,optional" doc:"default: a random one"`
}

func errorCreate(ctx context.Context, t *Target, p errorParams) (any, error) {
	if _, err := errorinj.Create(t.reg, p.Base, orNil(p.UUID)); err != nil {
		return nil, err
	}
	return true, t.examines.waitAppeared(ctx)
}

func errorDelete(ctx context.Context, t *Target, p nameParams) (any, error) {
	d, err := deviceOf[*errorinj.Device](t, p.Name)
	if err != nil {
		return nil, err
	}
	d.Retire() // requests that hang would hold it up for ever
	return deleter[*errorinj.Device](ctx, t, p)
}

type injectParams struct {
	Name          string `rpc:"name" doc:"error bdev"`
	IOType        string `rpc:"io_type" doc:"read, write, unmap, flush, all, or clear to end all injections"`
	ErrorType     string `rpc:"error_type" doc:"failure, pending, corrupt_data, nomem or nvme_failure"`
	SCT           uint32 `rpc:"nvme_sct,optional" doc:"status code type of nvme_failure"`
	SC            uint32 `rpc:"nvme_sc,optional" doc:"status code of nvme_failure"`
	Num           uint32 `rpc:"num,optional" doc:"how many requests; default 1"`
	QueueDepth    uint64 `rpc:"queue_depth,optional" doc:"only while at least so many requests are below"`
	CorruptOffset uint64 `rpc:"corrupt_offset,optional" doc:"byte that corrupt_data changes"`
	CorruptValue  uint8  `rpc:"corrupt_value,optional" doc:"what it is xor-ed with"`
}

func errorInject(_ context.Context, t *Target, p injectParams) (any, error) {
	d, err := deviceOf[*errorinj.Device](t, p.Name)
	if err != nil {
		return nil, err
	}
	if p.SCT > 7 || p.SC > 255 {
		return nil, jsonrpc.Errno(syscall.EINVAL, fmt.Sprintf("nvme_sct %d must be at most 7 and nvme_sc %d at most 255", p.SCT, p.SC))
	}
	err = d.Inject(errorinj.Injection{IOType: p.IOType, Fault: errorinj.Fault(p.ErrorType), Num: p.Num, QueueDepth: p.QueueDepth,
		Status: nvme.Status(p.SCT<<8 | p.SC), CorruptOffset: p.CorruptOffset, CorruptValue: p.CorruptValue})
	if errors.Is(err, syscall.EINVAL) {
		return nil, jsonrpc.Errno(syscall.EINVAL, err.Error())
	}
	if err != nil {
		return nil, err
	}
	return true, nil
}
