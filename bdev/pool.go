package bdev

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
)

// Pool hands out page-aligned buffers outside the Go heap, in power-of-two
// classes from 4 KiB to 4 MiB, up to a limit in bytes. Free memory serves any
// class: whether a buffer can be had depends on the bytes that are out alone,
// and never on the sizes that were asked for before. Safe for concurrent use.
//
// A buffer that is put back stays warm for the next of its class. When the
// limit leaves no room for a buffer of another class, the memory of warm ones
// is given back to the system; their addresses remain, for later. Small buffers
// are cut from chunks, so that a million of them is not a million mappings.
type Pool struct {
	limit   atomic.Int64
	used    atomic.Int64 // bytes reserved or out, at most limit when they were reserved
	_       [48]byte     // the rest is used where no warm buffer is left
	mu      sync.Mutex   // held to map memory and to give it back
	held    atomic.Int64 // bytes of memory: out or warm
	classes [poolClasses]poolClass
}

type poolClass struct {
	mu    sync.Mutex
	warm  [][]byte  // with memory
	cold  [][]byte  // addresses whose memory was given back, or never used
	owned ownership // checks Get against Put in race builds
	out   int       // buffers handed out
	_     [64]byte  // classes are used by different cores
}

const (
	poolMinBits = 12
	poolMaxBits = 22
	poolClasses = poolMaxBits - poolMinBits + 1

	// MaxBuffer is the size in bytes of the largest buffer.
	MaxBuffer = 1 << poolMaxBits

	// chunkBytes is how much is mapped at a time for small classes.
	chunkBytes = 256 << 10
)

// NewPool returns a pool of at most limit bytes.
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

// BufferBytes is what a buffer of n bytes takes of a pool.
func BufferBytes(n int) int { return 1 << (classOf(n) + poolMinBits) }

// Get returns a buffer of n bytes whose contents are undefined, or nil when
// the limit is reached or n is above MaxBuffer.
func (p *Pool) Get(n int) []byte {
	if !p.Reserve(n) {
		return nil
	}
	return p.Take(n)
}

// Reserve makes sure of a buffer of n bytes, which Take gives later or
// Unreserve lets go. It reports whether the limit allows it.
func (p *Pool) Reserve(n int) bool {
	if n > MaxBuffer {
		return false
	}
	size := int64(BufferBytes(n))
	for {
		used := p.used.Load()
		if used+size > p.limit.Load() {
			return false
		}
		if p.used.CompareAndSwap(used, used+size) {
			return true
		}
	}
}

// Unreserve gives up what Reserve of n bytes made sure of.
func (p *Pool) Unreserve(n int) { p.used.Add(-int64(BufferBytes(n))) }

// Take returns the buffer of n bytes that was reserved. Nil, and the
// reservation given up: the system has no memory.
func (p *Pool) Take(n int) []byte {
	c := &p.classes[classOf(n)]
	c.mu.Lock()
	if len(c.warm) == 0 {
		c.mu.Unlock()
		if !p.warmUp(c, BufferBytes(n)) {
			p.Unreserve(n)
			return nil
		}
		// c is locked, with a warm buffer.
	}
	buf := pop(&c.warm)
	c.out++
	c.owned.took(buf)
	c.mu.Unlock()
	return buf[:n]
}

func pop(list *[][]byte) []byte {
	last := len(*list) - 1
	buf := (*list)[last]
	(*list)[last] = nil
	*list = (*list)[:last]
	return buf
}

// warmUp gets memory for a buffer of size bytes that is reserved. It returns
// with c locked and a warm buffer in it, or false and unlocked.
//
// What is reserved and not taken, by all, is never more than the limit has left
// beside what is out. So the warm buffers of all classes are enough to make
// room; those who find them gone that would have taken one come here, too.
func (p *Pool) warmUp(c *poolClass, size int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		over := p.held.Load() + int64(size) - p.limit.Load()
		if over <= 0 || !p.cool(c, over) {
			break
		}
	}
	c.mu.Lock()
	if len(c.warm) > 0 { // put back meanwhile
		return true
	}
	if len(c.cold) == 0 {
		c.mu.Unlock()
		chunk := max(size, chunkBytes)
		mem, err := syscall.Mmap(-1, 0, chunk, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
		if err != nil {
			return false
		}
		c.mu.Lock()
		for at := chunk - size; at >= 0; at -= size {
			c.cold = append(c.cold, mem[at:at+size:at+size])
		}
	}
	c.warm = append(c.warm, pop(&c.cold))
	p.held.Add(int64(size))
	return true
}

// coolAtOnce is how many buffers lose their memory while their class is locked.
const coolAtOnce = 32

// cool gives the memory of warm buffers back to the system, of some or until
// it is want bytes, from the class that has most of it but c (nil: from any),
// whose own serve those that wait for one. It reports false when there is none. p.mu is held.
func (p *Pool) cool(c *poolClass, want int64) bool {
	var most *poolClass
	bytes := 0
	for i := range p.classes {
		o := &p.classes[i]
		if o == c {
			continue
		}
		o.mu.Lock()
		if n := len(o.warm) << (i + poolMinBits); n > bytes {
			most, bytes = o, n
		}
		o.mu.Unlock()
	}
	if most == nil {
		return false
	}
	most.mu.Lock()
	defer most.mu.Unlock()
	for n := 0; n < coolAtOnce && want > 0 && len(most.warm) > 0; n++ {
		buf := pop(&most.warm)
		want -= int64(len(buf))
		p.discard(most, buf)
	}
	return true
}

// discard takes the memory from a buffer of c; c.mu is held.
func (p *Pool) discard(c *poolClass, buf []byte) {
	_ = syscall.Madvise(buf, syscall.MADV_DONTNEED) // fails for memory that is locked only, which this is not
	c.cold = append(c.cold, buf)
	p.held.Add(-int64(len(buf)))
}

// Put returns a buffer that Get or Take gave.
func (p *Pool) Put(buf []byte) {
	buf = buf[:cap(buf)]
	c := &p.classes[classOf(len(buf))]
	c.mu.Lock()
	c.owned.gave(buf)
	c.out--
	if p.held.Load() > p.limit.Load() { // the limit was lowered
		p.discard(c, buf)
	} else {
		c.warm = append(c.warm, buf)
	}
	c.mu.Unlock()
	p.used.Add(-int64(len(buf)))
}

// Trim gives the memory of all warm buffers back to the system.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cool(nil, math.MaxInt64) {
	}
}

// SetLimit changes the limit in bytes. What is out above it stays out, and is
// given back to the system when it is put back.
func (p *Pool) SetLimit(n int) { p.limit.Store(int64(n)) }

// Limit returns the limit in bytes.
func (p *Pool) Limit() int { return int(p.limit.Load()) }

// Free returns the bytes that are neither out nor reserved; 0 when there is
// more out than a lowered limit allows.
func (p *Pool) Free() int { return int(max(p.limit.Load()-p.used.Load(), 0)) }

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
