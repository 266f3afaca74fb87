package sim

import (
	"fmt"
	"sync"

	"github.com/virtual-disk-array/vda"
)

// ledger knows what disks and hosts may see, and notes what they should not
// have. It is told of every write to a disk and of every block that a host
// reads or writes.
type ledger struct {
	log *journal

	mu     sync.Mutex
	terms  map[string]uint64            // by NQN of a vd: the highest term that was admitted
	acked  map[string]map[uint64]uint64 // by exporter's array and block: the number a host knows to be there
	wrongs []string
	writes int // acknowledged
	reads  int
	again  int // attempts of hosts beyond the first
}

func newLedger(log *journal) *ledger {
	return &ledger{log: log, terms: map[string]uint64{}, acked: map[string]map[uint64]uint64{}}
}

// wrong notes something that must never happen.
func (l *ledger) wrong(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrongLocked(format, args...)
}

func (l *ledger) wrongLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.printf("WRONG: %s", text)
	if len(l.wrongs) < 20 {
		l.wrongs = append(l.wrongs, text)
	}
}

// admitted is Live.Admitted: the fence of a disk has moved.
func (l *ledger) admitted(addr, nqn, host string) {
	t, ok := vda.TermOfPrimaryHost(host)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t < l.terms[nqn] {
		l.wrongLocked("%s admits term %d to %s after term %d", addr, t, nqn, l.terms[nqn])
	}
	if t > l.terms[nqn] {
		l.log.printf("%-14s admits term %d to %s", addr, t, nqn)
	}
	l.terms[nqn] = max(t, l.terms[nqn])
}

// wrote is Live.Wrote: one writer a vd, so nobody of an older term writes once
// a newer one is admitted.
func (l *ledger) wrote(addr, nqn, host string) {
	t, ok := vda.TermOfPrimaryHost(host)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t < l.terms[nqn] {
		l.wrongLocked("two writers: a write of term %d reaches the disk of %s at %s, which has admitted term %d", t, nqn, addr, l.terms[nqn])
	}
}

func (l *ledger) ack(array string, block, value uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[array] == nil {
		l.acked[array] = map[uint64]uint64{}
	}
	l.acked[array][block] = value
	l.writes++
}

// saw compares what a host has read of a block that nobody writes.
func (l *ledger) saw(array string, block, value uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if want := l.acked[array][block]; value != want {
		l.wrongLocked("lost write: block %d of %s reads %d; %d was acknowledged", block, array, value, want)
	}
}

func (l *ledger) attempt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again++
}

// verdict returns what went wrong so far.
func (l *ledger) verdict() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.wrongs...)
}
