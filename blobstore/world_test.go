package blobstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// world runs operations on a store and on a model of it side by side.
type world struct {
	t     testing.TB
	dev   *crashDevice
	base  *bdev.Handle
	store *Store
	pick  func(n int) int // chooses 0 to n-1
	ops   []int           // of step; nil: all
	short bool            // all blobs are a few clusters long

	model model
	tag   uint64
	trace []string
}

// model is what the blobs should be, by name.
type model map[string]*modelBlob

type modelBlob struct {
	thin, ro bool
	parent   string
	blocks   []block
}

// block is what a block may hold: the last of the tags, or after a cut any of
// them; with any, or without tags, anything. Tag 0 is zeros.
type block struct {
	tags []uint64
	any  bool
}

const (
	testCluster = 2 * format.PageSize
	perCluster  = testCluster / format.PageSize
)

func (m model) clone() model {
	n := model{}
	for k, b := range m {
		c := *b
		c.blocks = slices.Clone(b.blocks)
		n[k] = &c
	}
	return n
}

func (m model) clones(name string) []string {
	var out []string
	for k, b := range m {
		if b.parent == name {
			out = append(out, k)
		}
	}
	return out
}

func (m model) names() []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func openDevice(t testing.TB, d *crashDevice) *bdev.Handle {
	reg := bdev.NewRegistry()
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	h, err := reg.Open("crash", nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newWorld(t testing.TB, bytes int, pick func(int) int) *world {
	w := &world{t: t, pick: pick, model: model{}}
	w.dev = newCrashDevice(bytes)
	w.base = openDevice(t, w.dev)
	var err error
	if w.store, err = Format(w.base, Config{Type: "TEST", ClusterSize: testCluster, MDPages: 256,
		PageBytes: format.PageSize << pick(2)}); err != nil {
		t.Fatal(err)
	}
	w.store.log = slog.New(slog.DiscardHandler)
	return w
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"))
}

func (w *world) blob(name string) *Blob {
	for _, b := range w.store.Blobs() {
		if v, _ := b.Xattr("name"); string(v) == name {
			return b
		}
	}
	return nil
}

func named(name string) []format.Xattr { return []format.Xattr{{Name: "name", Value: []byte(name)}} }

// io runs one request.
func (w *world) io(b *Blob, op bdev.Op, at, n uint64, data []byte) nvme.Status {
	done := make(chan nvme.Status, 1)
	r := &bdev.Request{Op: op, Offset: at, Blocks: n, Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
	if data != nil {
		r.Iov = [][]byte{data[:len(data)/2], data[len(data)/2:]}
	}
	var batch bdev.Batch
	b.Submit(r, &batch)
	batch.Flush()
	return <-done
}

func tagged(tag uint64) []byte {
	p := make([]byte, format.PageSize)
	for i := 0; i < format.PageSize; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], tag)
	}
	return p
}

// step does one operation, chosen by pick. It returns the model for the case
// that the operation took no effect; w.model is for the case that it did.
// failed: the device died.
func (w *world) step() (before model, failed bool) {
	names := w.model.names()
	before = w.model.clone()
	name := ""
	if len(names) > 0 {
		name = names[w.pick(len(names))]
	}
	m := w.model[name]
	var err error
	expect := syscall.Errno(0)
	op := 0
	if w.ops != nil {
		op = w.ops[w.pick(len(w.ops))]
	} else {
		op = w.pick(20)
	}
	switch {
	case m == nil || (op == 0 && len(names) < 8):
		err = w.create()
	case op == 1:
		expect, err = w.snapshot(name, m)
	case op == 2:
		expect, err = w.cloneOf(name, m)
	case op == 3 || op == 4:
		expect, err = w.remove(name, m)
	case op == 5:
		expect, err = w.resize(name, m)
	case op == 6:
		expect, err = w.inflate(name, m, true)
	case op == 7:
		expect, err = w.inflate(name, m, false)
	case op == 8:
		w.trace = append(w.trace, "reload")
		err = w.reload()
	case op == 9:
		w.trace = append(w.trace, "flush")
		if s := w.io(w.blob(name), bdev.OpFlush, 0, 0, nil); s != nvme.Success {
			err = s
		} else {
			w.settled()
		}
	default:
		err = w.data(name, m, op)
	}
	if w.dev.dead || w.dev.failed {
		return before, true
	}
	if expect == 0 && err != nil && errors.Is(err, syscall.ENOSPC) {
		w.model = before
		return before, false
	}
	if (expect == 0 && err != nil) || (expect != 0 && !errors.Is(err, expect)) {
		w.failf("error %v, want errno %v", err, expect)
	}
	return before, false
}

// settled: a flush leaves each block its last contents.
func (w *world) settled() {
	for _, b := range w.model {
		for i := range b.blocks {
			if t := b.blocks[i].tags; len(t) > 0 {
				b.blocks[i] = block{tags: t[len(t)-1:]}
			}
		}
	}
}

func (w *world) newName() string {
	w.tag++
	return fmt.Sprintf("b%d", w.tag)
}

func (w *world) create() error {
	name, thin := w.newName(), w.pick(3) > 0
	n := w.length(40, 8, 500)
	w.trace = append(w.trace, fmt.Sprintf("create %s %d thin=%v", name, n, thin))
	m := &modelBlob{thin: thin, blocks: make([]block, n*perCluster)}
	m.blank(0)
	w.model[name] = m
	// What a blob leaves behind is what another must not show.
	clear := []format.ClearMethod{format.ClearDefault, format.ClearNone}[w.tag%2]
	_, err := w.store.CreateBlob(BlobConfig{Clusters: n, Thin: thin, Clear: clear, Xattrs: named(name)})
	return err
}

// length chooses clusters below most, and rarely so many more.
func (w *world) length(most, rarely int, more uint64) uint64 {
	if w.short {
		return uint64(w.pick(8))
	}
	n := uint64(w.pick(most))
	if w.pick(rarely) == 0 {
		n += more
	}
	return n
}

// blank sets what new blocks hold.
func (m *modelBlob) blank(from uint64) {
	for i := from; i < uint64(len(m.blocks)); i++ {
		m.blocks[i] = block{any: true}
		if m.thin {
			m.blocks[i] = block{tags: []uint64{0}}
		}
	}
}

func (w *world) snapshot(name string, m *modelBlob) (syscall.Errno, error) {
	snap := w.newName()
	w.trace = append(w.trace, "snapshot "+name+" as "+snap)
	_, err := w.blob(name).Snapshot(named(snap))
	if m.ro {
		return syscall.EINVAL, err
	}
	c := *m
	c.blocks = slices.Clone(m.blocks)
	c.ro = true
	m.thin, m.parent = true, snap
	w.model[snap] = &c
	return 0, err
}

func (w *world) cloneOf(name string, m *modelBlob) (syscall.Errno, error) {
	clone := w.newName()
	w.trace = append(w.trace, "clone "+name+" as "+clone)
	_, err := w.blob(name).Clone(named(clone))
	if !m.ro {
		return syscall.EINVAL, err
	}
	w.model[clone] = &modelBlob{thin: true, parent: name, blocks: slices.Clone(m.blocks)}
	return 0, err
}

func (w *world) remove(name string, m *modelBlob) (syscall.Errno, error) {
	w.trace = append(w.trace, "delete "+name)
	clones := w.model.clones(name)
	err := w.blob(name).Delete()
	if len(clones) > 1 {
		return syscall.EBUSY, err
	}
	for _, c := range clones {
		w.model[c].parent = m.parent
	}
	delete(w.model, name)
	return 0, err
}

func (w *world) resize(name string, m *modelBlob) (syscall.Errno, error) {
	n := w.length(60, 6, 490)
	w.trace = append(w.trace, fmt.Sprintf("resize %s to %d", name, n))
	err := w.blob(name).Resize(n)
	if m.ro {
		return syscall.EPERM, err
	}
	// What is cut off is gone also where a parent has it, and back when the
	// blob grows again within the parent's length.
	old := len(m.blocks)
	m.blocks = slices.Grow(m.blocks, int(n*perCluster))[:min(old, int(n*perCluster))]
	m.blocks = append(m.blocks, make([]block, int(n*perCluster)-len(m.blocks))...)
	for i := old; i < len(m.blocks); i++ {
		m.blocks[i] = block{tags: []uint64{0}} // of a thick blob, too
	}
	if p := w.model[m.parent]; p != nil {
		for i := old; i < min(len(m.blocks), len(p.blocks)); i++ {
			m.blocks[i] = w.inherited(m.parent, i)
		}
	}
	return 0, err
}

// inherited is what a hole in a clone of the blob shows.
func (w *world) inherited(name string, i int) block {
	m := w.model[name]
	if m == nil || i >= len(m.blocks) {
		return block{tags: []uint64{0}}
	}
	return m.blocks[i]
}

func (w *world) inflate(name string, m *modelBlob, all bool) (syscall.Errno, error) {
	w.trace = append(w.trace, fmt.Sprintf("inflate %s all=%v", name, all))
	b := w.blob(name)
	if all {
		m.thin, m.parent = false, ""
		return 0, b.Inflate()
	}
	err := b.Decouple()
	if m.parent == "" {
		return syscall.EINVAL, err
	}
	m.parent = w.model[m.parent].parent
	return 0, err
}

func (w *world) data(name string, m *modelBlob, op int) error {
	total := len(m.blocks)
	if total == 0 || m.ro {
		return nil
	}
	at := w.pick(total)
	n := 1 + w.pick(min(total-at, 3*perCluster))
	b := w.blob(name)
	old := slices.Clone(m.blocks[at : at+n])
	full := w.store.FreeClusters()*perCluster < uint64(n+perCluster) || w.store.pages.Free() < 8
	var s nvme.Status
	switch op {
	case 10:
		w.trace = append(w.trace, fmt.Sprintf("unmap %s %d+%d", name, at, n))
		for i := at; i < at+n; i++ {
			m.blocks[i].tags = append(slices.Clone(m.blocks[i].tags), 0)
			if m.parent != "" {
				m.blocks[i] = block{any: true} // own clusters are zero, holes show the parent
			}
		}
		s = w.io(b, bdev.OpUnmap, uint64(at), uint64(n), nil)
	case 11:
		w.trace = append(w.trace, fmt.Sprintf("zero %s %d+%d", name, at, n))
		for i := at; i < at+n; i++ {
			m.blocks[i].tags = append(slices.Clone(m.blocks[i].tags), 0)
		}
		s = w.io(b, bdev.OpWriteZeroes, uint64(at), uint64(n), nil)
	default:
		w.tag++
		w.trace = append(w.trace, fmt.Sprintf("write %s %d+%d tag %d", name, at, n, w.tag))
		for i := at; i < at+n; i++ {
			m.blocks[i].tags = append(slices.Clone(m.blocks[i].tags), w.tag)
		}
		s = w.io(b, bdev.OpWrite, uint64(at), uint64(n), bytes.Repeat(tagged(w.tag), n))
	}
	if s == nvme.CapacityExceeded|nvme.DNR && op != 10 && full {
		w.partly(b, m, at, old)
		return nil
	}
	if s != nvme.Success {
		return &DeviceError{Status: s}
	}
	return nil
}

// partly has the model follow a write for which the store had no room: each of
// its blocks has the new contents, or still the old ones.
func (w *world) partly(b *Blob, m *modelBlob, at int, old []block) {
	w.trace = append(w.trace, "which is too much for the store")
	buf := make([]byte, len(old)*format.PageSize)
	if s := w.io(b, bdev.OpRead, uint64(at), uint64(len(old)), buf); s != nvme.Success {
		w.failf("read after a write without room: %v", s)
	}
	for i := range old {
		now := &m.blocks[at+i]
		page := buf[i*format.PageSize : (i+1)*format.PageSize]
		if !bytes.Equal(page, tagged(now.tags[len(now.tags)-1])) {
			*now = old[i] // which it holds, or contents finds out
		}
	}
}

// reload unloads and loads.
func (w *world) reload() error {
	if err := w.store.Unload(); err != nil {
		return err
	}
	w.settled()
	return w.load()
}

func (w *world) load() error {
	s, err := Load(w.base, "TEST", slog.New(slog.DiscardHandler))
	if err == nil {
		w.store = s
	}
	return err
}

// firstChange does what the first change after a load does before it.
func (w *world) firstChange() {
	w.store.md.Lock()
	defer w.store.md.Unlock()
	if err := w.store.dirty(); err != nil {
		w.failf("first change: %v", err)
	}
}

// differs compares the store with a model; latest: a block must hold its last
// contents, not just one that a cut may leave.
func (w *world) differs(m model, latest bool) string {
	blobs := w.store.Blobs()
	if len(blobs) != len(m) {
		return fmt.Sprintf("%d blobs, want %v", len(blobs), m.names())
	}
	for _, name := range m.names() {
		b, want := w.blob(name), m[name]
		if b == nil {
			return "no blob " + name
		}
		if b.Thin() != want.thin || b.ReadOnly() != want.ro || b.Blocks() != uint64(len(want.blocks)) {
			return fmt.Sprintf("%s: thin %v, read only %v, %d blocks, want %v, %v, %d", name, b.Thin(), b.ReadOnly(), b.Blocks(), want.thin,
				want.ro, len(want.blocks))
		}
		parent := ""
		if p := b.Parent(); p != nil {
			v, _ := p.Xattr("name")
			parent = string(v)
		}
		if parent != want.parent {
			return fmt.Sprintf("%s: parent %q, want %q", name, parent, want.parent)
		}
		if d := w.contents(b, want, latest); d != "" {
			return name + ": " + d
		}
	}
	return ""
}

func (w *world) contents(b *Blob, want *modelBlob, latest bool) string {
	if len(want.blocks) == 0 {
		return ""
	}
	buf := bytes.Repeat([]byte{0x5a}, len(want.blocks)*format.PageSize)
	if s := w.io(b, bdev.OpRead, 0, uint64(len(want.blocks)), buf); s != nvme.Success {
		return "read: " + s.String()
	}
	for i, ok := range want.blocks {
		page := buf[i*format.PageSize : (i+1)*format.PageSize]
		tag := binary.LittleEndian.Uint64(page)
		switch {
		case len(ok.tags) == 0 || (ok.any && !latest):
			continue
		case !bytes.Equal(page, tagged(tag)):
			return fmt.Sprintf("block %d is torn", i)
		case latest && tag != ok.tags[len(ok.tags)-1], !slices.Contains(ok.tags, tag):
			return fmt.Sprintf("block %d holds %d, want of %v (last: %v)", i, tag, ok.tags, latest)
		}
	}
	return ""
}

// found makes what the blobs hold what they should.
func (w *world) found() {
	w.t.Helper()
	for _, name := range w.model.names() {
		m := w.model[name]
		if len(m.blocks) == 0 {
			continue
		}
		buf := make([]byte, len(m.blocks)*format.PageSize)
		if s := w.io(w.blob(name), bdev.OpRead, 0, uint64(len(m.blocks)), buf); s != nvme.Success {
			w.failf("read %s: %s", name, s)
		}
		for i := range m.blocks {
			page := buf[i*format.PageSize : (i+1)*format.PageSize]
			tag := binary.LittleEndian.Uint64(page)
			if m.blocks[i] = (block{tags: []uint64{tag}}); !bytes.Equal(page, tagged(tag)) {
				m.blocks[i] = block{any: true} // nothing was promised
			}
		}
	}
}

// checkDisk compares what the store believes is used with what the disk says.
func (w *world) checkDisk() {
	im, err := ReadImage(w.base, "TEST")
	if err != nil {
		w.failf("read the image: %v", err)
	}
	for _, p := range im.Problems {
		w.failf("on disk: %s", p)
	}
	if !im.Pages.Equal(w.store.pages) {
		w.failf("metadata pages used: disk %d, memory %d", im.Pages.Used(), w.store.pages.Used())
	}
	if !im.Clusters.Equal(w.store.clusters) {
		w.failf("clusters used: disk %d, memory %d", im.Clusters.Used(), w.store.clusters.Used())
	}
}
