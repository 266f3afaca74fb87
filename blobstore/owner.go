package blobstore

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
)

// A store that has been loaded has written nothing. Its first change, be it a
// host's write, makes it the store's writer, in this order:
//
//	1  the super block and the metadata pages that a change of another's would
//	   have begun with are read again; if any is not as loaded, the store fails
//	2  the super block is written with the mark of this writer; flush
//	3  what a load has to finish of operations that were cut off is finished
//
// From then on the super block is read again before a change of metadata,
// though at most once in ownerCheck: one that has another mark, or is clean,
// was written by another program, and the store fails. A store that has failed
// does no I/O any more; what is on the device is the other's.

// ErrTaken says that another program has written to the store; it is ESTALE.
var ErrTaken = fmt.Errorf("another program has written to the blobstore since it was loaded; it does no I/O until it is loaded again: %w",
	syscall.ESTALE)

// ownerCheck is how old the last look at the super block may be.
const ownerCheck = time.Second

// freshPages is how many free metadata pages are looked at: a new blob takes
// the first.
const freshPages = 64

// The mark of a writer, in bytes of the super block that the format reserves:
// eight bytes that say what it is, and sixteen random ones.
const (
	sbWriter    = 4064
	sbWriterLen = 24
	writerTag   = "VDAWRITE"
)

// newWriter returns the mark of a new writer.
func newWriter() []byte {
	m := make([]byte, sbWriterLen)
	copy(m, writerTag)
	_, _ = rand.Read(m[len(writerTag):]) // it never fails
	return m
}

// Failed returns why the store does no I/O any more, nil while it does.
func (s *Store) Failed() error {
	if e := s.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// own makes this store the writer before its first change. The caller holds
// md.
func (s *Store) own() error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := s.Failed(); err != nil {
		return err
	}
	if s.owned.Load() {
		return nil
	}
	if err := s.superAsKnown(); err != nil {
		return err
	}
	if err := s.pagesAsLoaded(); err != nil {
		return err
	}
	if err := s.writeSuper(s.super.Clean); err != nil {
		return err
	}
	s.loaded = nil
	s.owned.Store(true)
	return nil
}

// dirty makes sure, before any metadata changes, that this store is the
// writer, that nothing is left of a load, and that the super block says dirty.
// The caller holds md.
func (s *Store) dirty() error {
	if err := s.own(); err != nil {
		return err
	}
	if time.Since(s.seen) > s.recheck {
		if err := s.superAsKnown(); err != nil {
			return err
		}
	}
	if s.super.Clean {
		if err := s.writeSuper(false); err != nil {
			return err
		}
	}
	return s.repair()
}

// superAsKnown reads the super block; the store fails when it is another's.
func (s *Store) superAsKnown() error {
	page := make([]byte, format.PageSize)
	if err := s.dev.read(0, page); err != nil {
		return fmt.Errorf("look whether the super block has changed: %w", err)
	}
	if !bytes.Equal(page, s.page) && !slices.ContainsFunc(s.doubt, func(p []byte) bool { return bytes.Equal(p, page) }) {
		return s.fail("super block")
	}
	s.seen = time.Now()
	return nil
}

// pagesAsLoaded reads the metadata pages that were looked at for the load.
func (s *Store) pagesAsLoaded() error {
	pages := slices.Sorted(maps.Keys(s.loaded))
	sums, err := readSums(s.dev, &s.super.Layout, pages)
	if err != nil {
		return fmt.Errorf("look whether metadata has changed: %w", err)
	}
	for i, p := range pages {
		if sums[i] != s.loaded[p] {
			return s.fail(fmt.Sprintf("metadata page %d", p))
		}
	}
	return nil
}

// fail stops the store for good.
func (s *Store) fail(what string) error {
	err := fmt.Errorf("%s: %w", what, ErrTaken)
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("blobstore stopped: another program writes to it", "bdev", s.dev.info().Name, "changed", what)
	}
	return err
}

// pageSum is what a metadata page is known by: the checksum it carries, 0 when
// it is no metadata.
func pageSum(p []byte) uint32 {
	if format.PageBlobID(p)&format.BlobIDHighBit == 0 || !format.PageIntact(p) {
		return 0
	}
	return binary.LittleEndian.Uint32(p[format.PageCRC:])
}

// readSums reads metadata pages, given in order, and returns their sums.
func readSums(d *device, l *format.Layout, pages []uint32) ([]uint32, error) {
	var ios []deviceIO
	for i := 0; i < len(pages); {
		n := 1
		for i+n < len(pages) && pages[i+n] == pages[i]+uint32(n) {
			n++
		}
		length := l.Offset(uint64(n))
		ios = append(ios, deviceIO{op: bdev.OpRead, offset: l.MDOffset(pages[i]), length: length, buf: make([]byte, length)})
		i += n
	}
	if err := d.run(ios...); err != nil {
		return nil, err
	}
	sums := make([]uint32, 0, len(pages))
	for _, io := range ios {
		for p := io.buf; len(p) > 0; p = p[l.PageBytes:] {
			sums = append(sums, pageSum(p[:format.PageSize]))
		}
	}
	return sums, nil
}

// witness notes the sums of the pages that own will look at: those in use and
// the first that are free. known returns what the load has seen; false: it has
// not read the page.
func witness(im *format.Image, d *device, known func(page uint32) (uint32, bool)) error {
	im.Loaded = map[uint32]uint32{}
	var unread []uint32
	note := func(p uint32) {
		sum, ok := known(p)
		if im.Loaded[p] = sum; !ok {
			unread = append(unread, p)
		}
	}
	for i, ok := im.Pages.NextSet(0); ok; i, ok = im.Pages.NextSet(i + 1) {
		note(uint32(i))
	}
	for i, n := uint64(0), 0; i < im.Pages.Len() && n < freshPages; i++ {
		if !im.Pages.Has(i) {
			note(uint32(i))
			n++
		}
	}
	slices.Sort(unread)
	sums, err := readSums(d, &im.Super.Layout, unread)
	for i, sum := range sums {
		im.Loaded[unread[i]] = sum
	}
	return err
}

// Unfinished returns what a load has found cut off and the first change will
// finish, one line for each blob.
func (s *Store) Unfinished() []string {
	s.md.Lock()
	defer s.md.Unlock()
	var out []string
	for _, id := range s.dropped {
		out = append(out, fmt.Sprintf("blob 0x%x is what a snapshot or deletion has left, and goes", uint64(id)))
	}
	for _, b := range s.rewrite {
		out = append(out, fmt.Sprintf("blob 0x%x is rewritten, as a snapshot or deletion would have", uint64(b.id)))
	}
	return out
}

// Repair does to the device what the first change would, and no more: what was
// cut off is finished, and the store is dirty until Unload writes the masks
// again. It is for a store that SPDK is to load, which some of these cuts crash.
// Errors are as of any change.
func (s *Store) Repair() error {
	s.md.Lock()
	defer s.md.Unlock()
	return s.dirty()
}

// repair writes what settle decided when the store was loaded. What fails is
// done before the next change.
func (s *Store) repair() error {
	if s.repairing {
		return nil
	}
	s.repairing = true
	defer func() { s.repairing = false }()
	// The roots first: their pages are free.
	for len(s.dropped) > 0 {
		if err := s.wipeRoot(s.dropped[0]); err != nil {
			return fmt.Errorf("drop blob 0x%x: %w", uint64(s.dropped[0]), err)
		}
		s.dropped = s.dropped[1:]
	}
	for len(s.rewrite) > 0 {
		b := s.rewrite[0]
		c := b.change()
		c.rewriteAll = true
		if err := s.commit(c); err != nil {
			return fmt.Errorf("repair blob 0x%x: %w", uint64(b.id), err)
		}
		s.rewrite = s.rewrite[1:]
	}
	return nil
}
