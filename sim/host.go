package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// host is a machine with NVMe multipath that uses one array: its workers each
// write and read blocks of their own, always one command at a time, and never
// give up.
type host struct {
	s     *sim
	name  string
	nqn   string // its own
	array string
	plane *planetest.Plane // its initiator
	sub   string           // NQN of the exporter
	rng   *rand.Rand

	keyed sync.Mutex // guards keys, and is taken with the model's lock held
	keys  [2]string  // its own, and the controllers'
	// rekeying says that they are being changed.
	rekeying atomic.Bool

	vol    volume // of the order that is under way
	mu     sync.Mutex
	paths  map[string]*path  // by address and port
	turns  bool              // workers take turns
	few    bool              // they write to one in three blocks
	first  uint64            // they write numbers above it
	own    bool              // it has no workers, and no blocks but those of its vol
	stop   bool              // no new commands
	over   bool              // and no attempts at old ones
	rest   bool              // no new commands for a while
	under  int               // turns that are under way
	sent   map[uint64]uint64 // by block: the highest number, since the last rollback
	places map[uint64]uint64 // offsets of blocks that have been added
	work   sync.WaitGroup
}

// path is one of the controllers of an exporter.
type path struct {
	at    string
	link  *planetest.Initiator
	avoid time.Time // it failed a moment ago
}

const (
	workers         = 4
	blocksPerWorker = 5
	strip           = 64 << 10 // bytes; of the arrays
	blockStep       = strip + 4096
	hostKeepAlive   = 2 * time.Second
	// watch is how long a block is not written after a write that took several
	// attempts; longer than most faults.
	watch = 20 * time.Second
)

// off spreads blocks over strips, and so over vds; in a mirrored array over the
// regions of its mirrors, too.
func (h *host) off(block uint64) uint64 {
	if block >= firstGrown {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.places[block]
	}
	if h.s.redundancy != "" {
		return block * (11*strip + 4096)
	}
	return block * blockStep / 4096 * 4096
}

// shift is how long a worker writes in one of six turns, where workers take turns.
const shift = 3 * time.Second

// rests reports that a worker does not write: on some mirrored arrays they take
// turns, so that regions come to rest.
func (h *host) rests(w int) bool {
	return h.turns && (int(time.Since(h.s.log.begun)/shift)+w)%6 > 0
}

// follow connects to the addresses that the exporter has now, and leaves
// those it has no more, as a discovery service does.
func (h *host) follow(addrs map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := range addrs {
		if h.paths[at] == nil {
			h.paths[at] = &path{at: at, link: h.plane.Connect(planetest.Target{Addr: at, NQN: h.sub, Host: h.nqn, Silence: hostKeepAlive,
				Reconnect: time.Second, Linux: true, Secrets: h.secrets})}
		}
	}
	for at, p := range h.paths {
		if !addrs[at] {
			p.link.Close()
			delete(h.paths, at)
		}
	}
}

// secrets are the host's keys now.
func (h *host) secrets() [2]string {
	h.keyed.Lock()
	defer h.keyed.Unlock()
	return h.keys
}

// exporter asks for an exporter of an array for the host, which authenticates.
func (h *host) exporter(array string) *apiv1.CreateExpRequest {
	keys := h.secrets()
	return &apiv1.CreateExpRequest{DaName: array, ExpName: "exp0", InitiatorNqn: h.nqn, DhchapKey: keys[0], DhchapCtrlrKey: keys[1]}
}

// lost returns a path that the host has given up and should have, "" for none.
func (h *host) lost() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, p := range h.paths {
		if p.link.GivenUp() {
			return at
		}
	}
	return ""
}

// unconnected returns a path that has no connection, "" for none.
func (h *host) unconnected() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, p := range h.paths {
		if !p.link.GivenUp() && p.link.ANA() == "" {
			return at
		}
	}
	return ""
}

// choose picks the path for the next command: optimized before non-optimized,
// but now and then the other way round, so that secondaries have something to
// do; nil when there is none to be tried.
func (h *host) choose() *path {
	h.mu.Lock()
	defer h.mu.Unlock()
	first, second := "optimized", "non_optimized"
	if h.s.cfg.story == nil && h.rng.IntN(6) == 0 {
		first, second = second, first
	}
	var best *path
	now := time.Now()
	for _, p := range h.paths {
		if now.Before(p.avoid) {
			continue
		}
		switch p.link.ANA() {
		case first:
			return p
		case second:
			if best == nil || p.at < best.at {
				best = p
			}
		}
	}
	return best
}

// do carries a command out, however long that takes, and returns the attempts
// it took; 0 when the run ended before.
func (h *host) do(cmd planetest.Command) (value uint64, attempts int) {
	value, attempts, _ = h.try(cmd, -1)
	return value, attempts
}

// try is do with so many attempts at most, unless that is below 0.
func (h *host) try(cmd planetest.Command, most int) (value uint64, attempts int, ok bool) {
	for attempts != most {
		if h.ended() {
			return 0, 0, false
		}
		p := h.choose()
		if p == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		attempts++
		value, status := p.link.Submit(cmd)
		switch status {
		case planetest.OK:
			return value, attempts, true
		case planetest.CapacityExceeded:
			if h.own {
				return 0, attempts, false
			}
			h.s.ledger.Wrong("%s sees %q from %s, and its array is not thin", h.name, status, p.at)
		case planetest.PathError, planetest.Inaccessible:
		default:
			h.s.ledger.Wrong("%s sees %q from %s: no host can do anything about that", h.name, status, p.at)
		}
		h.s.ledger.Attempt()
		h.mu.Lock()
		p.avoid = time.Now().Add(50 * time.Millisecond)
		h.mu.Unlock()
	}
	return 0, attempts, false
}

func (h *host) stopped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stop
}

func (h *host) ended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

// end gives up what is under way.
func (h *host) end() {
	h.mu.Lock()
	h.stop, h.over = true, true
	h.mu.Unlock()
	h.plane.Kill()
	h.work.Wait()
}

// read reads a block that nobody writes.
func (h *host) read(block uint64) {
	if value, n := h.do(h.command(block)); n > 0 {
		h.s.ledger.Saw(h.array, block, value)
	}
}

// run starts the workers.
func (h *host) run() {
	for w := range workers {
		rng := rand.New(rand.NewPCG(h.rng.Uint64(), uint64(w)))
		h.work.Go(func() { h.worker(w, rng) })
	}
	if h.s.redundancy != "" {
		rng := rand.New(rand.NewPCG(h.rng.Uint64(), workers))
		h.work.Go(func() { h.glimpse(rng) })
	}
}

// glimpse reads blocks while they are written: what was read once stays, also when
// nobody has acknowledged it.
func (h *host) glimpse(rng *rand.Rand) {
	for !h.stopped() {
		time.Sleep(time.Duration(1+rng.IntN(20)) * time.Millisecond)
		block := uint64(rng.IntN(workers * blocksPerWorker))
		h.turn(func() {
			floor := h.s.ledger.Floor(h.array, block)
			if value, n := h.do(h.command(block)); n > 0 {
				h.s.ledger.Glimpsed(h.array, block, floor, value)
			}
		})
	}
}

func (h *host) worker(w int, rng *rand.Rand) {
	k := &worker{h: h, w: w, rng: rng, number: h.first + uint64(w), watched: map[uint64]time.Time{}, left: map[uint64]bool{}}
	defer func() {
		for block := range k.left {
			k.number += workers
			h.writeAs(block, k.number)
		}
	}()
	for !h.stopped() {
		time.Sleep(time.Duration(1+rng.IntN(60)) * time.Millisecond)
		h.turn(k.step)
	}
}

// worker has blocks of its own.
type worker struct {
	h       *host
	w       int
	rng     *rand.Rand
	number  uint64               // of the last write
	watched map[uint64]time.Time // blocks that are only read until then
	left    map[uint64]bool      // blocks whose last write was given up
}

// step is a read, or a write with what belongs to it.
func (k *worker) step() {
	h, rng := k.h, k.rng
	block := uint64(k.w*blocksPerWorker + rng.IntN(blocksPerWorker))
	if rng.IntN(3) == 0 || h.few && block%3 > 0 || h.rests(k.w) || time.Now().Before(k.watched[block]) {
		if !k.left[block] {
			h.read(block)
		}
		return
	}
	k.number += workers
	most := -1
	if h.s.redundancy != "" && rng.IntN(2) == 0 {
		most = 1 // as a program that dies with its write: nobody sends it again
	}
	h.sends(block, k.number)
	_, attempts, ok := h.try(planetest.Command{Write: true, Off: h.off(block), Value: k.number}, most)
	switch {
	case attempts == 0:
		return
	case !ok:
		k.left[block], k.watched[block] = true, time.Now().Add(watch)
		return
	}
	delete(k.left, block)
	h.s.ledger.Ack(h.array, block, k.number)
	if attempts > 1 && rng.IntN(2) == 0 {
		// An attempt that was given up may still hang somewhere. Write
		// again what it must not undo, and watch.
		k.number += workers
		if h.writeAs(block, k.number) {
			k.watched[block] = time.Now().Add(watch)
		}
	}
}

// writeAs writes a number to a block until that is acknowledged; false when the run ended before.
func (h *host) writeAs(block, number uint64) bool {
	h.sends(block, number)
	_, n, ok := h.try(planetest.Command{Write: true, Off: h.off(block), Value: number}, -1)
	if n > 0 && ok {
		h.s.ledger.Ack(h.array, block, number)
	}
	return n > 0 && ok
}

func (h *host) command(block uint64) planetest.Command { return planetest.Command{Off: h.off(block)} }

// sends notes a write before it is sent.
func (h *host) sends(block, number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent[block] = number
}

func (h *host) sentSoFar() map[uint64]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.sent)
}

// turn has somebody do something unless the host is at rest, for which it waits.
func (h *host) turn(do func()) {
	for {
		h.mu.Lock()
		switch {
		case h.stop:
			h.mu.Unlock()
			return
		case !h.rest:
			h.under++
			h.mu.Unlock()
			do()
			h.mu.Lock()
			h.under--
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}

// pause has the host be at rest, and returns when nothing is under way; or lets it go on.
func (h *host) pause(on bool) {
	for {
		h.mu.Lock()
		h.rest = on
		idle := h.under == 0
		h.mu.Unlock()
		if !on || idle {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// giveUp ends commands that are under way.
func (h *host) giveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop, h.over = true, true
}

// finish ends the workers and reads everything back. It fails when commands
// are stuck.
func (h *host) finish(limit time.Duration) error {
	h.mu.Lock()
	h.stop = true
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.work.Wait()
		for _, b := range h.blocks() {
			h.read(b)
		}
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%s: I/O on %s is still stuck after %v", h.name, h.array, limit)
	}
}
