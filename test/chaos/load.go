//go:build e2e

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

// blockSize is the size of a stamped block, bytes.
const blockSize = 4096

// loadEnv holds a loadConfig as JSON in the environment of the process that
// is to be the host.
const loadEnv = "VDA_CHAOS_LOAD"

// loadConfig says what the host does.
type loadConfig struct {
	NQNs      []string // of the array's exporters
	Grows     bool     // the array may become larger
	HostNQN   string
	Addrs     []string // of the controllers
	Port      string
	KeepAlive time.Duration
	Blocks    int           // of the array, of blockSize bytes
	Workers   int           // commands under way at once
	Think     time.Duration // mean pause of a worker between two commands
	Slow      time.Duration // I/O that takes longer is reported
}

// report is a line that the host prints. Which fields are set depends on
// Kind.
type report struct {
	Kind string // "slow", "error", "beat", "answer", "done"

	Start, End time.Time // of a slow I/O; End also of a beat
	What       string    // the I/O or the error
	Path       string
	Attempts   int

	Ops     int64             // beat, done: I/O since the start
	Oldest  time.Duration     // beat: age of the oldest I/O under way
	Paths   map[string]string // beat: address to state; states where the exporters' differ
	Stall   time.Duration     // beat: the longest that the host itself got no processor since the last one
	Retries int64             // beat, done: commands sent again on another path

	Checked int // done: blocks read back
	Wrong   int // done: of them lost or wrong
	Order   int // answer: to which order; What is what is wrong
}

// load is the host's process.
type load struct {
	cfg loadConfig
	ms  atomic.Pointer[[]*multipath] // by exporter; they show one array
	// gate is held for reading by each I/O, and for writing while the host does not use the
	// array.
	gate     sync.RWMutex
	moments  map[string]*moment // by name of the snapshot
	stall    atomic.Int64       // nanoseconds
	ledger   *ledger
	out      *json.Encoder
	outMu    sync.Mutex
	ops      atomic.Int64
	wrong    atomic.Int64
	reported sync.Map       // what was found wrong, once each
	begun    []atomic.Int64 // by worker: start of its I/O, Unix nanoseconds; 0: none

	watchMu sync.Mutex
	watched []watch
}

// watch is blocks of which a write was sent on more than one path: the copy on
// the path that failed may still be somewhere, in a controller that hangs, and
// must never reach the disk. They were written once more since, and are read
// again and again, by nobody else written, until they are given back.
type watch struct {
	first uint64
	n     int
	until time.Time
}

const (
	watchFor  = 75 * time.Second // longer than the longest fault
	watchMost = 100
)

// runLoad is the main function of the host's process: it works until stdin
// says "verify" or ends, then reads every block back.
func runLoad() int {
	var cfg loadConfig
	if err := json.Unmarshal([]byte(os.Getenv(loadEnv)), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	l := &load{cfg: cfg, ledger: newLedger(cfg.Blocks), out: json.NewEncoder(os.Stdout), begun: make([]atomic.Int64, cfg.Workers+1),
		moments: map[string]*moment{}}
	l.connect()
	defer l.disconnect()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var workers, beats sync.WaitGroup
	beatCtx, stopBeats := context.WithCancel(ctx)
	defer stopBeats()
	beats.Go(func() { l.beat(beatCtx) })
	beats.Go(func() { l.watch(beatCtx) })
	beats.Go(func() { l.watchStall(beatCtx) })
	quit := make(chan struct{})
	for w := range cfg.Workers {
		workers.Go(func() { l.work(ctx, w, quit) })
	}
	if !l.obey(ctx, os.Stdin) {
		return 1 // the test is gone
	}
	close(quit)
	go func() { // the test may go while we wait for I/O
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	workers.Wait()
	checked := l.readBack(ctx)
	stopBeats()
	beats.Wait()
	l.say(report{Kind: "done", Ops: l.ops.Load(), Retries: l.retries(), Checked: checked, Wrong: int(l.wrong.Load())})
	return 0
}

// connect has the host use the array.
func (l *load) connect() {
	var ms []*multipath
	for _, nqn := range l.cfg.NQNs {
		ms = append(ms, l.dial(nqn, l.cfg.Addrs, func(what string) {
			l.say(report{Kind: "error", End: time.Now(), What: nqn + ": " + what})
		}))
	}
	l.ms.Store(&ms)
}

func (l *load) dial(nqn string, addrs []string, fail func(string)) *multipath {
	m := dial(nqn, l.cfg.HostNQN, addrs, l.cfg.Port, l.cfg.KeepAlive, slog.New(slog.NewTextHandler(os.Stderr, nil)), fail)
	m.grows = l.cfg.Grows
	return m
}

// disconnect undoes connect.
func (l *load) disconnect() {
	for _, m := range *l.ms.Swap(new([]*multipath)) {
		m.close()
	}
}

func (l *load) say(r report) {
	l.outMu.Lock()
	defer l.outMu.Unlock()
	if err := l.out.Encode(r); err != nil {
		os.Exit(1)
	}
}

// beat says every 100 ms how things are.
func (l *load) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
		r := report{Kind: "beat", End: time.Now(), Ops: l.ops.Load(), Retries: l.retries(), Paths: map[string]string{},
			Stall: time.Duration(l.stall.Swap(0))}
		for i := range l.begun {
			if at := l.begun[i].Load(); at != 0 {
				r.Oldest = max(r.Oldest, r.End.Sub(time.Unix(0, at)))
			}
		}
		for _, m := range *l.ms.Load() {
			for _, p := range m.paths {
				if s := p.state(); r.Paths[p.addr] == "" {
					r.Paths[p.addr] = s
				} else if r.Paths[p.addr] != s {
					r.Paths[p.addr] += ", " + s
				}
			}
		}
		l.say(r)
	}
}

func (l *load) retries() int64 {
	n := int64(0)
	for _, m := range *l.ms.Load() {
		n += m.retries.Load()
	}
	return n
}

// watchStall measures for how long this process gets no processor: I/O that
// took as long says nothing about the cluster.
func (l *load) watchStall(ctx context.Context) {
	const step = 5 * time.Millisecond
	for last := time.Now(); ctx.Err() == nil; {
		time.Sleep(step)
		now := time.Now()
		if late := int64(now.Sub(last) - step); late > l.stall.Load() {
			l.stall.Store(late)
		}
		last = now
	}
}

// work sends one command after another until quit is closed.
func (l *load) work(ctx context.Context, w int, quit <-chan struct{}) {
	buf := make([]byte, 8*blockSize)
	for {
		select {
		case <-quit:
			return
		case <-time.After(rand.N(2*l.cfg.Think) + 1):
		}
		n := 1
		if rand.N(4) == 0 {
			n = 1 + rand.N(8)
		}
		l.gate.RLock()
		l.once(ctx, w, n, buf)
		l.gate.RUnlock()
	}
}

// once carries out one command, of n blocks.
func (l *load) once(ctx context.Context, w, n int, buf []byte) {
	first := rand.N(uint64(l.ledger.size() - n + 1))
	// A quarter of the I/O goes to any path, so that proxies have work.
	spread := rand.N(4) == 0
	switch d := rand.N(100); {
	case d < 65:
		l.write(ctx, w, first, n, buf[:n*blockSize], spread)
	case d < 67:
		l.timed(ctx, w, bdev.OpFlush, nil, 0, 0, spread)
	default:
		l.read(ctx, w, first, n, buf[:n*blockSize], spread)
	}
}

func (l *load) write(ctx context.Context, w int, first uint64, n int, buf []byte, spread bool) {
	seqs := l.ledger.begin(first, n)
	if seqs == nil {
		return
	}
	put := func() (attempts int, ok bool) {
		for i, seq := range seqs {
			stamp.Put(buf[i*blockSize:(i+1)*blockSize], first+uint64(i), seq)
		}
		return l.timed(ctx, w, bdev.OpWrite, buf, first, n, spread)
	}
	attempts, ok := put()
	if !ok {
		return
	}
	if attempts == 1 || !l.mayWatch() {
		l.ledger.end(first, n)
		return
	}
	seqs = l.ledger.again(first, n)
	if _, ok := put(); !ok {
		return
	}
	l.ledger.hold(first, n)
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	l.watched = append(l.watched, watch{first, n, time.Now().Add(watchFor)})
}

func (l *load) mayWatch() bool {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	return len(l.watched) < watchMost
}

// watch reads the blocks that are watched.
func (l *load) watch(ctx context.Context) {
	buf := make([]byte, 8*blockSize)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(300 * time.Millisecond):
		}
		l.gate.RLock()
		l.look(ctx, buf)
		l.gate.RUnlock()
	}
}

// look reads the blocks that are watched once, and gives those back whose time is over.
func (l *load) look(ctx context.Context, buf []byte) {
	now := time.Now()
	l.watchMu.Lock()
	all := slices.Clone(l.watched)
	l.watched = slices.DeleteFunc(l.watched, func(x watch) bool { return now.After(x.until) })
	l.watchMu.Unlock()
	for _, x := range all {
		if ctx.Err() != nil {
			return
		}
		l.read(ctx, l.cfg.Workers, x.first, x.n, buf[:x.n*blockSize], false)
		if now.After(x.until) {
			l.ledger.end(x.first, x.n)
		}
	}
}

func (l *load) read(ctx context.Context, w int, first uint64, n int, buf []byte, spread bool) {
	least := l.ledger.oldest(first, n)
	if _, ok := l.timed(ctx, w, bdev.OpRead, buf, first, n, spread); !ok {
		return
	}
	for _, err := range l.ledger.check(first, buf, least) {
		if _, known := l.reported.LoadOrStore(err.Error(), true); known {
			continue
		}
		l.wrong.Add(1)
		l.say(report{Kind: "error", End: time.Now(), What: "WRONG DATA: " + err.Error()})
	}
}

// timed carries out one command and reports it when it was slow.
func (l *load) timed(ctx context.Context, w int, op bdev.Op, buf []byte, first uint64, n int, spread bool) (attempts int, ok bool) {
	begin := time.Now()
	l.begun[w].Store(begin.UnixNano())
	addr, attempts, err := l.way().do(ctx, op, buf, first, n, spread)
	l.begun[w].Store(0)
	end := time.Now()
	if err != nil {
		return attempts, false
	}
	l.ops.Add(1)
	if end.Sub(begin) > l.cfg.Slow {
		l.say(report{Kind: "slow", Start: begin, End: end, What: fmt.Sprintf("%v of block %d", op, first), Path: addr, Attempts: attempts})
	}
	return attempts, true
}

// way is one of the exporters.
func (l *load) way() *multipath {
	ms := *l.ms.Load()
	return ms[rand.N(len(ms))]
}

// readBack reads every block through the best path and checks it.
func (l *load) readBack(ctx context.Context) int {
	const chunk = 16
	blocks := l.ledger.size()
	buf := make([]byte, chunk*blockSize)
	for first := 0; first < blocks; first += chunk {
		n := min(chunk, blocks-first)
		l.read(ctx, 0, uint64(first), n, buf[:n*blockSize], false)
	}
	return blocks
}
