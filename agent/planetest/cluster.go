package planetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/nvme"
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
}

// NewCluster returns a network without planes, on which there is no I/O.
func NewCluster() *Cluster {
	c := &Cluster{planes: map[string]*Plane{}, disks: map[string]*Medium{}, mirrored: map[string]*Medium{}}
	c.change = sync.NewCond(&c.mu)
	return c
}

// Medium is what is on a disk.
type Medium struct {
	Zero     bool   // reads as zeros
	Magic    string // what it starts with otherwise
	Cleared  int    // how many lvols on it have been given back
	Full     bool   // there is no space for what lvols on it are zeroed with
	Missing  bool   // nothing is at its path
	Serial   int    // tells it from another disk at its path
	store    *store
	striped  *Medium // of the raid whose first member this is
	mirrored *Medium // of the mirror that this is a leg of
	under    *Medium // of the disk that this lvol is on

	taken   string             // why its lvstore was given up
	stalled chan struct{}      // not nil: nothing on it is cleared until it is closed
	failed  map[string]uint64  // requests that the disk failed, as bdev_get_iostat calls them
	blocks  map[uint64]uint64  // numbers that were written, by byte offset
	raw     map[uint64][]byte  // blocks that are not numbers
	durable map[uint64]content // what a power cut may bring back, of blocks whose write is in the cache
	busy    time.Time          // until then the disk serves commands that came earlier
}

type store struct {
	name, uuid string
	cluster    uint64 // bytes
	total      uint64 // clusters
	lvols      map[string]*lvol
}

type lvol struct {
	name, uuid string
	clusters   uint64
	medium     *Medium
}

func (s *store) free() uint64 {
	n := s.total
	for _, l := range s.lvols {
		n -= l.clusters
	}
	return n
}

// Disk returns the aio disk of a file name.
func (c *Cluster) Disk(file string) *Medium {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disk(file)
}

func (c *Cluster) disk(file string) *Medium {
	m := c.disks[file]
	if m == nil {
		m = &Medium{Zero: true}
		c.disks[file] = m
	}
	return m
}

// Copy makes one aio disk a copy of another, as dd does.
func (c *Cluster) Copy(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	src, dst := *c.disk(from), c.disk(to)
	if src.store != nil {
		s := *src.store
		s.lvols = map[string]*lvol{}
		for name, l := range src.store.lvols {
			own := *l
			own.medium = &Medium{Zero: l.medium.Zero, blocks: maps.Clone(l.medium.blocks), raw: maps.Clone(l.medium.raw), under: dst}
			s.lvols[name] = &own
		}
		src.store = &s
	}
	src.blocks, src.raw = maps.Clone(src.blocks), maps.Clone(src.raw)
	*dst = src
}

// Swap puts another disk with the same contents at a path.
func (c *Cluster) Swap(file string, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Serial += by
}

// Lvols returns the names of the lvols on a medium, nil without an lvstore.
func (c *Cluster) Lvols(m *Medium) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.store == nil {
		return nil
	}
	names := []string{}
	for n := range m.store.lvols {
		names = append(names, n)
	}
	return names
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
	hook    func(method string, params map[string]any) error
	hidden  string // a method that it lacks
	version [2]int // what it says it is
	bdevs   map[string]*bdev
	ctrlrs  map[string]*ctrlr
	raids   map[string]*raid
	mirrors map[string]*spdk.Mirror
	subs    map[string]*subsystem
	ana     map[string]string
	retired map[string]bool // subsystems whose hosts are told not to come back
	real    *mirrors        // of this run, on a live cluster; nil: the plane has none
}

type bdev struct {
	name, product, uuid string
	aliases             []string
	blocks              uint64
	medium              *Medium
	claimed             bool
	loaded              *store // lvstore opened on it
}

type ctrlr struct {
	name, addr, nqn, host string
	path                  *Initiator // on a live cluster
	disabled              bool
}

type raid struct {
	spdk.RaidCreate
}

type subsystem struct {
	spdk.NvmfSubsystem
	ana   bool
	conns map[*conn]bool // on a live cluster
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
	p.mirrors = map[string]*spdk.Mirror{}
	p.subs, p.ana = map[string]*subsystem{}, map[string]string{}
	p.retired = map[string]bool{}
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

// rawDisk implements agent.RawDisk.
type rawDisk struct {
	c *Cluster
	b *bdev
}

// OpenRaw is for agent.Plane.
func (c *Cluster) OpenRaw(_ context.Context, at spdk.TransportID, subNQN, hostNQN string) (agent.RawDisk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.reach(at.TrAddr+":"+at.TrSvcID, subNQN, hostNQN)
	if err != nil || b == nil {
		return nil, fmt.Errorf("raw disk: %w", err)
	}
	return &rawDisk{c, b}, nil
}

func (d *rawDisk) Size() uint64 { return d.b.blocks * 4096 }

func (d *rawDisk) Zero(_ context.Context, progress func(uint64)) error {
	time.Sleep(5 * time.Millisecond)
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	under := d.b.medium.under
	if under != nil && under.Full {
		return nvme.CapacityExceeded | nvme.DNR
	}
	*d.b.medium = Medium{Zero: true, under: under}
	if progress != nil {
		progress(d.Size())
	}
	return nil
}

func (d *rawDisk) Clear(ctx context.Context, progress func(uint64)) error {
	d.c.mu.Lock()
	under := d.b.medium.under
	stalled := chan struct{}(nil)
	if under != nil {
		stalled = under.stalled
	}
	d.c.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	*d.b.medium = Medium{Zero: true, under: under}
	if under != nil {
		under.Cleared++
	}
	if progress != nil {
		progress(d.Size())
	}
	return nil
}

// Fill makes a disk one that has no space for what it has promised, or has it
// again.
func (c *Cluster) Fill(file string, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Full = full
}

// Ail sets how many requests a disk has failed so far, as bdev_get_iostat
// calls them.
func (c *Cluster) Ail(file string, by map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).failed = by
}

// Take has the data plane give up the lvstore on a disk, "" takes that back.
func (c *Cluster) Take(file, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).taken = why
}

// Stall has a disk not answer those who clear lvols on it, until release.
func (c *Cluster) Stall(file string) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stalled := make(chan struct{})
	c.disk(file).stalled = stalled
	return sync.OnceFunc(func() { close(stalled) })
}

// Cleared returns how many lvols on a disk have been given back.
func (c *Cluster) Cleared(file string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disk(file).Cleared
}

func (d *rawDisk) Close() error { return nil }

func newUUID(text string) string {
	if id, err := uuid.Parse(text); err == nil {
		return id.String()
	}
	return uuid.NewString()
}
