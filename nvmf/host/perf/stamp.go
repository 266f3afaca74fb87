package perf

import (
	"encoding/binary"
	"sync/atomic"
)

// A stamped block holds, in each of its 16-byte words, its block number and
// the generation of the write, so that a part of an older write shows.

// stamp fills buf, which starts at block number first.
func stamp(buf []byte, blockSize int, first, gen uint64) {
	for at := 0; at < len(buf); at += 16 {
		binary.LittleEndian.PutUint64(buf[at:], first+uint64(at/blockSize))
		binary.LittleEndian.PutUint64(buf[at+8:], gen)
	}
}

// check counts the blocks of buf that do not hold what stamp writes.
func check(buf []byte, blockSize int, first, gen uint64) (bad uint64) {
	for at := 0; at < len(buf); at += blockSize {
		for w := at; w < at+blockSize; w += 16 {
			if binary.LittleEndian.Uint64(buf[w:]) != first+uint64(at/blockSize) || binary.LittleEndian.Uint64(buf[w+8:]) != gen {
				bad++
				break
			}
		}
	}
	return bad
}

// stamps remembers the generation in each slot of the range. A slot belongs
// to the request that has locked it.
type stamps struct {
	held  []atomic.Bool
	state []uint64 // generation; 0: nothing known
	count atomic.Uint64
}

func newStamps(slots uint64) *stamps {
	return &stamps{held: make([]atomic.Bool, slots), state: make([]uint64, slots)}
}

func (s *stamps) lock(slot uint64) bool { return s.held[slot].CompareAndSwap(false, true) }
func (s *stamps) unlock(slot uint64)    { s.held[slot].Store(false) }

// begin gives a new generation to write.
func (s *stamps) begin(slot uint64) uint64 {
	s.state[slot] = 0
	return s.count.Add(1)
}

// end notes what a write has left: nothing known when it failed.
func (s *stamps) end(slot, gen uint64, ok bool) {
	if ok {
		s.state[slot] = gen
	}
}

func (s *stamps) get(slot uint64) (gen uint64, known bool) {
	return s.state[slot], s.state[slot] != 0
}
