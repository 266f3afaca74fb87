package bdev

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
)

// Buffers is the process's pool of data buffers.
var Buffers = NewPool(1 << 30)

// Pool hands out page-aligned buffers outside the Go heap, in power-of-two
// classes from 4 KiB to 4 MiB, up to a limit in bytes of memory held. Small
// buffers are cut from chunks, so that a million of them is not a million
// mappings. Memory that was mapped is kept for reuse. Safe for concurrent use.
type Pool struct {
	limit   atomic.Int64
	held    atomic.Int64
	classes [poolClasses]poolClass
}

type poolClass struct {
	mu    sync.Mutex
	free  [][]byte
	owned ownership // checks Get against Put in race builds
	out   int       // buffers handed out
	_     [64]byte  // classes are used by different cores
}

const (
	poolMinBits = 12
	poolMaxBits = 22
	poolClasses = poolMaxBits - poolMinBits + 1

	// chunkBytes is how much is mapped at a time for small classes.
	chunkBytes = 256 << 10
)

// NewPool returns a pool that maps at most limit bytes.
func NewPool(limit int) *Pool {
	p := &Pool{}
	p.limit.Store(int64(limit))
	return p
}

func classOf(n int) int {
	if n <= 1<<poolMinBits {
		return 0
	}
	return bits.Len(uint(n-1)) - poolMinBits
}

// Get returns a buffer of n bytes whose contents are undefined, or nil when
// the limit is reached or n is above 4 MiB.
func (p *Pool) Get(n int) []byte {
	i := classOf(n)
	if i >= poolClasses {
		return nil
	}
	c := &p.classes[i]
	c.mu.Lock()
	if len(c.free) == 0 && !p.grow(c, 1<<(i+poolMinBits)) {
		c.mu.Unlock()
		return nil
	}
	last := len(c.free) - 1
	buf := c.free[last]
	c.free[last] = nil
	c.free = c.free[:last]
	c.out++
	c.owned.took(buf)
	c.mu.Unlock()
	return buf[:n]
}

// grow maps memory for buffers of size bytes; c.mu is held.
func (p *Pool) grow(c *poolClass, size int) bool {
	chunk := max(size, chunkBytes)
	for {
		held := p.held.Load()
		room := int(p.limit.Load() - held)
		if room < size {
			return false
		}
		if chunk > room {
			chunk = size
		}
		if p.held.CompareAndSwap(held, held+int64(chunk)) {
			break
		}
	}
	mem, err := syscall.Mmap(-1, 0, chunk, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		p.held.Add(-int64(chunk))
		return false
	}
	for at := chunk - size; at >= 0; at -= size {
		c.free = append(c.free, mem[at:at+size:at+size])
	}
	return true
}

// Put returns a buffer that Get gave.
func (p *Pool) Put(buf []byte) {
	buf = buf[:cap(buf)]
	c := &p.classes[classOf(len(buf))]
	c.mu.Lock()
	c.owned.gave(buf)
	c.free = append(c.free, buf)
	c.out--
	c.mu.Unlock()
}

// SetLimit changes the limit in bytes; what is held above it is kept.
func (p *Pool) SetLimit(n int) { p.limit.Store(int64(n)) }

// InUse returns the number of buffers handed out and not yet put back.
func (p *Pool) InUse() int {
	n := 0
	for i := range p.classes {
		c := &p.classes[i]
		c.mu.Lock()
		n += c.out
		c.mu.Unlock()
	}
	return n
}
