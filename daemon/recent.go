package daemon

import "sync"

// recentBytes is how much of its log a process remembers.
const recentBytes = 1 << 20

// recent are the last lines of the process's logs, for a support bundle: where standard error goes
// to, the process does not know. It is the process's, as standard error is.
var recent tail

// RecentLog is the end of what this process has logged, 1 MiB at most, also lines that standard
// error did not take.
func RecentLog() []byte { return recent.bytes() }

// tail keeps the last bytes that are added. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	ring []byte
	next int  // where the next byte goes
	full bool // the ring has come round
}

func (t *tail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) < recentBytes { // it grows as it is needed
		n := min(len(line), recentBytes-len(t.ring))
		t.ring = append(t.ring, line[:n]...)
		line = line[n:]
	}
	for len(line) > 0 {
		t.full = true
		n := copy(t.ring[t.next:], line)
		line = line[n:]
		t.next = (t.next + n) % len(t.ring)
	}
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.full {
		return append([]byte(nil), t.ring...)
	}
	return append(append([]byte(nil), t.ring[t.next:]...), t.ring[:t.next]...)
}
