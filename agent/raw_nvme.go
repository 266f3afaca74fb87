package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// zeroStep is how many bytes are zeroed between two reports of progress.
const zeroStep = 64 << 20

// nvmeDisk is a RawDisk over NVMe/TCP.
type nvmeDisk struct {
	ctl *host.Controller
	ns  *host.Namespace
}

func openNVMe(ctx context.Context, at spdk.TransportID, subNQN, hostNQN string) (RawDisk, error) {
	ctl, err := host.Connect(ctx, host.Config{
		Traddr: at.TrAddr, Trsvcid: at.TrSvcID, SubNQN: subNQN, HostNQN: hostNQN,
		Queues: 1, QueueDepth: 32, ConnectTimeout: 5 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	ns := ctl.Namespace(1)
	if ns == nil {
		ctl.Close()
		return nil, fmt.Errorf("subsystem %s shows no namespace 1", subNQN)
	}
	return &nvmeDisk{ctl, ns}, nil
}

func (d *nvmeDisk) Size() uint64 { return uint64(d.ns.Size()) }

func (d *nvmeDisk) ReadAt(ctx context.Context, p []byte, off uint64) error {
	return d.ns.ReadAt(ctx, p, int64(off))
}

func (d *nvmeDisk) Zero(ctx context.Context, progress func(done uint64)) error {
	for off, size := int64(0), d.ns.Size(); off < size; {
		n := min(zeroStep, size-off)
		if err := d.ns.WriteZeroes(ctx, off, n); err != nil {
			return err
		}
		off += n
		if progress != nil {
			progress(uint64(off))
		}
	}
	return d.ns.Flush(ctx)
}

func (d *nvmeDisk) ZeroAt(ctx context.Context, off, n uint64) error {
	return d.ns.WriteZeroes(ctx, int64(off), int64(n))
}

func (d *nvmeDisk) Flush(ctx context.Context) error { return d.ns.Flush(ctx) }

func (d *nvmeDisk) Close() error {
	d.ctl.Close()
	return nil
}
