package nvmftgt

import (
	"sync"
	"time"
)

// chatter limits log lines that a peer can cause at will.
type chatter struct {
	mu      sync.Mutex
	second  int64
	lines   int
	dropped int
}

// chatterLines is how many such lines are written per second.
const chatterLines = 10

// allow reports whether a line may be written, and how many were not since
// the last one.
func (c *chatter) allow() (ok bool, dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := nanotime() / int64(time.Second); now != c.second {
		c.second, c.lines = now, 0
	}
	if c.lines >= chatterLines {
		c.dropped++
		return false, 0
	}
	c.lines++
	dropped, c.dropped = c.dropped, 0
	return true, dropped
}

// complain logs a fault of a peer, unless there are too many.
func (t *Target) complain(msg string, attrs ...any) {
	if ok, dropped := t.chatter.allow(); ok {
		if dropped > 0 {
			attrs = append(attrs, "lines_dropped", dropped)
		}
		t.log.Info(msg, attrs...)
	}
}
