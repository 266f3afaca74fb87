package host

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// Config says which subsystem to connect to and how. Zero values mean the
// default in the field's sentence.
type Config struct {
	Traddr     string // IP address (v4 or v6) or host name of the listener
	Trsvcid    string // TCP port of the listener; 4420
	SubNQN     string // subsystem to connect to
	HostNQN    string // name of this host; a random uuid NQN of this process
	HostID     uuid.UUID
	HostTraddr string // local address to connect from; the system's choice

	Queues       int  // I/O queues to ask for; half of GOMAXPROCS, 1 to 8; negative: none
	QueueDepth   int  // commands in flight on an I/O queue, 1 to 1024; 128
	HeaderDigest bool // ask for CRC32C over PDU headers; not getting it is an error
	DataDigest   bool // ask for CRC32C over PDU data; not getting it is an error

	KeepAlive      time.Duration // KATO: silence that ends the association on either side; 10 s; negative: none
	ConnectTimeout time.Duration // limit of one attempt to make a session; 10 s
	AdminTimeout   time.Duration // limit of an admin command; 30 s
	IOTimeout      time.Duration // age at which an I/O is aborted, and as much later the session is reset; 0 never

	// Keys are what the host proves to a subsystem that demands it. With a key
	// of the controller the host insists that this proves itself on every queue,
	// demanded or not.
	Keys      dhchap.Keys
	AuthOffer dhchap.Offer // hashes and groups that it may use; dhchap.Defaults

	// Resilience has SPDK's bdev_nvme options about lost connections.
	Resilience Resilience

	// Patient goes on after a refusal with Do Not Retry as after any other,
	// until LossTimeout or Close: SPDK's bdev_nvme does so. Without it a lost
	// controller is given up for good then, as Linux does it since 6.10.
	Patient bool

	Spin time.Duration // how long a reader polls before it sleeps while commands are in flight; 0: sleeps at once

	Log *slog.Logger // slog.Default

	// OnNamespaces is called when a namespace came, went or changed. OnState
	// is called after each change of State or FastFail. OnANA is called after
	// the ANA states were read again. All run on the controller's own goroutine, one at a
	// time, and may not call Close; they may call everything else.
	OnNamespaces func(c *Controller)
	OnState      func(c *Controller)
	OnANA        func(c *Controller)
}

// Resilience says what happens after a session is lost. The zero value tries
// once and then leaves the controller failed.
type Resilience struct {
	LossTimeout time.Duration // give the controller up after so long without a session; negative never; 0: no retries
	Delay       time.Duration // pause between two attempts
	FastIOFail  time.Duration // fail I/O that waits for the path after so long; 0: with LossTimeout
}

// ErrResilience is a combination of time-outs that makes no sense.
var ErrResilience = errors.New("invalid reconnect time-outs")

// Check reports what is wrong with the combination; the rules are those of
// SPDK's bdev_nvme_attach_controller.
func (r Resilience) Check() error {
	switch {
	case r.LossTimeout == 0 && (r.Delay != 0 || r.FastIOFail != 0):
		return fmt.Errorf("%w: reconnect_delay_sec and fast_io_fail_timeout_sec must be 0 when ctrlr_loss_timeout_sec is 0", ErrResilience)
	case r.LossTimeout == 0:
		return nil
	case r.Delay <= 0:
		return fmt.Errorf("%w: reconnect_delay_sec must not be 0 when ctrlr_loss_timeout_sec is set", ErrResilience)
	case r.LossTimeout > 0 && r.Delay > r.LossTimeout:
		return fmt.Errorf("%w: reconnect_delay_sec %v is above ctrlr_loss_timeout_sec %v", ErrResilience, r.Delay, r.LossTimeout)
	case r.FastIOFail != 0 && r.FastIOFail < r.Delay:
		return fmt.Errorf("%w: fast_io_fail_timeout_sec %v is below reconnect_delay_sec %v", ErrResilience, r.FastIOFail, r.Delay)
	case r.LossTimeout > 0 && r.FastIOFail > r.LossTimeout:
		return fmt.Errorf("%w: fast_io_fail_timeout_sec %v is above ctrlr_loss_timeout_sec %v", ErrResilience, r.FastIOFail, r.LossTimeout)
	}
	return nil
}

// Address is where a subsystem listens.
type Address struct {
	Traddr  string
	Trsvcid string
}

// processHostID identifies this process where no identity was given.
var processHostID = uuid.New()

// UUIDHostNQN makes the host name that stands for a uuid.
func UUIDHostNQN(id uuid.UUID) string { return "nqn.2014-08.org.nvmexpress:uuid:" + id.String() }

func (c *Config) validate() error {
	if c.Trsvcid == "" {
		c.Trsvcid = "4420"
	}
	if p, err := strconv.Atoi(c.Trsvcid); err != nil || p < 1 || p > 65535 {
		return fmt.Errorf("trsvcid %q is not a TCP port from 1 to 65535", c.Trsvcid)
	}
	if c.Traddr == "" {
		return errors.New("traddr is empty; it must be the listener's address")
	}
	if c.HostTraddr != "" && net.ParseIP(c.HostTraddr) == nil {
		return fmt.Errorf("hosttraddr %q is not an IP address", c.HostTraddr)
	}
	if c.HostID == uuid.Nil {
		c.HostID = processHostID
	}
	if c.HostNQN == "" {
		c.HostNQN = UUIDHostNQN(c.HostID)
	}
	if err := nvme.CheckNQN(c.SubNQN); err != nil {
		return fmt.Errorf("subnqn: %w", err)
	}
	if err := nvme.CheckNQN(c.HostNQN); err != nil {
		return fmt.Errorf("hostnqn: %w", err)
	}
	if c.Queues == 0 {
		c.Queues = min(max(runtime.GOMAXPROCS(0)/2, 1), 8)
	}
	c.Queues = max(c.Queues, 0)
	if c.QueueDepth == 0 {
		c.QueueDepth = 128
	}
	if c.QueueDepth < 1 || c.QueueDepth > 1024 {
		return fmt.Errorf("queue depth %d is not from 1 to 1024", c.QueueDepth)
	}
	setDefault(&c.KeepAlive, 10*time.Second)
	c.KeepAlive = max(c.KeepAlive, 0)
	setDefault(&c.ConnectTimeout, 10*time.Second)
	setDefault(&c.AdminTimeout, 30*time.Second)
	if c.AuthOffer.Hashes == nil {
		c.AuthOffer = dhchap.Defaults()
	}
	if c.Keys.Controller != nil && c.Keys.Host == nil {
		return errors.New("a key of the controller (dhchap_ctrlr_key) is of no use without one of the host (dhchap_key)")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c.Resilience.Check()
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}
