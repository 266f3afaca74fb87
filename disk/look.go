package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Content is what Look found on a disk.
type Content struct {
	Size  uint64 // bytes of the disk
	Marks []Mark // the places looked at that are not all zeros, in no order
	First uint64 // offset in bytes of the first byte found that is not zero
	Found []string
	Store *Store // the SPDK blobstore it carries, nil without one
}

// Mark is a place of a disk that is not all zeros.
type Mark struct {
	Off  uint64 `json:"off"`  // bytes
	Len  uint64 `json:"len"`  // bytes
	Hash string `json:"hash"` // of what is there
}

// Blank reports that nothing was found anywhere.
func (c *Content) Blank() bool { return len(c.Marks) == 0 }

// Covered reports that every place that holds data now held the same when it
// was shown.
func (c *Content) Covered(shown []Mark) bool {
	seen := make(map[Mark]bool, len(shown))
	for _, m := range shown {
		seen[m] = true
	}
	for _, m := range c.Marks {
		if !seen[m] {
			return false
		}
	}
	return true
}

// CutOff reports that nothing is on the disk but the metadata of an lvstore
// that has no name yet, as when the making of one is cut off.
func (c *Content) CutOff() bool {
	s := c.Store
	return s != nil && s.Name == "" && s.Damaged == "" &&
		!slices.ContainsFunc(c.Marks, func(m Mark) bool { return m.Off+m.Len > s.MetaEnd })
}

// String says what is on the disk: "carries an ext file system", say.
func (c *Content) String() string {
	switch {
	case c.Blank():
		return "is blank"
	case c.Store != nil && c.Store.Name != "":
		return fmt.Sprintf("carries the lvstore %q of an SPDK blobstore", c.Store.Name)
	case len(c.Found) > 0:
		return "carries " + strings.Join(c.Found, " and ")
	}
	return fmt.Sprintf("holds data of a kind that is not known; the first byte of it was found at %d", c.First)
}

// Look reads a disk at the places that decide whether it is blank, and when it
// is not, finds a name for what is on it. The error is the Reader's.
func Look(ctx context.Context, r Reader) (*Content, error) {
	return look(ctx, r, places(r.Size()), r.Size() > small)
}

// Glance is Look at the first and last MiB alone, to see that a disk which was
// found blank is the one that is about to be used.
func Glance(ctx context.Context, r Reader) (*Content, error) {
	return look(ctx, r, edges(r.Size()), false)
}

func look(ctx context.Context, r Reader, at []place, extents bool) (*Content, error) {
	l := looker{ctx: ctx, r: r, c: &Content{Size: r.Size()}, buf: make([]byte, piece)}
	for _, p := range at {
		if err := l.read(p); err != nil {
			return nil, err
		}
	}
	if x, ok := r.(Extents); ok && extents {
		if err := l.extents(x); err != nil {
			return nil, err
		}
	}
	if l.c.Blank() {
		return l.c, nil
	}
	var err error
	if l.c.Store, err = Stamp(ctx, r); err != nil {
		return nil, err
	}
	l.c.Found, err = recognise(ctx, r)
	return l.c, err
}

type looker struct {
	ctx context.Context
	r   Reader
	c   *Content
	buf []byte
}

// read looks at one place.
func (l *looker) read(p place) error {
	b := l.buf[:p.n]
	if err := l.r.ReadAt(l.ctx, b, p.off); err != nil {
		return fmt.Errorf("its %d bytes at %d cannot be read: %w", p.n, p.off, err)
	}
	at := nonzero(b)
	if at < 0 {
		return nil
	}
	if first := p.off + uint64(at); l.c.Blank() || first < l.c.First {
		l.c.First = first
	}
	sum := sha256.Sum256(b)
	l.c.Marks = append(l.c.Marks, Mark{p.off, p.n, hex.EncodeToString(sum[:8])})
	return nil
}

// extents looks at what a file holds between the places that are always looked
// at.
func (l *looker) extents(x Extents) error {
	full, limit := uint64(fullRun), len(l.c.Marks)+maxMarks
	for off := uint64(0); off < l.r.Size(); {
		start, end, err := x.NextData(off)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errors.ErrUnsupported):
			return nil
		case err != nil:
			return fmt.Errorf("the extents of the file cannot be listed: %w", err)
		}
		start, end = start&^(4096-1), min(end, l.r.Size())
		for at := start; at < end && len(l.c.Marks) < limit; {
			n := min(piece, end-at)
			if err := l.read(place{at, n}); err != nil {
				return err
			}
			full -= min(full, n)
			switch next := at + n; {
			case full == 0 && next < end-min(piece, end-next):
				at = (end - piece) &^ (4096 - 1) // the last piece
			default:
				at = next
			}
		}
		off = max(end, off+1)
	}
	return nil
}

var zeros [piece]byte

// nonzero returns the index of the first byte that is not zero, -1 without
// one.
func nonzero(b []byte) int {
	if bytes.Equal(b, zeros[:len(b)]) {
		return -1
	}
	for i, v := range b {
		if v != 0 {
			return i
		}
	}
	return -1
}
