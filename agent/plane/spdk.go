package plane

import (
	"context"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// spdkTgt drives spdk_tgt.
type spdkTgt struct {
	Config
	traits
	held held
}

// traits are what differs between versions.
type traits struct {
	nvme bool // has bdev_nvme_*
	// cuts: a connection can be cut with all that is queued on it failing at once,
	// its bdev staying, and connected again later: bdev_nvme_disable_controller
	// and _enable_controller, SPDK 23.09. Which paths the other side has closed is
	// told by bdev_nvme_get_io_paths.
	cuts bool
	// earlyDetach: bdev_nvme_detach_controller answers before the connection and
	// its bdevs have gone; SPDK before 24.01.
	earlyDetach bool
	// lvolBytes: the size of an lvol is given in bytes; SPDK 23.01.
	lvolBytes bool
	// exactKeepAlive: a target can be told, by kas and min_kato of
	// nvmf_create_transport, to take hosts' keep-alive time-outs as they are:
	// SPDK 25.05. Older ones round up to multiples of 10 s.
	exactKeepAlive bool
	// listenerState: a listener can be opened in an ANA state: SPDK 24.01.
	listenerState bool
	// passesThrough: a target hands Identify Namespace and vendors' commands on to
	// what is behind an NVMe bdev, unless told not to: SPDK 24.09.
	passesThrough bool
	queues        bool // has bdev_set_qd_sampling_period
	proves        bool // authenticates: SPDK 24.09
}

func newSPDKTgt(c Config, k Kind) *spdkTgt {
	return &spdkTgt{Config: c, traits: traitsOf(k), held: held{conns: map[string]heldConn{}}}
}

func traitsOf(k Kind) traits {
	if k.version == nil {
		return traits{}
	}
	return traits{
		nvme:           k.has("bdev_nvme_get_controllers"),
		cuts:           k.has("bdev_nvme_disable_controller"),
		earlyDetach:    !k.version.AtLeast(24, 1),
		lvolBytes:      !k.version.AtLeast(23, 5),
		exactKeepAlive: k.version.AtLeast(25, 5),
		listenerState:  k.version.AtLeast(24, 1),
		queues:         k.has("bdev_set_qd_sampling_period"),
		proves:         k.authenticates(),
		passesThrough:  k.version.AtLeast(24, 9),
	}
}

// Transport: a target must answer Identify by itself, or a host that connects to
// a secondary while the primary is away would find no namespace, and not look
// again.
func (d *spdkTgt) Transport(conf map[string]any) map[string]any {
	params := map[string]any{"trtype": "TCP"}
	if d.exactKeepAlive {
		params["kas"], params["min_kato"] = 1, 100 // in 100 ms and in ms: as the hosts say
	}
	if d.passesThrough {
		params["disable_command_passthru"] = true
	}
	maps.Copy(params, conf)
	return params
}

func (d *spdkTgt) KeepAlive() time.Duration { return 2 * time.Second }

func (d *spdkTgt) Warnings() []string {
	if d.exactKeepAlive {
		return nil
	}
	return []string{"this SPDK takes between 10 and 20 s to give up a host that is silent, whatever the host asked for: " +
		"connect hosts with a keep-alive time-out of 20 s, or run SPDK 25.05 or newer"}
}

// closes are the calls that may close an lvstore, or take away the bdev of a namespace. SPDK, up
// to 26.05 at least, frees an lvstore before it has closed it and still lists it
// meanwhile: bdev_lvol_get_lvstores then reads freed memory and takes the
// process down. Likewise a path outlives the bdev of its namespace for a moment, and
// bdev_nvme_get_io_paths, which goes from thread to thread, reads the name of that.
var closes = map[string]bool{
	"bdev_raid_delete":            true,
	"bdev_malloc_delete":          true,
	"bdev_aio_delete":             true,
	"bdev_nvme_detach_controller": true,
	"bdev_lvol_delete_lvstore":    true,
}

func (d *spdkTgt) Mirrors() bool { return false }

func (d *spdkTgt) Authenticates() bool { return d.proves }

func (d *spdkTgt) KeepsKeys() bool { return false }

func (d *spdkTgt) Closes(method string) bool { return closes[method] }

func (d *spdkTgt) Lists(method string) bool {
	return method == "bdev_lvol_get_lvstores" || method == "bdev_nvme_get_io_paths"
}

// Guard: SPDK opens a disk as anybody does.
func (d *spdkTgt) Guard(have io.Closer, open func() (io.Closer, error)) (io.Closer, error) {
	if have != nil {
		return have, nil
	}
	return open()
}

func (d *spdkTgt) Errors(by map[string]uint64) (bad, full uint64) {
	for _, why := range []string{"failed", "aio_error", "nvme_error", "scsi_error"} {
		bad += by[why]
	}
	return bad, 0
}

// queuePeriod is how often the queue of a disk is looked at.
const queuePeriod = time.Second

func (d *spdkTgt) CountQueue(ctx context.Context, of *spdk.IOStat) error {
	if !d.queues || of.QueuePeriod != 0 {
		return nil
	}
	return d.API.BdevSetQDSamplingPeriod(ctx, of.Name, uint64(queuePeriod.Microseconds()))
}

// CreateLvol gives the size in the unit that the version takes.
func (d *spdkTgt) CreateLvol(ctx context.Context, c spdk.LvolCreate) (string, error) {
	if d.lvolBytes {
		c.Size, c.SizeInMiB = c.SizeInMiB<<20, 0
	}
	return d.API.BdevLvolCreate(ctx, c)
}

func (d *spdkTgt) Open(ctx context.Context, o Opening) error {
	if d.listenerState || o.State == "" {
		if err := o.Admit(ctx); err != nil {
			return err
		}
		return o.Listen(ctx, o.State)
	}
	// This version listens in the optimized state first: nobody may see it.
	if err := o.Listen(ctx, ""); err != nil {
		return err
	}
	if err := o.SetANA(ctx); err != nil {
		return err
	}
	return o.Admit(ctx)
}

func (d *spdkTgt) Created(string) {}

// SingleAssociation: SPDK lets a host that comes back in at once, whatever of it
// is still at a disk.
func (d *spdkTgt) SingleAssociation(context.Context, string) error { return nil }

// Reserves: SPDK keeps the reservations of each controller apart.
func (d *spdkTgt) Reserves() bool { return false }

func (d *spdkTgt) SetReservations(context.Context, string, spdk.NvmfReservations) error { return nil }

func (d *spdkTgt) ForgetReservation(context.Context, string, string) error { return nil }

func (d *spdkTgt) Retire(ctx context.Context, nqn string, there bool) error {
	if !there {
		return nil
	}
	return deleteSubsystem(ctx, d.API, nqn)
}

func (d *spdkTgt) Expect(context.Context, string) error { return nil }

func (d *spdkTgt) Shares() bool { return false }

func (d *spdkTgt) Controllers(ctx context.Context, names ...string) ([]spdk.NvmeController, error) {
	if !d.nvme {
		return nil, nil
	}
	return controllers(ctx, d.API, names)
}

// controllers are all NVMe controllers when there are no names.
func controllers(ctx context.Context, api spdk.API, names []string) ([]spdk.NvmeController, error) {
	if len(names) == 0 {
		return api.BdevNvmeGetControllers(ctx)
	}
	var all []spdk.NvmeController
	for _, name := range names {
		c, err := api.BdevNvmeGetController(ctx, name)
		switch {
		case err == nil:
			all = append(all, *c)
		case !spdk.IsNoSuchDevice(err):
			return nil, err
		}
	}
	return all, nil
}

// detachLimit bounds the wait for a connection that goes away.
const detachLimit = 5 * time.Second

func (d *spdkTgt) Detach(ctx context.Context, name string) error {
	err := d.API.BdevNvmeDetachController(ctx, name)
	if err != nil || !d.earlyDetach {
		return err
	}
	for begin := time.Now(); ; time.Sleep(quietStep) {
		_, err := d.API.BdevNvmeGetController(ctx, name)
		switch {
		case spdk.IsNoSuchDevice(err):
			return nil
		case err != nil:
			return err
		case time.Since(begin) > detachLimit:
			return fmt.Errorf("connection %s is detached and does not go away", name)
		}
	}
}

// deleteSubsystem deletes a subsystem; one that does not exist is not an error.
func deleteSubsystem(ctx context.Context, api spdk.API, nqn string) error {
	if err := api.NvmfDeleteSubsystem(ctx, nqn); err != nil && !spdk.IsInvalidParams(err) && !spdk.IsNoSuchDevice(err) {
		return err
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
