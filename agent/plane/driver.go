package plane

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// Driver is what one kind of data plane does in its own way. Safe for concurrent
// use. Where a method says "does nothing", it makes no call and returns no
// error.
type Driver interface {
	Setup
	Disks
	Target
	Initiator
	Counter
}

// Setup is how a data plane is set up, and what it must not be asked.
type Setup interface {
	// Transport returns the parameters of nvmf_create_transport for TCP; conf,
	// the user's, come first.
	Transport(conf map[string]any) map[string]any
	// KeepAlive is the keep-alive time-out of connections to vds and to
	// primaries. What is in flight on one that is given up goes back to the
	// hosts, for another path.
	KeepAlive() time.Duration
	// Warnings are for the operator of a controller node's data plane.
	Warnings() []string
	// Mirrors reports that the data plane has mirrors, so that its node can carry
	// controllers of mirrored arrays.
	Mirrors() bool
	// Authenticates reports that the data plane has DH-HMAC-CHAP, as target and as
	// initiator, and can be given other keys while it is at work.
	Authenticates() bool
	// KeepsKeys reports that a host's key of before can stay valid beside its new one.
	KeepsKeys() bool
	// Closes and Lists say of a method that it must not be under way at the same time as one
	// of which the other says so.
	Closes(method string) bool
	Lists(method string) bool
}

// Disks is how a data plane treats disks and lvols.
type Disks interface {
	// Guard returns what the agent has to keep open while the data plane uses a
	// disk, so that nobody else gets it; nil where the data plane sees to that.
	// have is the open disk, which Guard closes if it is not to be kept; when it
	// is nil, open opens the disk.
	Guard(have io.Closer, open func() (io.Closer, error)) (io.Closer, error)
	// Errors returns the failures among a bdev's counters (io_error of
	// bdev_get_iostat) that are the disk's, and those for want of space.
	Errors(by map[string]uint64) (bad, full uint64)
	// CountQueue has the counters of a bdev say how many requests are under way.
	CountQueue(ctx context.Context, of *spdk.IOStat) error
	// Flushes reports that a host's flush of an lvol reaches the disk.
	Flushes() bool
	// CreateLvol is bdev_lvol_create; the size is given in MiB.
	CreateLvol(ctx context.Context, c spdk.LvolCreate) (string, error)

	// GrowLvol makes an lvol larger, and never smaller, under I/O; the size is given
	// in MiB. What is added reads as zeros. The error says why the data plane cannot.
	GrowLvol(ctx context.Context, lvol string, sizeInMiB uint64) error

	// AppendRaid puts one more base behind those of a concat under I/O, or, with dry,
	// only tells whether it could; nothing when the base is there already. The error
	// says why not.
	AppendRaid(ctx context.Context, raid, base string, dry bool) error
	// GrowLvstore has an lvstore use the space by which its bdev has grown, if any;
	// ErrKeepsSize where the data plane cannot.
	GrowLvstore(ctx context.Context, name string) error

	// SnapshotNeedsQuiet reports that nothing may be written to a volume while a
	// snapshot of it is taken: its paths have to be closed.
	SnapshotNeedsQuiet() bool
	// MaySnapshot says why a snapshot of a volume must not be taken, nil when it
	// may.
	MaySnapshot(head *spdk.BdevLvol) error
	// MayDeleteSnapshot says the same of the deletion of a snapshot.
	MayDeleteSnapshot(snap *spdk.BdevLvol) error
	// MayRollBack says the same of a rollback to a snapshot of so many bytes, of a volume
	// that has as many or more.
	MayRollBack(snap, head uint64) error
	// SnapshotHold takes a snapshot of a volume and holds its I/O, by whatever path, from
	// the snapshot's moment until Unhold, for limit at most. After an error nothing is held.
	// It is ErrCannotHold where the data plane cannot, and says why.
	SnapshotHold(ctx context.Context, vol, name string, limit time.Duration) error
	// Unhold ends that, and reports whether the I/O was held until then.
	Unhold(ctx context.Context, vol, name string) (spdk.LvolReleased, error)
}

// Target is how a data plane exports. A subsystem is named by its NQN.
type Target interface {
	// Open has a new subsystem listen in an ANA state and admits its hosts, in
	// the order in which no host sees the subsystem in another state.
	Open(ctx context.Context, o Opening) error
	// SingleAssociation has a host that connects again end the association that
	// it has with a subsystem, so that nothing of it lands later. It does nothing
	// where the data plane cannot.
	SingleAssociation(ctx context.Context, nqn string) error
	// Reserves reports that hosts' reservations hold by all controllers of an array that are on
	// such data planes.
	Reserves() bool
	// SetReservations is spdk.API.VdaNvmfSetReservations. It does nothing where the data plane
	// cannot.
	SetReservations(ctx context.Context, nqn string, r spdk.NvmfReservations) error
	// ForgetReservation is spdk.API.VdaNvmfForgetReservation; an lvol that is not there is no
	// error. It does nothing where the data plane cannot.
	ForgetReservation(ctx context.Context, lvol, id string) error
	// Created is told of a subsystem that has just been created.
	Created(nqn string)
	// Retire deletes a subsystem that is not to come back, if it is there, and
	// tells its hosts so where the data plane can: they would otherwise go on
	// trying. Once is enough in a run of the data plane.
	Retire(ctx context.Context, nqn string, there bool) error
	// Expect has hosts keep trying a subsystem that is not there and is to be
	// made, which may take long.
	Expect(ctx context.Context, nqn string) error

	// Shares reports that a bdev may stand behind several namespaces.
	Shares() bool
	// Swap puts another bdev below a live namespace in one step; false means
	// that this did not work, and the namespace has to be removed and added.
	Swap(ctx context.Context, nqn string, nsid uint32, bdev string) bool
	// Quiesce returns when a namespace of a path that has been made inaccessible
	// can be removed without an error for a host.
	Quiesce(ctx context.Context, ns Namespace) error
	// PrepareLoss readies a namespace of a path that has been made inaccessible
	// for the loss of its bdev: one that would vanish before the eyes of the
	// hosts is removed.
	PrepareLoss(ctx context.Context, ns Namespace) error
	// Drain returns when what was in flight on a namespace has ended. It does
	// nothing where that does not matter.
	Drain(ctx context.Context, nqn string, nsid uint32) error
	// AwaitQuiet returns when hosts have had time to hear that a path is
	// inaccessible and none sends I/O any more.
	AwaitQuiet(ctx context.Context, nqn string) error
}

// Initiator is how a data plane uses remote namespaces: vds, primaries of which
// it is a secondary (by a proxy), and exporters of its own (by a link). A
// connection is named by its NVMe controller, NAME, whose bdev is NAMEn1.
type Initiator interface {
	// Controllers lists all NVMe controllers, or those of names, as far as there
	// are such; none where NVMe is not built in.
	Controllers(ctx context.Context, names ...string) ([]spdk.NvmeController, error)
	// ClosedPaths returns the bdevs of remote namespaces, of all or of some, whose
	// path is not connected, or inaccessible as its target says, where paths above
	// them have to be closed for that.
	ClosedPaths(ctx context.Context, bdevs ...string) (map[string]bool, error)
	// FastIOFail is fast_io_fail_timeout_sec of a connection whose I/O should fail
	// when it has waited for limit: nil for never.
	FastIOFail(limit time.Duration) *uint32
	// Attach is bdev_nvme_attach_controller.
	Attach(ctx context.Context, n spdk.NvmeAttach) ([]string, error)
	// Detach returns when the connection and its bdevs have gone, so that its
	// name and their UUIDs can be used again.
	Detach(ctx context.Context, name string) error

	// StateWhileLost is the ANA state of a primary's paths while one of its vds is
	// not connected.
	StateWhileLost() string
	// ProxyState is the ANA state of a secondary's path to a primary that is
	// connected.
	ProxyState() string
	// StandsBy reports that secondaries close their paths before a planned move
	// of their primary.
	StandsBy() bool
	// WatchesSilence reports that the data plane takes no notice of a dn that
	// falls silent, so that the agent has to look.
	WatchesSilence() bool

	// MayHold notes what a connection looks like, and reports whether I/O may be
	// held on it that must not be carried out any more. A caller that goes by
	// lists of its own shows them first: nobody else may have looked since the
	// connection was lost and made again.
	MayHold(c *spdk.NvmeController, well bool) bool
	// Clean notes that nothing is held on a connection.
	Clean(c *spdk.NvmeController)
	// Settle ends what is queued on a connection whose path has been closed.
	Settle(ctx context.Context, name string) error
	// Release ends what is held on a proxy whose path, to a namespace of
	// subsystem nqn, has just been closed, and has the proxy connect again. That
	// is done once, until the path is opened. It reports whether the path may be
	// opened now.
	Release(ctx context.Context, name, nqn string) (ready bool, err error)
	// Released reports that Release was done and Clean was not called since.
	Released(name string) bool
	// EndOfLinks says how I/O that is in flight on links ends when the paths of a
	// primary are closed; lost says that one of its vds is not connected.
	EndOfLinks(lost bool) End
	// DropProxy detaches the proxy of a secondary that is about to take over,
	// where namespaces stay without it. That ends what is queued there. done is
	// false where they do not: Settle ends it then, and the proxy stays until the
	// namespace has another bdev.
	DropProxy(ctx context.Context, name string) (done bool, err error)
	// CutLost cuts those of some connections that lost chooses and that are not cut
	// yet: what is queued on them would otherwise keep namespaces from being removed
	// for as long as the other side is away. Their paths must be closed. fail is
	// told what could not be cut. It reports whether it is to be called again,
	// for those that are lost meanwhile.
	CutLost(ctx context.Context, names []string, lost func(*spdk.NvmeController) bool, fail func(name string, err error)) (again bool)
}

// Opening is how a subsystem starts to serve: Driver.Open calls each step once
// at most.
type Opening struct {
	// State is the ANA state; "": without ANA.
	State string
	// Admit adds the hosts.
	Admit func(context.Context) error
	// Listen adds the listener, in an ANA state unless that is "".
	Listen func(ctx context.Context, state string) error
	// SetANA sets State on the listener.
	SetANA func(context.Context) error
}

// Namespace is one namespace of a subsystem.
type Namespace struct {
	NQN  string
	NSID uint32
	Bdev string
	// Settle, when not nil, ends I/O that is queued on Bdev for a backend that is
	// away.
	Settle func(ctx context.Context, bdev string) error
}

// End is how I/O in flight on a link ends.
type End int

const (
	// Drained: it is waited for, before the path that the link leads to is
	// closed: I/O would be queued there for 10 s.
	Drained End = iota
	// Cut: it does not end by itself, and links are cut when all paths are
	// closed.
	Cut
)

// ProxyFastIOFail is the limit for Driver.FastIOFail of a proxy.
const ProxyFastIOFail = time.Second

// ReconnectDelay is the time between two trials to make a lost connection again.
const ReconnectDelay = time.Second

// ProxyConnectTimeout bounds the connecting of a proxy. A primary that hangs
// takes connections and says nothing. A secondary that waits for it may have to
// take over from it meanwhile.
const ProxyConnectTimeout = 1500 * time.Millisecond

// Config is what a Driver works with.
type Config struct {
	// API calls the data plane for passes.
	API spdk.API
	// Served says that an agent before this one was at work in this run of the
	// data plane.
	Served bool
	// ANASet returns when the ANA state of a subsystem was last set; zero when
	// unknown.
	ANASet func(nqn string) time.Time
	// Go runs f on a goroutine that outlives the pass that began it, and gives
	// its error; a panic is one.
	Go func(f func() error) <-chan error
	// Log gets what the driver does by itself.
	Log *slog.Logger
}

// ErrCannotHold is what Driver.SnapshotHold wraps where the data plane was not asked.
var ErrCannotHold = errors.New("take the snapshots one by one")

// ErrKeepsSize is what a data plane answers that leaves an lvstore as large as it is: one
// that serves with less than its disks have grows on a node whose data plane can.
var ErrKeepsSize = errors.New("this data plane cannot safely grow an lvstore that is in use")
