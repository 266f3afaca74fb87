//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// The host's time-outs. A Linux host has a keep-alive of 5 s and reconnects
// every 10 s by default; a host that wants short pauses sets them so:
// nvme connect --keep-alive-tmo=2 --reconnect-delay=1 --ctrl-loss-tmo=-1.
//
// With SPDK a host must not be that quick: a secondary on SPDK that hung executes
// what it has received, and the primary needs up to 4 s to cut it off
// (docs/spdk.md). Linux's default will do, with which a controller is given up after
// 5 to 7.5 s of silence; our host takes half to all of its keep-alive for that.
const (
	hostKeepAlive      = 2 * time.Second
	spdkHostKeepAlive  = 10 * time.Second
	hostReconnectDelay = time.Second
	hostConnectTimeout = 2 * time.Second
	// hostRetries is how often a status that concerns neither path nor data
	// is tried again, as nvme_core.max_retries.
	hostRetries = 5
)

// path is one controller of the exporter.
type path struct {
	addr string
	ctrl atomic.Pointer[host.Controller] // nil until the first connect
	// shunned is until when the path is not tried, in Unix nanoseconds: it
	// has just answered with an ANA status, and the new states are awaited.
	shunned atomic.Int64
}

func (p *path) namespace() *host.Namespace {
	c := p.ctrl.Load()
	if c == nil {
		return nil
	}
	return c.Namespace(1)
}

// state is what a person would want to know of the path.
func (p *path) state() string {
	c := p.ctrl.Load()
	switch {
	case c == nil:
		return "connecting"
	case c.State() != host.Enabled:
		return c.State().String()
	}
	ns := c.Namespace(1)
	if ns == nil {
		return "no namespace"
	}
	switch ns.ANA() {
	case host.ANAOptimized:
		return "optimized"
	case host.ANANonOptimized:
		return "non_optimized"
	case host.ANAInaccessible:
		return "inaccessible"
	}
	return fmt.Sprintf("ana %d", ns.ANA())
}

// multipath is the array as the host sees it. Safe for concurrent use.
type multipath struct {
	paths []*path
	fail  func(string) // reports an error that an application would have seen
	wg    sync.WaitGroup
	stop  context.CancelFunc

	grows bool // the namespace may become larger

	retries atomic.Int64
	there   atomic.Bool // a path had a namespace at the last look
	// shows is the identity of the block device: what the first path showed.
	shows atomic.Pointer[host.Identity]
}

// dial starts to connect to each address for ever.
func dial(nqn, hostNQN string, addrs []string, port string, keepAlive time.Duration, log *slog.Logger, fail func(string)) *multipath {
	ctx, stop := context.WithCancel(context.Background())
	m := &multipath{fail: fail, stop: stop}
	for _, a := range addrs {
		p := &path{addr: a}
		m.paths = append(m.paths, p)
		cfg := host.Config{Traddr: a, Trsvcid: port, SubNQN: nqn, HostNQN: hostNQN, Queues: 2, KeepAlive: keepAlive,
			ConnectTimeout: hostConnectTimeout, AdminTimeout: 5 * time.Second, Log: log,
			Resilience: host.Resilience{LossTimeout: -1, Delay: hostReconnectDelay, FastIOFail: hostReconnectDelay}}
		m.wg.Go(func() {
			for ctx.Err() == nil {
				c, err := host.Connect(ctx, cfg)
				if err == nil {
					p.ctrl.Store(c)
					return
				}
				log.Info("connect", "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(hostReconnectDelay):
				}
			}
		})
	}
	return m
}

func (m *multipath) close() {
	m.stop()
	m.wg.Wait()
	for _, p := range m.paths {
		if c := p.ctrl.Load(); c != nil {
			c.Close()
		}
	}
}

// pick returns the path for the next command: an optimized one, else any that
// is accessible; any at all of them when spread. Nil when there is none now.
func (m *multipath) pick(spread bool) (*path, *host.Namespace) {
	now := time.Now().UnixNano()
	var good, other []*path
	some := false
	for _, p := range m.paths {
		ns := p.namespace()
		some = some || ns != nil
		if ns != nil {
			m.compare(p, ns.Identity())
		}
		if ns == nil || !ns.Usable() || p.shunned.Load() > now {
			continue
		}
		if ns.ANA() == host.ANAOptimized {
			good = append(good, p)
		} else {
			other = append(other, p)
		}
	}
	if m.there.Swap(some) && !some {
		m.fail("no path has a namespace: the host's block device is gone")
	}
	if spread || len(good) == 0 {
		good = append(good, other...)
	}
	if len(good) == 0 {
		return nil, nil
	}
	p := good[rand.N(len(good))]
	ns := p.namespace()
	if ns == nil {
		return nil, nil
	}
	return p, ns
}

// compare reports a path that shows another namespace than the others do, or
// than it did before: Linux would refuse it, or take the disk away.
func (m *multipath) compare(p *path, is *host.Identity) {
	was := m.shows.Load()
	if was == nil {
		m.shows.CompareAndSwap(nil, is)
		return
	}
	size := was.Blocks
	if m.grows && is.Blocks > size {
		size = is.Blocks // smaller than it was first it never is
	}
	if is.NGUID != was.NGUID || is.UUID != was.UUID || is.EUI64 != was.EUI64 || is.Blocks != size {
		m.fail(fmt.Sprintf("path %s shows another namespace: %+v, not %+v", p.addr, *is, *was))
	}
}

// do carries out one command and returns when it has succeeded, on whichever
// path, which it names, with how many attempts that took; or when ctx has
// ended.
func (m *multipath) do(ctx context.Context, op bdev.Op, buf []byte, first uint64, blocks int, spread bool) (addr string,
	attempts int, err error) {
	other := 0
	for {
		p, ns := m.pick(spread)
		if p == nil {
			select {
			case <-ctx.Done():
				return "", attempts, context.Cause(ctx)
			case <-time.After(2 * time.Millisecond):
				continue
			}
		}
		attempts++
		scale := uint64(blockSize / ns.BlockSize())
		done := make(chan nvme.Status, 1)
		r := &bdev.Request{Op: op, Offset: first * scale, Blocks: uint64(blocks) * scale,
			Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
		if op != bdev.OpFlush {
			r.Iov = [][]byte{buf}
		} else {
			r.Offset, r.Blocks = 0, 0
		}
		var b bdev.Batch
		ns.Submit(r, nil, &b)
		b.Flush()
		s := <-done // a lost session completes it
		switch {
		case s == nvme.Success:
			return p.addr, attempts, nil
		case s.IsPath() || ns.Gone():
			m.retries.Add(1)
			p.shunned.Store(time.Now().Add(10 * time.Millisecond).UnixNano())
			if c := p.ctrl.Load(); s != nvme.HostPathError {
				c.PollANA()
			}
		case s&nvme.DNR == 0 && other < hostRetries:
			other++
		default:
			m.fail(fmt.Sprintf("%v of block %d on path %s: %v", op, first, p.addr, s))
			other = 0
			time.Sleep(100 * time.Millisecond) // tried again only to go on with the test
		}
		if ctx.Err() != nil {
			return p.addr, attempts, context.Cause(ctx)
		}
	}
}
