package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// vdaTgt drives vda_tgt.
type vdaTgt struct {
	Config
	retires bool // has vda_nvmf_retire_subsystem
	mirrors bool // has vda_mirror_create
	grows   bool // has vda_lvol_grow
	appends bool // has vda_raid_append
	singles bool // has vda_nvmf_set_single_association
	counts  bool // has vda_get_iostat
	holds   bool // has vda_lvol_snapshot_hold
	proves  bool // authenticates
	keeps   bool // has vda_nvmf_set_reservations

	mu sync.Mutex
	// retired says of subsystems whether they are retired in this run of the data
	// plane. Of others that is not known when Served; else they are not.
	retired map[string]bool
}

func newVDATgt(c Config, k Kind) *vdaTgt {
	return &vdaTgt{Config: c, retires: k.has("vda_nvmf_retire_subsystem"), mirrors: k.has("vda_mirror_create"),
		grows: k.has("vda_lvol_grow"), appends: k.has("vda_raid_append"), singles: k.has("vda_nvmf_set_single_association"),
		counts: k.has("vda_get_iostat"), holds: k.has("vda_lvol_snapshot_hold"), proves: k.authenticates(),
		keeps: k.has("vda_nvmf_set_reservations"), retired: map[string]bool{}}
}

// Transport: vda_tgt takes hosts' keep-alive time-outs as they are and answers
// Identify by itself.
func (d *vdaTgt) Transport(conf map[string]any) map[string]any {
	params := map[string]any{"trtype": "TCP"}
	maps.Copy(params, conf)
	return params
}

// KeepAlive: a secondary gives hung hosts up by itself as well.
func (d *vdaTgt) KeepAlive() time.Duration { return 3 * time.Second }

func (d *vdaTgt) Warnings() []string { return nil }

func (d *vdaTgt) Mirrors() bool { return d.mirrors }

func (d *vdaTgt) Authenticates() bool { return d.proves }

func (d *vdaTgt) KeepsKeys() bool { return d.proves }

func (d *vdaTgt) Closes(string) bool { return false }

func (d *vdaTgt) Lists(string) bool { return false }

// Guard: an aio bdev keeps others from its file or block device.
func (d *vdaTgt) Guard(have io.Closer, _ func() (io.Closer, error)) (io.Closer, error) {
	if have == nil {
		return nil, nil
	}
	return nil, have.Close()
}

// Errors: vda_tgt tells a bad medium from a full one.
func (d *vdaTgt) Errors(by map[string]uint64) (bad, full uint64) {
	return by["medium"], by["no_space"]
}

// CountQueue: the counters always do.
func (d *vdaTgt) CountQueue(context.Context, *spdk.IOStat) error { return nil }

func (d *vdaTgt) CreateLvol(ctx context.Context, c spdk.LvolCreate) (string, error) {
	return d.API.BdevLvolCreate(ctx, c)
}

// GrowLvol: hosts, and data planes of secondaries, are told by an event.
func (d *vdaTgt) GrowLvol(ctx context.Context, lvol string, sizeInMiB uint64) error {
	if !d.grows {
		return errors.New("its primary runs a vda_tgt that is too old to grow an array; update it, or move the primary to a node whose is newer")
	}
	return d.API.VdaLvolGrow(ctx, lvol, sizeInMiB)
}

// Flushes is Disks'.
func (d *vdaTgt) Flushes() bool { return true }

func (d *vdaTgt) AppendRaid(ctx context.Context, raid, base string, dry bool) error {
	if !d.appends {
		return errors.New("its primary runs a vda_tgt that is too old to add disks to an array; update it, or move the primary to a node " +
			"whose is newer")
	}
	return d.API.VdaRaidAppend(ctx, raid, base, dry)
}

func (d *vdaTgt) GrowLvstore(ctx context.Context, name string) error {
	return d.API.BdevLvolGrowLvstore(ctx, name)
}

// SnapshotNeedsQuiet: vda_tgt holds the volume's I/O itself.
func (d *vdaTgt) SnapshotNeedsQuiet() bool { return false }

func (d *vdaTgt) MaySnapshot(*spdk.BdevLvol) error { return nil }

func (d *vdaTgt) MayDeleteSnapshot(*spdk.BdevLvol) error { return nil }

func (d *vdaTgt) MayRollBack(uint64, uint64) error { return nil }

func (d *vdaTgt) SnapshotHold(ctx context.Context, vol, name string, limit time.Duration) error {
	if !d.holds {
		return fmt.Errorf("its primary runs a vda_tgt that is too old to hold an array's I/O while others are snapshotted; update it, "+
			"move the primary to a node whose is newer, or %w", ErrCannotHold)
	}
	_, err := d.API.VdaLvolSnapshotHold(ctx, vol, name, limit)
	return err
}

func (d *vdaTgt) Unhold(ctx context.Context, vol, name string) (spdk.LvolReleased, error) {
	if !d.holds {
		return spdk.LvolReleased{}, nil
	}
	return d.API.VdaLvolRelease(ctx, vol, name)
}

func (d *vdaTgt) Open(ctx context.Context, o Opening) error {
	if err := o.Admit(ctx); err != nil {
		return err
	}
	return o.Listen(ctx, o.State)
}

func (d *vdaTgt) SingleAssociation(ctx context.Context, nqn string) error {
	if !d.singles {
		return nil
	}
	return d.API.VdaNvmfSetSingleAssociation(ctx, nqn, true)
}

func (d *vdaTgt) Reserves() bool { return d.keeps }

func (d *vdaTgt) SetReservations(ctx context.Context, nqn string, r spdk.NvmfReservations) error {
	if !d.keeps {
		return nil
	}
	return d.API.VdaNvmfSetReservations(ctx, nqn, r)
}

func (d *vdaTgt) ForgetReservation(ctx context.Context, lvol, id string) error {
	if !d.keeps {
		return nil
	}
	err := d.API.VdaNvmfForgetReservation(ctx, lvol, id)
	if spdk.IsNoSuchDevice(err) {
		return nil
	}
	return err
}

func (d *vdaTgt) Shares() bool { return true }

func (d *vdaTgt) Swap(ctx context.Context, nqn string, nsid uint32, bdev string) bool {
	return d.API.VdaNvmfSwapNS(ctx, nqn, nsid, bdev) == nil
}

// Quiesce: hosts of a path whose namespace goes hear a path status.
func (d *vdaTgt) Quiesce(context.Context, Namespace) error { return nil }

// PrepareLoss: a namespace stays without its bdev.
func (d *vdaTgt) PrepareLoss(context.Context, Namespace) error { return nil }

func (d *vdaTgt) Drain(context.Context, string, uint32) error { return nil }

func (d *vdaTgt) AwaitQuiet(context.Context, string) error { return nil }

func (d *vdaTgt) Controllers(ctx context.Context, names ...string) ([]spdk.NvmeController, error) {
	return controllers(ctx, d.API, names)
}

// ClosedPaths: the status of a closed path is passed on to the hosts.
func (d *vdaTgt) ClosedPaths(context.Context, ...string) (map[string]bool, error) { return nil, nil }

func (d *vdaTgt) FastIOFail(limit time.Duration) *uint32 { return seconds(limit) }

func (d *vdaTgt) Attach(ctx context.Context, n spdk.NvmeAttach) ([]string, error) {
	return d.API.BdevNvmeAttachController(ctx, n)
}

func (d *vdaTgt) Detach(ctx context.Context, name string) error {
	return d.API.BdevNvmeDetachController(ctx, name)
}

func (d *vdaTgt) StateWhileLost() string { return spdk.ANAOptimized }

func (d *vdaTgt) ProxyState() string { return spdk.ANANonOptimized }

// StandsBy: a primary's refusal is passed on to the host.
func (d *vdaTgt) StandsBy() bool { return false }

// WatchesSilence: a keep-alive command that is not answered ends the connection.
func (d *vdaTgt) WatchesSilence() bool { return false }

func (d *vdaTgt) MayHold(*spdk.NvmeController, bool) bool { return false }

func (d *vdaTgt) Clean(*spdk.NvmeController) {}

func (d *vdaTgt) Settle(context.Context, string) error { return nil }

func (d *vdaTgt) Release(context.Context, string, string) (bool, error) { return false, nil }

func (d *vdaTgt) Released(string) bool { return false }

// EndOfLinks: there are none.
func (d *vdaTgt) EndOfLinks(bool) End { return Drained }

func (d *vdaTgt) DropProxy(ctx context.Context, name string) (bool, error) {
	err := d.Detach(ctx, name)
	if spdk.IsNoSuchDevice(err) {
		err = nil
	}
	return err == nil, err
}

// CutLost: a lost connection keeps no namespace from being removed.
func (d *vdaTgt) CutLost(context.Context, []string, func(*spdk.NvmeController) bool, func(string, error)) bool {
	return false
}

func seconds(limit time.Duration) *uint32 { return spdk.Ptr(uint32(limit / time.Second)) }
