package planetest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// Cluster is what planes share. Its mutex guards everything in them.
type Cluster struct {
	mu     sync.Mutex
	change *sync.Cond         // something happened that a command may wait for
	live   *Live              // nil: no I/O, and connections that nobody makes
	planes map[string]*Plane  // by address:port they listen on
	disks  map[string]*Medium // aio disks by file name
	// mirrored has, by mirror, the metadata of what stands on it; its data are on the legs.
	mirrored map[string]*Medium
	// written are the offsets at which some host has written to some array.
	written map[uint64]bool
}

// NewCluster returns a network without planes, on which there is no I/O.
func NewCluster() *Cluster {
	c := &Cluster{planes: map[string]*Plane{}, disks: map[string]*Medium{}, mirrored: map[string]*Medium{}, written: map[uint64]bool{}}
	c.change = sync.NewCond(&c.mu)
	return c
}

// Plane is one data plane.
type Plane struct {
	Socket  string
	c       *Cluster
	t       testing.TB
	srv     *jsonrpc.Server
	swaps   bool
	cut     map[*Plane]bool // planes that it does not reach
	addr    string          // it sends from, on a live cluster
	run     int             // counts starts
	up      bool
	hung    bool
	stuck   string        // why it stands still for good
	tcp     bool          // it has a transport
	silence time.Duration // after which it gives a connection up
	changes int
	asked   map[string]Asked
	unread  string // see Unread
	hook    func(method string, params map[string]any) error
	hidden  string // a method that it lacks
	version [2]int // what it says it is
	log     string // what it has logged
	bdevs   map[string]*bdev
	names   map[string][]*bdev // by UUID and alias
	stores  map[string]*bdev   // what lvstores that are open are on, by their names
	ctrlrs  map[string]*ctrlr
	raids   map[string]*raid
	mirrors map[string]*spdk.Mirror
	copyMB  uint32 // that all of them may copy together per second
	holds   map[string]*hold
	news    mirrorNews     // of these
	pending map[string]int // names of lvols that are being made, while hooks hold that up
	subs    map[string]*subsystem
	ana     map[string]string
	keyring map[string]string  // texts of keys by name
	retired map[string]bool    // subsystems whose hosts are told not to come back
	held    map[string]bool    // by lvol: its I/O waits
	busy    map[string]int     // by lvol: I/O that is under way
	queues  map[string][]*byte // of writes to one block of an lvol
	fetches map[string]bool    // of clusters of clones, and copies of whole clones, that are under way
	real    *mirrors           // of this run, on a live cluster; nil: the plane has none
}

type bdev struct {
	name, product, uuid string
	aliases             []string
	blocks              uint64
	medium              *Medium
	claimed             bool
	loaded              *store // lvstore opened on it
	of                  *store // whose lvol it shows, nil for other bdevs
	lvol                *lvol
	limits              spdk.RateLimits
	readOnly            bool // it is a snapshot
}

type ctrlr struct {
	name, addr, nqn, host string
	path                  *Initiator // on a live cluster
	disabled, atOnce      bool
	multi                 bool     // it may have more paths
	more                  []*ctrlr // which these are
	keys                  spdk.Keys
}

type raid struct {
	spdk.RaidCreate
}

type subsystem struct {
	spdk.NvmfSubsystem
	ana   bool
	conns map[*conn]bool // on a live cluster
	// before are keys that are valid beside the newest ones, by host.
	before map[string]spdk.Keys
}

// NewPlane makes a plane on a socket in a temporary directory; swaps gives it
// vda_nvmf_swap_ns. It runs until the test ends.
func NewPlane(t testing.TB, c *Cluster, swaps bool) *Plane {
	p := &Plane{Socket: t.TempDir() + "/rpc.sock", c: c, t: t, swaps: swaps, asked: map[string]Asked{}}
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

// Start begins empty, like a process.
func (p *Plane) Start() {
	if p.Socket == "" {
		p.Boot()
		return
	}
	lis, err := net.Listen("unix", p.Socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Boot()
	srv, err := jsonrpc.NewServer(lis, jsonrpc.Config{Lookup: p.lookup})
	if err != nil {
		p.t.Fatal(err)
	}
	p.c.mu.Lock()
	p.srv = srv
	p.c.mu.Unlock()
	go func() { _ = srv.Serve() }()
}

// Stop ends the plane like kill -9: connections break, nothing is closed.
func (p *Plane) Stop() {
	p.Kill()
	p.c.mu.Lock()
	srv := p.srv
	p.srv = nil
	p.c.mu.Unlock()
	if srv != nil {
		srv.Close(0)
		_ = os.Remove(p.Socket)
	}
}

// Boot starts the plane empty, without a socket.
func (p *Plane) Boot() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.bdevs, p.ctrlrs, p.raids = map[string]*bdev{}, map[string]*ctrlr{}, map[string]*raid{}
	p.names, p.stores = map[string][]*bdev{}, map[string]*bdev{}
	p.mirrors, p.pending, p.holds, p.copyMB = map[string]*spdk.Mirror{}, map[string]int{}, map[string]*hold{}, 0
	p.held, p.busy, p.queues = map[string]bool{}, map[string]int{}, map[string][]*byte{}
	p.fetches = map[string]bool{}
	p.subs, p.ana = map[string]*subsystem{}, map[string]string{}
	p.retired, p.keyring = map[string]bool{}, map[string]string{}
	if p.c.live != nil && p.swaps {
		p.real = newMirrors()
	}
	p.run++
	p.up, p.hung, p.stuck, p.tcp, p.silence = true, false, "", false, 10*time.Second
}

// Kill ends it; what is under way in it is not done.
func (p *Plane) Kill() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for at, q := range p.c.planes {
		if q == p {
			delete(p.c.planes, at)
		}
	}
	for _, s := range p.subs {
		for k := range s.conns {
			k.from.nudge()
		}
	}
	p.run++
	p.up, p.hung = false, false
	if p.real != nil {
		p.real.die()
	}
	p.c.changed()
}

// SetHook has f see every call before it is carried out; it may refuse it or
// take its time, and is called from several goroutines.
func (p *Plane) SetHook(f func(method string, params map[string]any) error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.hook = f
}

// CopyMB is how many MiB per second all mirrors of a model may copy together; 0: no bound.
func (p *Plane) CopyMB() uint32 {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.copyMB
}

// SetLog is what the data plane has logged.
func (p *Plane) SetLog(text string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.log = text
}

// Hide makes the data plane one that lacks a method.
func (p *Plane) Hide(method string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.hidden = method
}

// SetVersion makes the data plane say that it is another version of SPDK.
func (p *Plane) SetVersion(major, minor int) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.version = [2]int{major, minor}
}

// Changes returns how many calls have changed something since the last time
// it was asked.
func (p *Plane) Changes() int {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	n := p.changes
	p.changes = 0
	return n
}

// Asked is what calls of a kind have cost.
type Asked struct {
	Calls, Bytes int // bytes of replies
}

// Asked returns what calls have cost since the last time it was asked, by
// method, with " *" behind it where all there is was asked for.
func (p *Plane) Asked() map[string]Asked {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	m := p.asked
	p.asked = map[string]Asked{}
	return m
}

// Client returns an API on the plane.
func (p *Plane) Client() spdk.API {
	if p.Socket == "" {
		return spdk.API{Caller: p.Direct()}
	}
	c, err := spdk.New(spdk.Config{Socket: p.Socket})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c.API
}

// ANA returns the state of a subsystem's namespace.
func (p *Plane) ANA(nqn string) string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.ana[nqn]
}

// Retired reports that a subsystem was retired and not made again since.
func (p *Plane) Retired(nqn string) bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.retired[nqn]
}

// Stuck says why the data plane stands still for good; "" when it does not.
func (p *Plane) Stuck() string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.stuck
}

// Objects returns the names of all that the plane holds but its owner's mark.
func (p *Plane) Objects() []string {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	var all []string
	for n := range p.bdevs {
		all = append(all, "bdev "+n)
	}
	for n := range p.ctrlrs {
		all = append(all, "controller "+n)
	}
	for n := range p.subs {
		if n != vda.OwnerNQN {
			all = append(all, "subsystem "+n)
		}
	}
	return all
}

// reach returns the namespace that a host gets at a subsystem, or why not.
func (c *Cluster) reach(addr, nqn, host string) (*bdev, error) {
	p := c.planes[addr]
	if p == nil {
		return nil, errors.New("connection refused")
	}
	s := p.subs[nqn]
	if s == nil || !s.allows(host) {
		return nil, fmt.Errorf("%s is not admitted to %s", host, nqn)
	}
	if len(s.Namespaces) == 0 {
		return nil, nil
	}
	return p.bdev(s.Namespaces[0].BdevName), nil
}

func (s *subsystem) allows(host string) bool {
	for _, h := range s.Hosts {
		if h.NQN == host {
			return true
		}
	}
	return s.AllowAnyHost
}
