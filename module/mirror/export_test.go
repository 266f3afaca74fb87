package mirror

import "time"

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
