package planetest

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	block "github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

const blockSize = 4096

// mirrors are the mirrors of a live plane for one run of it: the data plane's own
// module, on legs that are the model's connections.
type mirrors struct {
	reg   *block.Registry
	mod   *mirror.Module
	users map[string]*block.Handle // by mirror; what stands on it uses this one
}

func newMirrors() *mirrors {
	reg := block.NewRegistry()
	return &mirrors{reg: reg, mod: mirror.New(reg, Log()), users: map[string]*block.Handle{}}
}

// die ends the mirrors of a process that is dead already: nothing of what they do
// reaches a leg any more.
func (m *mirrors) die() {
	users := m.users
	m.users = map[string]*block.Handle{}
	go func() {
		for name, h := range users {
			h.Close()
			go func() { _ = m.mod.Delete(name) }()
		}
	}()
}

// legDevice is a connection to a vd as the module sees it. Requests on it run side
// by side and end in any order.
type legDevice struct {
	p   *Plane
	run int
	b   *bdev
}

func (d *legDevice) Info() block.Info {
	return block.Info{Name: d.b.name, Product: d.b.product, UUID: uuid.New(), BlockSize: blockSize, Blocks: d.b.blocks, WriteCache: true,
		UnmapZeroes: true, Ops: block.Ops(block.OpRead, block.OpWrite, block.OpFlush)}
}

func (d *legDevice) Close() error { return nil }

func (d *legDevice) Submit(r *block.Request, b *block.Batch) {
	if !r.Retain() {
		r.Complete(nvme.CommandInterrupted, b)
		return
	}
	go d.carryOut(r)
}

func (d *legDevice) carryOut(r *block.Request) {
	cmd := Command{Write: r.Op == block.OpWrite, flush: r.Op == block.OpFlush, cached: !r.FUA, Off: r.Offset * blockSize,
		data: make([]byte, r.Blocks*blockSize)}
	v := block.IovAt(r.Iov, 0)
	if cmd.Write {
		v.Gather(cmd.data)
	}
	c, status := d.p.c, PathError
	c.mu.Lock()
	if d.p.run == d.run && d.p.bdevs[d.b.name] == d.b {
		_, status = d.p.io(d.b, cmd)
	}
	if d.p.run != d.run {
		status = PathError
	}
	if status == OK && r.Op == block.OpRead {
		v.Scatter(cmd.data)
	}
	c.mu.Unlock()
	b := block.Batch{}
	switch status {
	case OK:
		r.Complete(nvme.Success, &b)
	case MediaError:
		r.Complete(nvme.WriteFault, &b)
	default:
		r.Complete(nvme.InternalPathError, &b)
	}
	b.Flush()
}

// connected gives the module a leg. The lock is held.
func (p *Plane) connected(b *bdev) error {
	if p.real == nil {
		return nil
	}
	return p.real.reg.Register(&legDevice{p: p, run: p.run, b: b})
}

// disconnected takes a leg from the module, and returns when it has let go of it.
// The lock is held, and given up meanwhile.
func (p *Plane) disconnected(name string) {
	if m := p.real; m != nil {
		p.c.mu.Unlock()
		_ = m.reg.Unregister(name)
		p.c.mu.Lock()
	}
}

// mirrored is a command of one block at a mirror. The lock is held, and given up
// meanwhile.
func (p *Plane) mirrored(b *bdev, cmd Command) (uint64, Status) {
	run, m := p.run, p.real
	h := m.users[b.name]
	if h == nil {
		return 0, PathError
	}
	buf := make([]byte, blockSize)
	op := block.OpRead
	if cmd.Write {
		op = block.OpWrite
		binary.LittleEndian.PutUint64(buf, cmd.Value)
	}
	p.c.mu.Unlock()
	done := make(chan nvme.Status, 1)
	r := &block.Request{Op: op, FUA: cmd.Write && !cmd.Volatile, Offset: cmd.Off / blockSize, Blocks: 1, Iov: [][]byte{buf}}
	if cmd.Flush {
		r = &block.Request{Op: block.OpFlush}
	}
	r.Done = func(r *block.Request, _ *block.Batch) { done <- r.Status }
	batch := block.Batch{}
	h.Submit(r, &batch)
	batch.Flush()
	status := <-done
	value := binary.LittleEndian.Uint64(buf)
	if acked := p.c.live.Acked; acked != nil && status == nvme.Success && cmd.Write && !cmd.meta {
		acked(strings.TrimPrefix(b.name, vda.MirrorPrefix), cmd.Off, cmd.Value)
	}
	p.c.mu.Lock()
	switch {
	case p.run != run:
		return 0, pending
	case status == nvme.Success:
		return value, OK
	case status.IsPath():
		return 0, PathError
	}
	return 0, MediaError
}

// liveMirrorMethods are those of live planes.
var liveMirrorMethods = map[string]handler{
	"vda_mirror_create":      {true, (*Plane).createLiveMirror},
	"vda_mirror_set":         {true, (*Plane).setLiveMirror},
	"vda_mirror_delete":      {true, (*Plane).deleteLiveMirror},
	"vda_mirror_get_bdevs":   {false, (*Plane).getLiveMirrors},
	"vda_mirror_wait":        {false, (*Plane).waitLiveMirror},
	"vda_mirror_watch":       {false, (*Plane).watchLiveMirrors},
	"vda_mirror_set_options": {true, (*Plane).setMirrorOptions},
}

// outside does something of the module's without the lock, which is held.
func (p *Plane) outside(f func(ctx context.Context) error) error {
	run := p.run
	p.c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	err := f(ctx)
	cancel()
	p.c.mu.Lock()
	if p.run != run {
		return errIO
	}
	return answer(err)
}

// answer is an error as vda_tgt answers it.
func answer(err error) error {
	var e syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return jsonrpc.Errno(e, err.Error())
	}
	return jsonrpc.Errno(syscall.EIO, err.Error())
}

func legsOf(legs []spdk.MirrorLeg) (out []mirror.LegConfig) {
	for _, l := range legs {
		role, _ := mirror.RoleOf(string(l.Role))
		c := mirror.LegConfig{VD: label.ID(uuid.MustParse(l.VD)), Bdev: l.Bdev, Role: role, Bare: l.Bare}
		if l.Epoch != "" {
			c.Epoch = label.ID(uuid.MustParse(l.Epoch))
		}
		out = append(out, c)
	}
	return out
}

func (p *Plane) createLiveMirror(a *params) (any, error) {
	ms := p.real
	cfg := mirror.Config{Name: a.Name, DA: label.ID(uuid.MustParse(a.DA)), Mirror: label.ID(uuid.MustParse(a.Mirror)), DataSize: a.Size,
		Term: a.Term, Gen: a.Gen, Legs: legsOf(a.Legs), Fresh: a.Fresh, CopyRate: p.copyRate(a.CopyMB),
		Recovered: a.recovered(), Break: p.c.live.Break}
	var m *mirror.Mirror
	var h *block.Handle
	err := p.outside(func(ctx context.Context) (err error) {
		if m, err = ms.mod.Create(ctx, cfg); err != nil {
			return err
		}
		h, err = ms.reg.Open(a.Name, nil)
		return err
	})
	if err != nil {
		if h != nil { // the process has died meanwhile
			h.Close()
			go func() { _ = ms.mod.Delete(a.Name) }()
		}
		return nil, err
	}
	ms.users[a.Name] = h
	// What stands on the mirror is not on its first leg alone: that may be deleted when another has taken its place.
	medium := p.c.mirrored[a.Mirror]
	if medium == nil {
		medium = &Medium{Zero: true}
		p.c.mirrored[a.Mirror] = medium
	}
	if err := p.add(&bdev{name: a.Name, product: "Mirror", blocks: a.Size / blockSize, medium: medium}); err != nil {
		return nil, err
	}
	return p.shown(m.Status()), nil
}

func (p *Plane) setLiveMirror(a *params) (any, error) {
	m, err := p.real.mod.Find(a.Name)
	if err != nil {
		return nil, answer(err)
	}
	m.SetRecovered(a.recovered())
	if err := p.outside(func(ctx context.Context) error { return m.Set(ctx, a.Term, a.Gen, legsOf(a.Legs)) }); err != nil {
		return nil, err
	}
	return p.shown(m.Status()), nil
}

func (p *Plane) deleteLiveMirror(a *params) (any, error) {
	ms := p.real
	h := ms.users[a.Name]
	if h == nil {
		return nil, errNoDev
	}
	delete(ms.users, a.Name)
	if b := p.bdevs[a.Name]; b != nil {
		p.remove(b)
	}
	return true, p.outside(func(context.Context) error {
		h.Close()
		return ms.mod.Delete(a.Name)
	})
}

func (p *Plane) getLiveMirrors(a *params) (any, error) {
	list := []mirror.Status{}
	for _, m := range p.real.mod.List() {
		if s := p.shown(m.Status()); a.Name == "" || a.Name == s.Name {
			list = append(list, s)
		}
	}
	if a.Name != "" && len(list) == 0 {
		return nil, errNoDev
	}
	return list, nil
}

func (p *Plane) waitLiveMirror(a *params) (any, error) {
	m, err := p.real.mod.Find(a.Name)
	if err != nil {
		return nil, answer(err)
	}
	var s mirror.Status
	err = p.outside(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(a.TimeoutMS)*time.Millisecond)
		defer cancel()
		s = m.Wait(ctx, a.Changes)
		return nil
	})
	return p.shown(s), err
}

func (p *Plane) watchLiveMirrors(a *params) (any, error) {
	var n mirror.News
	ms := p.real
	err := p.outside(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(a.TimeoutMS)*time.Millisecond)
		defer cancel()
		n = ms.mod.Wait(ctx, a.Changes)
		return nil
	})
	for i := range n.Mirrors {
		n.Mirrors[i] = p.shown(n.Mirrors[i])
	}
	return n, err
}

func (p *Plane) setMirrorOptions(a *params) (any, error) {
	if m, err := p.real.mod.Find(a.Name); err == nil {
		rate := p.copyRate(a.CopyMB)
		return true, p.outside(func(context.Context) error { m.SetCopyRate(rate); return nil })
	}
	return true, nil
}

// recovered is up to which gen labels may have all members catching up; an agent of before does
// not say.
func (a *params) recovered() uint64 {
	if a.Recovered == nil {
		return math.MaxUint64
	}
	return *a.Recovered
}

// copyRate is what a mirror copies per second: what it is told, else what the test says
// of all. The latter is no bound as far as an agent is shown.
func (p *Plane) copyRate(mb uint32) uint64 {
	if mb == 0 {
		return p.c.live.CopyRate
	}
	return uint64(mb) << 20
}

// shown is a mirror's status as an agent sees it.
func (p *Plane) shown(s mirror.Status) mirror.Status {
	if s.CopyMB == p.c.live.CopyRate>>20 {
		s.CopyMB = 0
	}
	return s
}

// byPlane has live planes answer in their way, and others in theirs, if they have one.
func byPlane(live, other handler) handler {
	return handler{live.changes, func(p *Plane, a *params) (any, error) {
		if p.real != nil {
			return live.call(p, a)
		}
		return other.call(p, a)
	}}
}
