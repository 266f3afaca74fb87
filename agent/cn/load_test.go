package cn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// multipath is a host with a path to each controller, as Linux is one: it sends
// an I/O on an optimized path, else on another that is accessible; again
// elsewhere when it ends with a path error, and again on the same path, five
// times at most, when another error lets it. Any other error fails the test.
type multipath struct {
	t     *testing.T
	paths []*host.Namespace
}

// patience is how long an I/O may take on a machine that is busy.
const patience = time.Minute

// retries is Linux' nvme_core.max_retries.
const retries = 5

func (l *lab) multipath() *multipath { return l.multipathOf(l.spec.Exps[0]) }

func (l *lab) multipathOf(e *apiv1.ExpSpec) *multipath {
	l.Helper()
	m := &multipath{t: l.T}
	for i, n := range l.cns {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: n.port, SubNQN: e.Nqn, HostNQN: e.InitiatorNqn,
			Queues: 1, KeepAlive: unhurried,
			Resilience: host.Resilience{LossTimeout: -1, Delay: 100 * time.Millisecond, FastIOFail: 100 * time.Millisecond}})
		if err != nil {
			l.Fatal(err)
		}
		l.Cleanup(c.Close)
		if c.Namespace(1) == nil {
			l.Fatalf("cn%d shows no namespace", i)
		}
		m.paths = append(m.paths, c.Namespace(1))
	}
	return m
}

func (m *multipath) path(try int, prefer host.ANAState) *host.Namespace {
	var good []*host.Namespace
	for _, want := range []host.ANAState{prefer, host.ANAOptimized, host.ANANonOptimized} {
		for _, p := range m.paths {
			if p.ANA() == want && p.Controller().State() == host.Enabled {
				good = append(good, p)
			}
		}
		if want == prefer && len(good) > 0 {
			return good[try%len(good)]
		}
	}
	if len(good) == 0 {
		return nil
	}
	return good[try%len(good)]
}

// do repeats an I/O until it is done. It prefers paths of an ANA state.
func (m *multipath) do(prefer host.ANAState, io func(ctx context.Context, p *host.Namespace) error) error {
	begin := time.Now()
	var again *host.Namespace
	left := retries
	for try := 0; ; try++ {
		var err error
		p := again
		if p == nil {
			p = m.path(try, prefer)
		}
		again = nil
		if p == nil {
			err = errors.New("no path is accessible")
			time.Sleep(time.Millisecond)
		} else {
			// What is given up may still be carried out: after other writes then.
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err = io(ctx, p)
			cancel()
			if err == nil {
				return nil
			}
			var st nvme.Status
			if errors.As(err, &st) && !st.IsPath() {
				left--
				if !st.Retryable() || left < 0 {
					return fmt.Errorf("after %v, not a path error: %w", time.Since(begin), err)
				}
				again = p
				continue
			}
			time.Sleep(time.Millisecond)
		}
		if time.Since(begin) > patience {
			return fmt.Errorf("no success in %v: %w", patience, err)
		}
	}
}

// load writes blocks with numbers that grow, reads each back, and notes the
// longest time one took.
type load struct {
	m       *multipath
	wg      sync.WaitGroup
	stop    chan struct{}
	mu      sync.Mutex
	longest time.Duration
	done    [writers]int // blocks written and read back, by writer
}

const writers = 4

func startLoad(m *multipath) *load {
	l := &load{m: m, stop: make(chan struct{})}
	for w := range writers {
		l.wg.Go(func() { l.write(int64(w)) })
	}
	return l
}

func (l *load) write(w int64) {
	buf, got := make([]byte, 4096), make([]byte, 4096)
	prefer := host.ANAOptimized
	if w%2 == 1 { // a host that has lost its path to the primary
		prefer = host.ANANonOptimized
	}
	for seq := int64(0); ; seq++ {
		select {
		case <-l.stop:
			return
		default:
		}
		off := (seq%1000*writers + w) * 4096
		binary.LittleEndian.PutUint64(buf, uint64(seq))
		binary.LittleEndian.PutUint64(buf[8:], uint64(off))
		begin := time.Now()
		err := l.m.do(prefer, func(ctx context.Context, p *host.Namespace) error { return p.WriteAt(ctx, buf, off) })
		took := time.Since(begin)
		if err == nil {
			err = l.m.do(prefer, func(ctx context.Context, p *host.Namespace) error { return p.ReadAt(ctx, got, off) })
		}
		if err != nil || string(got) != string(buf) {
			l.m.t.Errorf("block at %d, number %d: %v; read %x", off, seq, err, got[:16])
			return
		}
		l.mu.Lock()
		l.longest = max(l.longest, took)
		l.done[w]++
		l.mu.Unlock()
		breathe(took)
	}
}

// breathe has a writer rest for twice as long as its last I/O took, but not for long: hosts
// that never rest leave the nodes under test no time of a small machine.
func breathe(took time.Duration) { time.Sleep(min(2*took, 20*time.Millisecond)) }

// goesOn waits until every writer has done blocks that it began from now on: what
// was on its way meanwhile has come to its end, and pause knows of it.
func (l *load) goesOn() {
	l.m.t.Helper()
	l.mu.Lock()
	begin := l.done
	l.mu.Unlock()
	planetest.Eventually(l.m.t, func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		for w, n := range l.done {
			if n < begin[w]+3 && !l.m.t.Failed() {
				return fmt.Sprintf("writer %d has done %d blocks", w, n-begin[w])
			}
		}
		return ""
	})
}

// total returns how many blocks were written and read back.
func (l *load) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.done {
		n += d
	}
	return n
}

// pause returns the longest time an I/O has taken since it was asked last.
func (l *load) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.longest
	l.longest = 0
	return d
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
	if l.total() == 0 {
		l.m.t.Error("no I/O was done")
	}
}

func TestRealSwitchUnderLoad(t *testing.T) { planes(t, realSwitchUnderLoad) }

func realSwitchUnderLoad(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	l.spec.Create = false
	work := startLoad(l.multipath())
	defer work.end()
	for round := range 4 {
		was, is := round%2, (round+1)%2
		work.goesOn()
		work.pause()
		l.term++
		l.sync(was, l.cntlr(was, is)) // retires
		l.fence(false)
		l.good(is, l.cntlr(is, is))
		l.good(was, l.cntlr(was, is))
		work.goesOn()
		t.Logf("switch to cn%d: longest I/O %v", is, work.pause())
	}
}

func TestRealCrashUnderLoad(t *testing.T) { planes(t, realCrashUnderLoad) }

func realCrashUnderLoad(t *testing.T, spdkDN, spdkCN bool) {
	l, _, cnTgts := reals(t, 2, false, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	l.spec.Create = false
	work := startLoad(l.multipath())
	defer work.end()
	work.goesOn()
	l.cns[0].stop(l)
	cnTgts[0].stop()
	work.pause()
	l.term++
	l.fence(false)
	l.good(1, l.cntlr(1, 1))
	work.goesOn()
	t.Logf("promotion of cn1: longest I/O %v", work.pause())
	cnTgts[0].start()
	l.cns[0].start(l)
	l.good(0, l.cntlr(0, 1))
	l.healthy(0)
	work.goesOn()
}
