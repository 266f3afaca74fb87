package planetest

import (
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// Command reads or writes one block, in which a number stands.
type Command struct {
	Write bool
	Off   uint64 // bytes
	Value uint64
	// Volatile says of a write to a mirrored array that it may stay in write caches
	// until there is a Flush, which is neither read nor write.
	Volatile, Flush bool

	data   []byte // not nil: of so many blocks, which are written from it or read into it
	flush  bool   // what is in the disk's write cache becomes durable
	cached bool   // data may stay in the write cache
	meta   bool   // of the plane's own; changes no block
	nqn    string // of the subsystem it came in by
	host   string // of the connection it came in by
	by     *conn  // which is that, as long as nothing stands between
}

// Status is how a command ended.
type Status string

// The statuses of commands. Hosts try again elsewhere after PathError and
// Inaccessible.
const (
	OK           Status = "ok"
	PathError    Status = "path error"
	Inaccessible Status = "ana inaccessible"
	NoNamespace  Status = "invalid namespace"
	MediaError   Status = "media error"

	WriteProtected   Status = "namespace is write protected"
	CapacityExceeded Status = "capacity exceeded"

	pending Status = ""
)

type reply struct {
	value  uint64
	status Status
}

// send puts a command on the connection. The lock is held.
func (k *conn) send(cmd Command) *reply {
	r := &reply{}
	c := k.to.c
	delay, _ := c.live.Path(k.from.p.addr, k.to.addr)
	if at := time.Now().Add(delay); at.After(k.last) {
		k.last = at
	}
	at, seq := k.last, k.sent
	k.sent++
	cmd.nqn, cmd.host, cmd.by = k.from.NQN, k.from.Host, k
	go func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sleep(time.Until(at))
		if !k.arrives(seq) {
			return
		}
		k.inflight++
		value, status := k.to.serve(cmd)
		k.inflight--
		c.changed()
		if k.to.run != k.run || k.lost {
			return
		}
		if k.returns() {
			r.value, r.status = value, status
			c.changed()
		}
	}()
	return r
}

// arrives waits until a message, and those before it, got through to a target
// that takes it; false when it never will. What has got through to a target
// that hangs is in its machine's buffers, and is taken after the hang whatever
// has become of its sender, unless its keep alive time has run out: vda_tgt
// looks at that first.
func (k *conn) arrives(seq uint64) bool {
	c := k.to.c
	for seq != k.arrived || !c.open(k.from.p.addr, k.to.addr) {
		switch {
		case k.lost, k.closed, k.to.run != k.run, k.from.over():
			return false
		case seq != k.arrived:
			c.change.Wait()
		default:
			c.sleep(retransmit)
		}
	}
	if k.lost || k.closed || k.to.run != k.run || k.from.over() {
		return false
	}
	k.arrived++
	c.changed()
	for k.to.run == k.run && (k.to.hung || seq != k.taken) {
		c.change.Wait()
	}
	k.taken = seq + 1
	if time.Since(k.heard) > k.from.Silence {
		k.closed = true // the keep alive time ran out meanwhile
	}
	c.changed()
	return k.to.run == k.run && !k.closed
}

// gone reports that the target knows that it has lost the other end.
func (k *conn) gone() bool {
	return k.closed || k.lost && k.to.c.open(k.from.p.addr, k.to.addr) || time.Since(k.heard) > k.from.Silence
}

func (c *Cluster) open(from, to string) bool {
	_, ok := c.live.Path(from, to)
	return ok
}

// returns waits until a reply got back; false when it never will.
func (k *conn) returns() bool {
	c := k.to.c
	delay, _ := c.live.Path(k.to.addr, k.from.p.addr)
	c.sleep(delay)
	for {
		_, ok := c.live.Path(k.to.addr, k.from.p.addr)
		switch {
		case k.lost, k.closed, k.to.run != k.run, k.from.over():
			return false
		case ok && !k.to.hung && !k.from.p.hung:
			return true
		case !ok:
			c.sleep(retransmit)
		default:
			c.change.Wait()
		}
	}
}

// shut closes the connections of hosts and returns when their commands have
// settled.
func (p *Plane) shut(s *subsystem, whose func(host string) bool) error {
	if p.c.live != nil && p.c.live.NoFence {
		return nil
	}
	run := p.run
	for k := range s.conns {
		if whose(k.from.Host) {
			k.closed = true
			k.from.nudge()
			p.c.changed()
		}
	}
	for k := range s.conns {
		for k.closed && k.inflight > 0 && p.run == run && !p.c.live.NoSettle {
			p.c.change.Wait()
		}
		if k.closed {
			delete(s.conns, k)
		}
	}
	if p.run != run {
		return errIO
	}
	return nil
}

// tellANA sends a subsystem's ANA state to all that are connected.
func (p *Plane) tellANA(s *subsystem) {
	for k := range s.conns {
		go func() {
			p.c.mu.Lock()
			defer p.c.mu.Unlock()
			if k.returns() {
				k.from.ana = p.ana[s.NQN]
				p.c.changed()
			}
		}()
	}
}

// serve is a command at a subsystem.
func (p *Plane) serve(cmd Command) (uint64, Status) {
	run := p.run
	s := p.subs[cmd.nqn]
	switch {
	case s == nil:
		return 0, PathError
	case s.ana && p.ana[s.NQN] != spdk.ANAOptimized && p.ana[s.NQN] != spdk.ANANonOptimized:
		return 0, Inaccessible
	case len(s.Namespaces) == 0 && p.swaps:
		return 0, Inaccessible // vda_tgt: the namespace waits for a bdev
	case len(s.Namespaces) == 0:
		return 0, NoNamespace
	}
	b := p.bdev(s.Namespaces[0].BdevName)
	if b == nil {
		return 0, PathError
	}
	if cmd.Write && b.readOnly {
		return 0, WriteProtected
	}
	value, status := p.io(b, cmd)
	if p.run != run {
		return 0, pending
	}
	return value, status
}

// io is a command at a bdev. The lock is held, and given up while it waits.
func (p *Plane) io(b *bdev, cmd Command) (uint64, Status) {
	for {
		switch b.product {
		case "NVMe disk":
			c := p.ctrlrs[strings.TrimSuffix(b.name, "n1")]
			if c == nil {
				return 0, PathError
			}
			if c.multi {
				return p.anyPath(c, cmd)
			}
			return c.path.submit(cmd)
		case "Mirror":
			return p.mirrored(b, cmd)
		case "Raid Volume":
			cmd.by = nil
			if b = p.member(b, &cmd); b == nil {
				return 0, PathError
			}
			continue
		case "Logical Volume":
			base, s := p.under(b)
			if base == nil {
				return 0, PathError
			}
			if base.product == "Raid Volume" {
				return p.shared(b, base, s, cmd)
			}
		}
		return p.media(b, cmd)
	}
}

// member is the bdev of a raid that a command goes to.
func (p *Plane) member(b *bdev, cmd *Command) *bdev {
	r := p.raids[b.name]
	if r == nil {
		return nil
	}
	if r.RaidLevel == "concat" {
		for _, name := range r.BaseBdevs {
			m := p.bdevs[name]
			if m == nil || cmd.Off < m.blocks*4096 {
				return m
			}
			cmd.Off -= m.blocks * 4096
		}
		return nil
	}
	size, n := uint64(r.StripSizeKB)<<10, uint64(len(r.BaseBdevs))
	strip := cmd.Off / size
	cmd.Off = strip/n*size + cmd.Off%size
	return p.bdevs[r.BaseBdevs[strip%n]]
}

// under is the bdev below an lvol, and the lvstore between.
func (p *Plane) under(b *bdev) (*bdev, *store) {
	if b.of == nil {
		return nil, nil
	}
	return p.storeNamed(b.of.name)
}

// media is a command at a disk, which serves one after the other.
func (p *Plane) media(b *bdev, cmd Command) (uint64, Status) {
	run, m := p.run, b.medium
	if now := time.Now(); m.busy.Before(now) {
		m.busy = now
	}
	m.busy = m.busy.Add(p.c.live.Service(p.addr))
	p.c.sleep(time.Until(m.busy))
	fate := p.meets(run, cmd)
	if p.run != run {
		return 0, pending
	}
	if fate == Fail {
		p.awake(run)
		return 0, MediaError
	}
	if cmd.Write {
		p.c.live.Wrote(p.addr, cmd.nqn, cmd.host)
	}
	switch {
	case cmd.meta:
	case cmd.data != nil:
		m.carry(cmd)
	case cmd.Write:
		m.put(cmd.Off, content{number: cmd.Value}, false)
	}
	value := m.blocks[cmd.Off]
	p.awake(run)
	return value, OK
}

// meets returns what a command meets at a disk, when it has waited.
func (p *Plane) meets(run int, cmd Command) (fate Fate) {
	if p.c.live.Meets == nil || cmd.meta {
		return Serve
	}
	a := Access{Addr: p.addr, NQN: cmd.nqn, Write: cmd.Write, Flush: cmd.flush, Off: cmd.Off, Len: blockSize, Number: cmd.Value}
	if cmd.data != nil {
		a.Len = uint64(len(cmd.data))
	}
	if cmd.Write && a.Len == blockSize && cmd.data != nil {
		a.Number = contentOf(cmd.data).number
	}
	for p.run == run {
		if fate = p.c.live.Meets(a); fate != Wait {
			break
		}
		p.c.sleep(time.Millisecond)
	}
	return fate
}
