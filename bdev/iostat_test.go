package bdev

import (
	"testing"

	"github.com/virtual-disk-array/vda/nvme"
)

// TestFailuresAreTold: what says something of the disk is counted apart from
// what does not.
func TestFailuresAreTold(t *testing.T) {
	var c counters
	for _, r := range []Request{
		{Op: OpRead, Status: nvme.UnrecoveredReadError},
		{Op: OpWrite, Status: nvme.WriteFault | nvme.DNR},
		{Op: OpWrite, Status: nvme.InternalError},
		{Op: OpUnmap, Status: nvme.InternalError},
		{Op: OpWrite, Status: nvme.CapacityExceeded | nvme.DNR},
		{Op: OpWrite, Status: nvme.CommandInterrupted},
		{Op: OpRead, Status: nvme.InternalPathError},
		{Op: OpUnmap, Status: nvme.InvalidOpcode | nvme.DNR},
	} {
		c.add(&r, false, 0, 4096)
	}
	if f, m, n := c.fails.Load(), c.medium.Load(), c.noSpace.Load(); f != 8 || m != 3 || n != 1 {
		t.Errorf("%d failures, %d of the medium, %d for want of space; want 8, 3, 1", f, m, n)
	}
}
