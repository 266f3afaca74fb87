// Package stamp makes blocks that say which block they are and which writing
// they are of, so that a block in the wrong place, of an older writing, or half
// written is told apart from the right one:
//
//	byte 0   8  magic
//	     8   8  block number, little endian
//	    16   8  generation, little endian, from 1 on
//	    24   4  CRC32C of the block with these four bytes zero
//	    28   …  filler that follows from block number and generation
//
// A block of zeros is of generation 0: it was never written. Programs that prove
// an array by I/O write such blocks and read them back.
package stamp

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	magic  = 0x504d415453414456 // "VDASTAMP"
	header = 28                 // bytes before the filler
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put fills block, whose length is a multiple of 4 and at least 32 bytes.
func Put(block []byte, number, generation uint64) {
	binary.LittleEndian.PutUint64(block, magic)
	binary.LittleEndian.PutUint64(block[8:], number)
	binary.LittleEndian.PutUint64(block[16:], generation)
	binary.LittleEndian.PutUint32(block[24:], 0)
	x := (number*0x9e3779b97f4a7c15^generation*0xbf58476d1ce4e5b9)<<1 | 1
	for at := header; at < len(block); at += 4 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint32(block[at:], uint32(x))
	}
	binary.LittleEndian.PutUint32(block[24:], crc32.Checksum(block, castagnoli))
}

// Generation returns which writing of a block this is; an error when it is not a
// whole block of that number. It changes the block for the time of the call.
func Generation(block []byte, number uint64) (uint64, error) {
	if binary.LittleEndian.Uint64(block) != magic {
		for _, x := range block {
			if x != 0 {
				return 0, fmt.Errorf("block %d holds neither a stamp nor zeros", number)
			}
		}
		return 0, nil
	}
	n, g := binary.LittleEndian.Uint64(block[8:]), binary.LittleEndian.Uint64(block[16:])
	if n != number {
		return 0, fmt.Errorf("block %d holds block %d of generation %d", number, n, g)
	}
	sum := binary.LittleEndian.Uint32(block[24:])
	binary.LittleEndian.PutUint32(block[24:], 0)
	whole := crc32.Checksum(block, castagnoli) == sum
	binary.LittleEndian.PutUint32(block[24:], sum)
	if !whole {
		return 0, fmt.Errorf("block %d of generation %d is torn or damaged: its checksum is wrong", number, g)
	}
	return g, nil
}

// Check reports what a block holds when it is not what Put made.
func Check(block []byte, number, generation uint64) error {
	g, err := Generation(block, number)
	switch {
	case err != nil:
		return err
	case g == 0 && generation != 0:
		return fmt.Errorf("block %d holds no stamp but zeros", number)
	case g != generation:
		return fmt.Errorf("block %d holds generation %d, want %d", number, g, generation)
	}
	return nil
}
