package mirror

import "time"

// SetStall is stall for a test; it returns what it was.
func SetStall(d time.Duration) (was time.Duration) {
	was, stall = stall, d
	return was
}
