// Package label is the format of what a mirror keeps behind the data of each of
// its legs: two label slots, which say what the leg is, and the pages of a map,
// with one bit per region of the data. It is pure: bytes in, values out.
//
// # Layout of a leg
//
// A leg's data begin at offset 0 and are exactly DataSize bytes long. The tail
// of TailSize bytes follows:
//
//	offset in the tail    size
//	0                     4,096    label slot 0: labels of even seq
//	4,096                 4,096    label slot 1: labels of odd seq
//	8,192 + 4,096 × i     4,096    page i of the map, at most MaxPages
//
// Slots and pages are written whole, in place, one at a time. A label that was
// torn has a wrong checksum, and the slot of its predecessor stands. A page that
// was torn counts as all ones: every region of it is looked after.
//
// # Label slot, little endian
//
//	0     8    "VDAMIRR1"
//	8     4    CRC-32C of the slot with this field zero
//	12    2    format, 1
//	14    2    flags; bit 0: clean
//	16    8    seq
//	24    8    term
//	32    8    gen
//	40    8    bytes of data
//	48    8    bytes per region
//	56    16   id of the array
//	72    16   id of the mirror
//	88    16   id of this leg's vd
//	104   16   vd of the source; zeros for none
//	120   4    numbers of members, joining, catching up, absent
//	124   4    zeros
//	128   64   members, 4 vd ids
//	192   64   joining, likewise
//	256   64   catching up, likewise
//	320   384  absent, 16 times a vd id and the seq of the last label it had
//	704   128  epochs of the members and then of the joining, 8 ids
//	832   8    confirmed seq
//	840        zeros
//
// # Map page, little endian
//
//	0     4    CRC-32C of the page with this field zero
//	4     4    number of the page
//	8     8    first half of the mirror's id
//	16         bits; region r of the page is bit r%8 of byte r/8
package label
