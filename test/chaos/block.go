//go:build e2e

package chaos

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// blockSize is the size of a stamped block.
const blockSize = 4096

// A stamped block:
//
//	byte 0   8  magic
//	     8   8  block number, little endian
//	    16   8  sequence number of the write, from 1 on for each block
//	    24   4  CRC32C of the block with these four bytes zero
//	    28   …  filler that follows from block and sequence number
//
// A block of zeros has sequence number 0: it was never written.
const (
	blockMagic  = 0x534f414843414456 // "VDACHAOS"
	blockHeader = 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stamp fills b.
func stamp(b []byte, number, seq uint64) {
	binary.LittleEndian.PutUint64(b, blockMagic)
	binary.LittleEndian.PutUint64(b[8:], number)
	binary.LittleEndian.PutUint64(b[16:], seq)
	binary.LittleEndian.PutUint32(b[24:], 0)
	x := (number*0x9e3779b97f4a7c15 ^ seq*0xbf58476d1ce4e5b9) | 1
	for at := blockHeader; at < len(b); at += 4 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint32(b[at:], uint32(x))
	}
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b, castagnoli))
}

// sequence returns which write of block number b is of; an error when b is no
// whole stamped block of that number. It changes b.
func sequence(b []byte, number uint64) (uint64, error) {
	if magic := binary.LittleEndian.Uint64(b); magic != blockMagic {
		for _, x := range b {
			if x != 0 {
				return 0, fmt.Errorf("block %d holds neither a stamp nor zeros", number)
			}
		}
		return 0, nil
	}
	n, seq := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if n != number {
		return 0, fmt.Errorf("block %d holds block %d, sequence %d", number, n, seq)
	}
	sum := binary.LittleEndian.Uint32(b[24:])
	binary.LittleEndian.PutUint32(b[24:], 0)
	if crc32.Checksum(b, castagnoli) != sum {
		return 0, fmt.Errorf("block %d, sequence %d, is torn or damaged", number, seq)
	}
	return seq, nil
}
