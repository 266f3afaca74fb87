package nvmftgt

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// Config of a Target. Limits that are zero take the default named.
type Config struct {
	Registry *bdev.Registry // where namespaces find their block devices
	Log      *slog.Logger   // nil: slog.Default

	// Places says where else a host, by its NQN, may connect to: the discovery log has that too. It is called for each
	// part of the log that a host reads, and may take its time. Nil: nowhere.
	Places func(host string) ([]nvme.DiscoveryEntry, error)
	// PlaceKeys are what a host may prove itself by before it is told of Places, besides those that it has at the discovery subsystem;
	// none of either: its NQN is enough. It is called when a host connects, and
	// for each part of the log that one reads which has not authenticated; it may take its time. Nil: none.
	PlaceKeys func(host string) ([]dhchap.Keys, error)

	// connections at once; default 4096. one that is idle holds about 20 KiB, one that is busy up to 256 KiB for receiving, and data up to
	// MaxConnData
	MaxConns    int
	MaxConnData int // bytes of data in buffers a connection, above which its commands wait; default 32 MiB

	Spin      time.Duration // how long a busy connection polls before it sleeps; default 20 µs, negative: never
	HelloTime time.Duration // within which a new connection must complete its Connect; default 10 s
	AuthTime  time.Duration // within which a connection must authenticate, where that is demanded, after its Connect; default 30 s
	// for how long a controller may stay that is not enabled yet, not any more, or shut down; default 2 min (base 2.0, section 3.6)
	EnableTime time.Duration
	// for how long a Connect waits until its host's former association has settled; default 4 s: hosts wait longer for an answer
	ReturnTime  time.Duration
	SendTime    time.Duration // after which a peer that does not read is cut off; default 30 s
	SettleGrace time.Duration // for how long a peer may hold up the settling of a namespace before it is cut off; default 1 s
	StallTime   time.Duration // after which whatever waits for commands to end says in the log what for; default 5 s
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MaxConns == 0 {
		c.MaxConns = 4096
	}
	if c.MaxConnData == 0 {
		c.MaxConnData = 32 << 20
	}
	if c.Spin == 0 {
		c.Spin = 20 * time.Microsecond
	}
	if c.HelloTime == 0 {
		c.HelloTime = 10 * time.Second
	}
	if c.AuthTime == 0 {
		c.AuthTime = 30 * time.Second
	}
	if c.EnableTime == 0 {
		c.EnableTime = 2 * time.Minute
	}
	if c.ReturnTime == 0 {
		c.ReturnTime = 4 * time.Second
	}
	if c.SendTime == 0 {
		c.SendTime = 30 * time.Second
	}
	if c.SettleGrace == 0 {
		c.SettleGrace = time.Second
	}
	if c.StallTime == 0 {
		c.StallTime = 5 * time.Second
	}
}

// Target is one NVMe/TCP target. All methods are safe for concurrent use.
type Target struct {
	cfg Config
	log *slog.Logger

	mu        sync.Mutex
	transport *TransportOpts
	subs      []*Subsystem // in the order of creation, discovery first
	byNQN     map[string]*Subsystem
	portals   map[string]*portal
	conns     map[*conn]struct{}
	referrals []Referral
	retired   retired
	portalIDs uint16
	closed    bool

	sharedMu sync.Mutex                 // below all others
	shared   map[uuid.UUID]*reservation // of arrays

	discovery   *Subsystem
	genctr      atomic.Uint64 // generation of the discovery log
	stats       stats
	chatter     chatter
	buffers     *bdev.Pool   // of data: the registry's
	rbufs       *bdev.Pool   // receive buffers
	recvBuffers atomic.Int64 // of rbufs in use
	memory      memory
	admission   admission
	auth        authenticator
}

// New returns a target with a discovery subsystem and nothing else.
func New(c Config) *Target {
	c.setDefaults()
	t := &Target{cfg: c, log: c.Log, portals: map[string]*portal{}, conns: map[*conn]struct{}{}, buffers: c.Registry.Buffers,
		rbufs: bdev.NewPool(c.MaxConns * ioBuffer)}
	t.admission.sources, t.admission.met = map[string]int{}, map[string]*limitMet{}
	t.auth.init()
	t.memory.tgt, t.memory.kick, t.memory.patience = t, make(chan struct{}, 1), defaultPatience
	t.genctr.Store(1)
	t.discovery = newSubsystem(t, SubsystemConfig{NQN: nvme.DiscoveryNQN, AllowAnyHost: true, MinCntlid: 1, MaxCntlid: nvme.MaxCNTLID})
	t.discovery.discovery = true
	t.subs, t.byNQN = []*Subsystem{t.discovery}, map[string]*Subsystem{nvme.DiscoveryNQN: t.discovery}
	return t
}

// Close closes portals and connections, waits until their I/O has settled
// and closes the namespaces' devices.
func (t *Target) Close() {
	t.mu.Lock()
	t.closed = true
	subs := append([]*Subsystem(nil), t.subs...)
	portals := t.portals
	t.portals = map[string]*portal{}
	t.mu.Unlock()
	for _, p := range portals {
		p.close()
	}
	t.closeConns(func(*conn) bool { return true })
	for _, s := range subs {
		s.destroy()
	}
}

// CreateSubsystem makes a subsystem without listeners. EEXIST when the NQN is
// taken, EINVAL for a bad field.
func (t *Target) CreateSubsystem(c SubsystemConfig) (*Subsystem, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.find(c.NQN) != nil {
		return nil, fmt.Errorf("subsystem %s: %w", c.NQN, syscall.EEXIST)
	}
	if t.transport != nil {
		if err := c.fits(t.transport); err != nil {
			return nil, err
		}
	}
	s := newSubsystem(t, c)
	t.subs, t.byNQN[c.NQN] = append(t.subs, s), s
	t.retired.remove(c.NQN)
	return s, nil
}

// find returns the subsystem called nqn; t.mu is held.
func (t *Target) find(nqn string) *Subsystem { return t.byNQN[nqn] }

// Subsystem returns the subsystem called nqn, also the discovery subsystem.
func (t *Target) Subsystem(nqn string) (*Subsystem, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.find(nqn)
	return s, s != nil
}

// Subsystems returns all, the discovery subsystem first.
func (t *Target) Subsystems() []*Subsystem {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*Subsystem(nil), t.subs...)
}

// DeleteSubsystem closes the subsystem's connections and devices and returns
// when its I/O has settled. ENOENT when there is none, EINVAL for the
// discovery subsystem.
func (t *Target) DeleteSubsystem(nqn string) error {
	t.mu.Lock()
	s := t.find(nqn)
	switch {
	case s == nil:
		t.mu.Unlock()
		return fmt.Errorf("subsystem %s: %w", nqn, syscall.ENOENT)
	case s.discovery:
		t.mu.Unlock()
		return fmt.Errorf("subsystem %s cannot be deleted: %w", nqn, syscall.EINVAL)
	}
	for i, v := range t.subs {
		if v == s {
			t.subs = append(t.subs[:i:i], t.subs[i+1:]...)
		}
	}
	delete(t.byNQN, nqn)
	t.mu.Unlock()
	s.destroy()
	return nil
}
