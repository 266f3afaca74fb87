package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
)

// RawDisk is a bdev of the data plane opened for reading, zeroing and clearing.
type RawDisk interface {
	Size() uint64 // bytes
	ReadAt(ctx context.Context, p []byte, off uint64) error
	// Zero makes the whole disk read as zeros; progress, when not nil, is
	// called with the bytes done.
	Zero(ctx context.Context, progress func(done uint64)) error
	// Clear gives all blocks back to whatever is below and leaves zeros in
	// their place, and leaves the disk half of the time to others. progress is
	// as for Zero.
	Clear(ctx context.Context, progress func(done uint64)) error
	// ZeroAt makes n bytes from off on, which are whole blocks, read as zeros.
	ZeroAt(ctx context.Context, off, n uint64) error
	Flush(ctx context.Context) error
	Close() error
}

// WithRaw exports a bdev to the agent alone, connects to it over NVMe/TCP,
// calls f, and takes the export back. No JSON-RPC method of SPDK reads or
// zeroes a bdev; this works on every data plane. The bdev must not be in use.
func (p *Plane) WithRaw(ctx context.Context, bdev string, f func(RawDisk) error) (err error) {
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	nqn, host := vda.RawNQNPrefix+id, vda.AgentNQN+id
	p.mu.Lock()
	p.raw[nqn] = true
	p.mu.Unlock()
	defer func() {
		drop := p.DropSubsystem(context.WithoutCancel(ctx), nqn)
		p.mu.Lock()
		delete(p.raw, nqn)
		p.mu.Unlock()
		if err == nil {
			err = drop
		}
	}()
	sub := spdk.NvmfSubsystemCreate{NQN: nqn, SerialNumber: id[:20], ModelNumber: "VDA_RAW", MaxNamespaces: 1}
	if err := p.NvmfCreateSubsystem(ctx, sub); err != nil {
		return err
	}
	if err := p.NvmfSubsystemAddHost(ctx, nqn, host); err != nil {
		return err
	}
	ns := spdk.NvmfNamespace{NSID: 1, BdevName: bdev, UUID: uuid.NewString(), NGUID: strings.ToUpper(id)}
	if _, err := p.NvmfSubsystemAddNS(ctx, nqn, ns); err != nil {
		return err
	}
	if err := p.NvmfSubsystemAddListener(ctx, nqn, p.ListenAddress()); err != nil {
		return err
	}
	disk, err := p.OpenRaw(ctx, p.ListenAddress(), nqn, host)
	if err != nil {
		return fmt.Errorf("connecting to this node's data plane at %s port %s: %w", p.ListenAddress().TrAddr, p.ListenAddress().TrSvcID, err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	return f(disk)
}

// StrayRaw reports a private subsystem that nobody uses: an agent died over it.
func (p *Plane) StrayRaw(nqn string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.HasPrefix(nqn, vda.RawNQNPrefix) && !p.raw[nqn]
}
