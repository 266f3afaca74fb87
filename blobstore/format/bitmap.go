package format

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Bitmap is a set of small numbers below a length: used pages, used clusters.
// It is for one user at a time, but Used and Free may be called by anybody.
type Bitmap struct {
	words []uint64
	n     uint64
	used  atomic.Uint64
	low   uint64 // no clear bit below it
}

// NewBitmap returns an empty set of numbers below n.
func NewBitmap(n uint64) *Bitmap { return &Bitmap{words: make([]uint64, (n+63)/64), n: n} }

// Grow raises the bound.
func (m *Bitmap) Grow(n uint64) {
	m.words = append(m.words, make([]uint64, (n+63)/64-uint64(len(m.words)))...)
	m.n = n
}

// Len is the bound of the numbers.
func (m *Bitmap) Len() uint64 { return m.n }

// Used is the size of the set.
func (m *Bitmap) Used() uint64 { return m.used.Load() }

// Free is how many numbers are not in the set.
func (m *Bitmap) Free() uint64 { return m.n - m.used.Load() }

// Has reports whether i is in the set; false for i beyond the bound.
func (m *Bitmap) Has(i uint64) bool { return i < m.n && m.words[i/64]>>(i%64)&1 != 0 }

// Set adds i and reports whether it was missing. i must be below Len.
func (m *Bitmap) Set(i uint64) bool {
	w, b := &m.words[i/64], uint64(1)<<(i%64)
	if *w&b != 0 {
		return false
	}
	*w |= b
	m.used.Add(1)
	return true
}

// Clear removes i and reports whether it was there.
func (m *Bitmap) Clear(i uint64) bool {
	if !m.Has(i) {
		return false
	}
	m.words[i/64] &^= 1 << (i % 64)
	m.used.Add(^uint64(0))
	m.low = min(m.low, i)
	return true
}

// NextClear returns the smallest number from at on that is not in the set.
func (m *Bitmap) NextClear(at uint64) (uint64, bool) {
	start := max(at, m.low)
	for w := start / 64; w < uint64(len(m.words)); w++ {
		free := ^m.words[w]
		if w == start/64 {
			free &= ^uint64(0) << (start % 64)
		}
		if free == 0 {
			continue
		}
		i := w*64 + uint64(bits.TrailingZeros64(free))
		if i >= m.n {
			break
		}
		if at <= m.low {
			m.low = i
		}
		return i, true
	}
	return 0, false
}

// NextSet returns the smallest number from at on that is in the set.
func (m *Bitmap) NextSet(at uint64) (uint64, bool) {
	for w := at / 64; w < uint64(len(m.words)); w++ {
		v := m.words[w]
		if w == at/64 {
			v &= ^uint64(0) << (at % 64)
		}
		if v != 0 {
			return w*64 + uint64(bits.TrailingZeros64(v)), true
		}
	}
	return 0, false
}

// Kinds of masks on disk.
const (
	MaskUsedPages    = 0
	MaskUsedClusters = 1
	MaskUsedBlobids  = 2
)

// EncodeMask writes m as an on-disk mask: type, number of bits, then the bits,
// the lowest first. dst is the whole region of the mask, zeroed.
func EncodeMask(dst []byte, kind uint8, m *Bitmap) {
	dst[0] = kind
	binary.LittleEndian.PutUint32(dst[1:], uint32(m.n))
	at := dst[maskHeader:]
	for _, w := range m.words {
		if len(at) < 8 {
			for i := range at {
				at[i] = byte(w >> (8 * i))
			}
			return
		}
		binary.LittleEndian.PutUint64(at, w)
		at = at[8:]
	}
}

// DecodeMask reads a mask of n bits; a longer mask is cut when longer is set.
func DecodeMask(src []byte, kind uint8, n uint64, longer bool) (*Bitmap, error) {
	if len(src) < maskHeader {
		return nil, fmt.Errorf("mask of %d bytes has no header", len(src))
	}
	if src[0] != kind {
		return nil, fmt.Errorf("mask type is %d, want %d", src[0], kind)
	}
	length := uint64(binary.LittleEndian.Uint32(src[1:]))
	if length < n || (length > n && !longer) {
		return nil, fmt.Errorf("mask has %d bits, want %d", length, n)
	}
	if uint64(len(src)-maskHeader) < (n+7)/8 {
		return nil, fmt.Errorf("mask region of %d bytes is too short for %d bits", len(src), n)
	}
	m := NewBitmap(n)
	at := src[maskHeader:]
	for i := range m.words {
		var w uint64
		if len(at) >= 8 {
			w = binary.LittleEndian.Uint64(at)
			at = at[8:]
		} else {
			for k, b := range at {
				w |= uint64(b) << (8 * k)
			}
			at = nil
		}
		if rest := n - uint64(i)*64; rest < 64 {
			w &= 1<<rest - 1
		}
		m.words[i] = w
		m.used.Add(uint64(bits.OnesCount64(w)))
	}
	return m, nil
}

func (m *Bitmap) Equal(o *Bitmap) bool {
	if m.n != o.n || m.Used() != o.Used() {
		return false
	}
	for i, w := range m.words {
		if w != o.words[i] {
			return false
		}
	}
	return true
}

// Differences counts what only m has and what only o has.
func (m *Bitmap) Differences(o *Bitmap) (more, less uint64) {
	for i, ok := m.NextSet(0); ok; i, ok = m.NextSet(i + 1) {
		if !o.Has(i) {
			more++
		}
	}
	for i, ok := o.NextSet(0); ok; i, ok = o.NextSet(i + 1) {
		if !m.Has(i) {
			less++
		}
	}
	return more, less
}
