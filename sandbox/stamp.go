package sandbox

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A stamped block says which block it is and which writing it is of, so that
// a block in the wrong place, of an older writing or half written is told
// apart from the right one:
//
//	byte 0   8  magic
//	     8   8  block number, little endian
//	    16   8  generation, little endian
//	    24   4  CRC32C of the block with these four bytes zero
//	    28   …  filler that follows from block number and generation
const (
	stampMagic  = 0x504d415453414456 // "VDASTAMP"
	stampHeader = 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stamp fills block.
func stamp(block []byte, number, generation uint64) {
	binary.LittleEndian.PutUint64(block, stampMagic)
	binary.LittleEndian.PutUint64(block[8:], number)
	binary.LittleEndian.PutUint64(block[16:], generation)
	binary.LittleEndian.PutUint32(block[24:], 0)
	x := (number*0x9e3779b97f4a7c15^generation)<<1 | 1
	for at := stampHeader; at < len(block); at += 4 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint32(block[at:], uint32(x))
	}
	binary.LittleEndian.PutUint32(block[24:], crc32.Checksum(block, castagnoli))
}

// checkStamp reports what a block holds when it isn't what stamp made.
func checkStamp(block []byte, number, generation uint64) error {
	if got := binary.LittleEndian.Uint64(block); got != stampMagic {
		if got == 0 {
			return fmt.Errorf("block %d holds no stamp but zeros", number)
		}
		return fmt.Errorf("block %d holds no stamp", number)
	}
	n, g := binary.LittleEndian.Uint64(block[8:]), binary.LittleEndian.Uint64(block[16:])
	sum := binary.LittleEndian.Uint32(block[24:])
	binary.LittleEndian.PutUint32(block[24:], 0)
	whole := crc32.Checksum(block, castagnoli) == sum
	binary.LittleEndian.PutUint32(block[24:], sum)
	switch {
	case n != number:
		return fmt.Errorf("block %d holds block %d of generation %d", number, n, g)
	case g != generation:
		return fmt.Errorf("block %d holds generation %d, want %d", number, g, generation)
	case !whole:
		return fmt.Errorf("block %d is damaged: its checksum is wrong", number)
	}
	return nil
}
