// Package ledger judges what disks and hosts of a simulated cluster see: one
// writer per vd, terms and epochs that never fall, and no acknowledged write
// lost.
package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/virtual-disk-array/vda"
)

// Ledger knows what disks and hosts may see, and notes what they should not
// have. It is told of every write to a disk and of every block that a host
// reads or writes.
type Ledger struct {
	log func(format string, args ...any)

	mu     sync.Mutex
	fences map[string]fence             // by NQN of a vd: the highest that was admitted
	acked  map[string]map[uint64]uint64 // by exporter's array and block: the number a host knows to be there
	seen   map[string]map[uint64]uint64 // likewise: the highest number that was acknowledged or read
	wrongs []string
	count  Count
}

// New returns an empty ledger, which says in log what it notes.
func New(log func(format string, args ...any)) *Ledger {
	return &Ledger{log: log, fences: map[string]fence{}, acked: map[string]map[uint64]uint64{},
		seen: map[string]map[uint64]uint64{}}
}

// Wrong notes something that must never happen.
func (l *Ledger) Wrong(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrongLocked(format, args...)
}

func (l *Ledger) wrongLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log("WRONG: %s", text)
	if len(l.wrongs) < 20 {
		l.wrongs = append(l.wrongs, text)
	}
}

// fence is what the host NQN that a vd admits says: a later one has a higher
// term, or the same and a higher epoch.
type fence struct{ term, epoch uint64 }

func fenceOf(host string) (f fence, ok bool) {
	f.term, f.epoch, ok = vda.ParsePrimaryHost(host)
	return f, ok
}

func (f fence) compare(g fence) int {
	return cmp.Or(cmp.Compare(f.term, g.term), cmp.Compare(f.epoch, g.epoch))
}

func (f fence) String() string {
	if f.epoch == 0 {
		return fmt.Sprintf("term %d", f.term)
	}
	return fmt.Sprintf("term %d epoch %d", f.term, f.epoch)
}

// Admitted is Live.Admitted: the fence of a disk has moved.
func (l *Ledger) Admitted(addr, nqn, host string) {
	f, ok := fenceOf(host)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.fences[nqn]
	switch f.compare(was) {
	case -1:
		l.wrongLocked("%s admits %v to %s after %v", addr, f, nqn, was)
	case +1:
		l.log("%-14s admits %v to %s", addr, f, nqn)
		l.fences[nqn] = f
	}
}

// Wrote is Live.Wrote: one writer per vd, so nobody of an older term or epoch
// writes once a newer one is admitted.
func (l *Ledger) Wrote(addr, nqn, host string) {
	f, ok := fenceOf(host)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.fences[nqn]; f.compare(now) < 0 {
		l.wrongLocked("two writers: a write of %v reaches the disk of %s at %s, which has admitted %v", f, nqn, addr, now)
	}
}

// Ack notes the number that a host knows to be in a block of an array.
func (l *Ledger) Ack(array string, block, value uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[array] == nil {
		l.acked[array] = map[uint64]uint64{}
	}
	l.acked[array][block] = value
	l.noteLocked(array, block, value)
	l.count.Writes++
}

func (l *Ledger) noteLocked(array string, block, value uint64) {
	if l.seen[array] == nil {
		l.seen[array] = map[uint64]uint64{}
	}
	l.seen[array][block] = max(l.seen[array][block], value)
}

// Floor returns the least that a block may hold from now on: the highest number
// that was acknowledged or read. Numbers of a block rise.
func (l *Ledger) Floor(array string, block uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[array][block]
}

// Glimpsed notes what was read of a block that may be written at the same time.
// floor is its Floor before the read began.
func (l *Ledger) Glimpsed(array string, block, floor, value uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Reads++
	if value < floor {
		l.wrongLocked("older again: block %d of %s reads %d; %d was acknowledged or read before", block, array, value, floor)
	}
	l.noteLocked(array, block, value)
}

// Saw compares what a host has read of a block that nobody writes.
func (l *Ledger) Saw(array string, block, value uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Reads++
	l.noteLocked(array, block, value)
	if want := l.acked[array][block]; value != want {
		l.wrongLocked("lost write: block %d of %s reads %d; %d was acknowledged", block, array, value, want)
	}
}

// Compared counts a pair of legs that were compared, of a mirror with this gen.
func (l *Ledger) Compared(gen uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Legs++
	l.count.Sets += int(gen) - 1
}

// Reset says what a block holds from now on: its array was made what it was before.
func (l *Ledger) Reset(array string, block, value uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[array] == nil {
		l.acked[array] = map[uint64]uint64{}
	}
	l.acked[array][block] = value
	if l.seen[array] == nil {
		l.seen[array] = map[uint64]uint64{}
	}
	l.seen[array][block] = value
}

// Snapshot counts one that was read.
func (l *Ledger) Snapshot() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Snapshots++
}

// Attempt counts a command that a host sends once more.
func (l *Ledger) Attempt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Again++
}

// Count is how much there was to judge.
type Count struct {
	Writes    int // acknowledged
	Reads     int
	Legs      int // pairs that were compared at the end
	Sets      int // gens of their mirrors beyond the first: legs that were dropped or joined
	Snapshots int // that were read, each time
	Again     int // attempts of hosts beyond the first
	Moves     int // terms of an array beyond the first; of the one that moved most
}

// Verdict returns what went wrong so far, and out of how much.
func (l *Ledger) Verdict() (wrongs []string, c Count) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c = l.count
	for _, f := range l.fences {
		c.Moves = max(c.Moves, int(f.term)-1)
	}
	return slices.Clone(l.wrongs), c
}
