package bdev

import (
	"math/bits"
	"sync"
	"syscall"
)

// Buffers is the process's pool of data buffers.
var Buffers = NewPool(1 << 30)

// Pool hands out page-aligned buffers outside the Go heap, in power-of-two
// classes from 4 KiB to 4 MiB, up to a limit in bytes of memory held. Safe
// for concurrent use.
type Pool struct {
	mu    sync.Mutex
	limit int
	held  int
	free  [poolClasses][][]byte
}

const (
	poolMinBits = 12
	poolMaxBits = 22
	poolClasses = poolMaxBits - poolMinBits + 1
)

// NewPool returns a pool that maps at most limit bytes.
func NewPool(limit int) *Pool { return &Pool{limit: limit} }

func poolClass(n int) int {
	if n <= 1<<poolMinBits {
		return 0
	}
	return bits.Len(uint(n-1)) - poolMinBits
}

// Get returns a buffer of n bytes whose contents are undefined, or nil when
// the limit is reached or n is above 4 MiB.
func (p *Pool) Get(n int) []byte {
	c := poolClass(n)
	if c >= poolClasses {
		return nil
	}
	p.mu.Lock()
	if f := p.free[c]; len(f) > 0 {
		buf := f[len(f)-1]
		p.free[c] = f[:len(f)-1]
		p.mu.Unlock()
		return buf[:n]
	}
	size := 1 << (c + poolMinBits)
	if p.held+size > p.limit {
		p.mu.Unlock()
		return nil
	}
	p.held += size
	p.mu.Unlock()
	buf, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		p.mu.Lock()
		p.held -= size
		p.mu.Unlock()
		return nil
	}
	return buf[:n]
}

// Put returns a buffer that Get gave.
func (p *Pool) Put(buf []byte) {
	buf = buf[:cap(buf)]
	c := poolClass(len(buf))
	p.mu.Lock()
	p.free[c] = append(p.free[c], buf)
	p.mu.Unlock()
}

// SetLimit changes the limit; what is held above it is kept until reused.
func (p *Pool) SetLimit(n int) {
	p.mu.Lock()
	p.limit = n
	p.mu.Unlock()
}
