package mirror

import (
	"time"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// SetStall is stall for a test; it returns what it was.
func SetStall(d time.Duration) (was time.Duration) {
	was, stall = stall, d
	return was
}

// NextCopyRate is the bound that a mirror gets if it is assembled again.
func (m *Mirror) NextCopyRate() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings().CopyRate
}

// Lose has the core take a leg for lost, as a probe does that was under way when I/O began to
// go past the core.
func (m *Mirror) Lose(i int) {
	m.enter(nil, func(c *core.Core) { c.Lost(core.Leg(i), core.Silent) })
}
