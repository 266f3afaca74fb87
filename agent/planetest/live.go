package planetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// Live is what I/O and the connections between planes need of the world.
type Live struct {
	// Path is how long a message takes from one machine to another, and
	// whether it arrives at all. Called with the cluster's lock held.
	Path func(from, to string) (time.Duration, bool)
	// Service is how long a machine's disk is busy with one command.
	Service func(addr string) time.Duration
	// Meets, when not nil, decides what a command meets at a disk that has served
	// those before it. Called with the cluster's lock held.
	Meets func(a Access) Fate
	// Wrote hears of every command that changes a disk, when it does. host is
	// the NQN of the connection that the command came in by, "" when it came
	// from the plane itself.
	Wrote func(addr, nqn, host string)
	// NoFence has the removal of a host leave its connections alone, and
	// NoSettle return while its commands are still under way: for tests that
	// this is found out.
	NoFence, NoSettle bool
	// ForGood has planes refuse for good who comes for a subsystem that is not
	// there or does not admit him, as vda_tgt and Linux's target do it or did: for
	// tests that this is found out.
	ForGood bool
	// NoCopy has writes of what a snapshot shows change that, too, and OldData what is added to a
	// volume show what the disks have there, likewise.
	NoCopy, OldData bool
	// NoFill has a write to a part of what a clone does not have yet make zeros of the rest, and
	// ZeroOutside what a clone cannot read at the moment be zeros, likewise.
	NoFill, ZeroOutside bool
	// NoProof has subsystems let hosts in that do not prove themselves by the key that they have to, likewise.
	NoProof bool
	// NoRoom has an lvstore on more disks not have more room, likewise.
	NoRoom bool
	// NoHold has an lvol's I/O go on while it is said to be held for snapshots of several.
	NoHold bool
	// DiskBytes is the size of each aio disk. Default: the constant of that name.
	DiskBytes uint64
	// CopyRate bounds what a mirror copies and repairs, and CloneRate what a clone copies, in bytes per
	// second; 0: no bound.
	CopyRate, CloneRate uint64
	// Break is a rule of mirrors that is left out, likewise.
	Break core.Breach
	// Acked hears of every block that a mirror acknowledges, before anyone else
	// does: off is in bytes of the mirror. Called without locks.
	Acked func(mirror string, off, value uint64)
	// Admitted hears of every host that a subsystem admits.
	Admitted func(addr, nqn, host string)
	// Removed hears of every subsystem that is removed while its plane runs.
	Removed func(addr string, sub spdk.NvmfSubsystem)
}

// Access is a command at a disk.
type Access struct {
	Addr  string // of the machine
	NQN   string // of the vd's subsystem
	Write bool
	Flush bool
	Off   uint64 // on the vd, in bytes
	Len   uint64 // in bytes
	// Number is what a write brings to a block of data.
	Number uint64
}

// Fate is what a command meets at a disk.
type Fate uint8

// The fates of commands.
const (
	Serve Fate = iota
	Wait       // as long as Meets says so, or until the data plane dies
	Fail       // with a media error; nothing is written
)

// NewLive returns a cluster whose planes do I/O and keep connections. It needs
// no socket: for a bubble of testing/synctest.
func NewLive(l Live) *Cluster {
	c := NewCluster()
	c.live = &l
	return c
}

// Place makes a plane on a machine; Boot starts it.
func (c *Cluster) Place(addr string, swaps bool) *Plane {
	return &Plane{c: c, addr: addr, swaps: swaps}
}

// changed wakes all that wait. The lock is held.
func (c *Cluster) changed() { c.change.Broadcast() }

// sleep gives the lock up for a while.
func (c *Cluster) sleep(d time.Duration) {
	c.mu.Unlock()
	time.Sleep(d)
	c.mu.Lock()
}

func (c *Cluster) admitted(p *Plane, nqn, host string) {
	if c.live != nil {
		c.live.Admitted(p.addr, nqn, host)
	}
}

// removed takes a subsystem away. The lock is held.
func (p *Plane) removed(s *subsystem) error {
	delete(p.subs, s.NQN)
	delete(p.ana, s.NQN)
	if p.c.live != nil && p.c.live.Removed != nil {
		p.c.live.Removed(p.addr, s.NvmfSubsystem)
	}
	return p.shut(s, func(string) bool { return true })
}

// Hang stops the plane where it is, like SIGSTOP, until it is called again
// with false. What its disks were told they still do.
func (p *Plane) Hang(on bool) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.hung = on && p.up
	p.c.changed()
}

// awake waits until the plane runs on; false when it was killed since run.
func (p *Plane) awake(run int) bool {
	for p.hung && p.run == run {
		p.c.change.Wait()
	}
	return p.run == run
}

// touch is I/O of the plane's own on the metadata of a bdev.
func (p *Plane) touch(b *bdev, write bool) error {
	if p.c.live == nil {
		return nil
	}
	run := p.run
	if _, status := p.io(b, Command{Write: write, meta: true}); status != OK || p.run != run {
		return errIO
	}
	return nil
}

// connect makes the connection of a controller, or one more of a controller that there is, and
// returns the namespace.
func (p *Plane) connect(c *ctrlr, a *params, of *ctrlr) (*bdev, error) {
	if p.c.live == nil {
		if q := p.c.planes[c.addr]; q != nil && !q.proven(c.nqn, c.host, p.secrets(c.keys)) {
			return nil, errors.New("authentication failed")
		}
		return p.c.reach(c.addr, c.nqn, c.host)
	}
	cfg := Target{keys: c.keys, Addr: c.addr, NQN: c.nqn, Host: c.host, Silence: p.silence, Reconnect: time.Second, FastFail: -1}
	if a.FailAtOnce || c.multi { // I/O waits for any path then
		cfg.FastFail = 0
	} else if a.FastFailSec != nil {
		cfg.FastFail = time.Duration(*a.FastFailSec) * time.Second
	}
	run := p.run
	i := p.initiator(cfg)
	if !i.dial() || p.run != run || p.ctrlrs[c.name] != of {
		i.close()
		return nil, errors.New("no connection")
	}
	c.path = i
	go i.keep()
	return p.c.reach(c.addr, c.nqn, c.host)
}

// client is an agent.Client without a socket between.
type client struct{ p *Plane }

// Direct returns a client whose calls wait and fail as those over a socket.
func (p *Plane) Direct() agent.Client { return client{p} }

func (c client) Close() error { return nil }

// StartID implements agent.Client.
func (c client) StartID(context.Context) (string, error) {
	c.p.c.mu.Lock()
	defer c.p.c.mu.Unlock()
	if !c.p.up {
		return "", spdk.ErrUnreachable
	}
	return fmt.Sprintf("run-%d", c.p.run), nil
}

// Call implements spdk.Caller. A call whose caller has given up is carried out
// all the same.
func (c client) Call(ctx context.Context, method string, params, result any) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	if params == nil {
		raw = nil
	}
	type answer struct {
		text json.RawMessage
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := c.p.direct(method, raw)
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		if a.err != nil || result == nil {
			return a.err
		}
		return json.Unmarshal(a.text, result)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Plane) direct(method string, raw json.RawMessage) (json.RawMessage, error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	run := p.run
	if !p.up {
		return nil, spdk.ErrUnreachable
	}
	p.c.sleep(200 * time.Microsecond)
	if !p.awake(run) {
		return nil, spdk.ErrLost
	}
	h, ok := methods[method]
	if !ok || !p.has(method) {
		return nil, &spdk.RPCError{Code: jsonrpc.CodeMethodNotFound, Message: "Method not found", Method: method}
	}
	named := p.takesName(method, raw)
	text, err := json.RawMessage(nil), p.hooked(method, raw)
	named()
	if err == nil {
		text, err = p.carryOut(h, raw)
		p.noteAsked(method, raw, text)
	}
	if !p.awake(run) {
		return nil, spdk.ErrLost
	}
	var refused *jsonrpc.Error
	if errors.As(err, &refused) {
		return nil, &spdk.RPCError{Code: refused.Code, Message: refused.Message, Data: refused.Data, Method: method}
	}
	return text, err
}

// takesName has the name of a snapshot be taken while a hook holds up the call that takes
// it, until the function that it returns is called.
func (p *Plane) takesName(method string, raw json.RawMessage) (done func()) {
	var a params
	if method != "bdev_lvol_snapshot" || json.Unmarshal(raw, &a) != nil {
		return func() {}
	}
	pending := p.pending
	pending[a.SnapshotName]++
	return func() { pending[a.SnapshotName]-- }
}

// hooked calls the hook, without the lock, which is held.
func (p *Plane) hooked(method string, raw json.RawMessage) error {
	hook := p.hook
	if hook == nil {
		return nil
	}
	p.c.mu.Unlock()
	defer p.c.mu.Lock()
	var m map[string]any
	_ = json.Unmarshal(raw, &m)
	return hook(method, m)
}

// Blank makes the aio disk of a file name one that reads as zeros.
func (c *Cluster) Blank(file string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Zero = true
}
