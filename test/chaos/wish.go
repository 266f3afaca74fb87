//go:build e2e

package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
)

// wish is a line that the host reads, one at a time; it answers each.
type wish struct {
	ID     int
	Do     string
	Name   string   // of a snapshot
	NQN    string   // look
	Addrs  []string // look
	Blocks int      // grown
}

// What a host can be ordered.
const (
	doOpen    = "open"    // a snapshot is about to be taken
	doSeal    = "seal"    // it is there
	doAbandon = "abandon" // it is not, and will not be
	doLook    = "look"    // read what NQN shows: it is the snapshot
	doGrown   = "grown"   // the array has as many blocks; those that are new are zeros
	doStop    = "stop"    // use the array no more
	doGo      = "go"      // use it again, as it was
	doRewound = "rewound" // use it again, it was rolled back to the snapshot
	doVerify  = "verify"  // end, and read all back
)

// orderTime is how long the host tries to carry out an order.
const orderTime = 2 * time.Minute

// obey carries out orders until one is to verify; false: they have ended before.
func (l *load) obey(ctx context.Context, in io.Reader) bool {
	for lines := bufio.NewReader(in); ; {
		line, err := lines.ReadBytes('\n')
		var o wish
		if err != nil || json.Unmarshal(line, &o) != nil {
			return false
		}
		if o.Do == doVerify {
			return true
		}
		r := report{Kind: "answer", Order: o.ID}
		if err := l.carryOut(ctx, &o); err != nil {
			r.What = err.Error()
		}
		l.say(r)
	}
}

func (l *load) carryOut(ctx context.Context, o *wish) error {
	ctx, cancel := context.WithTimeoutCause(ctx, orderTime, fmt.Errorf("the host could not %s for %v", o.Do, orderTime))
	defer cancel()
	switch o.Do {
	case doOpen:
		l.moments[o.Name] = l.ledger.open()
	case doSeal:
		l.ledger.seal()
	case doAbandon:
		l.ledger.abandon()
	case doLook:
		var said []error
		m := l.dial(o.NQN, o.Addrs, func(what string) { said = append(said, errors.New(what)) })
		defer m.close()
		return errors.Join(append(l.compare(ctx, m, l.moments[o.Name]), said...)...)
	case doGrown:
		if err := l.grown(ctx, uint64(o.Blocks)); err != nil {
			return err
		}
		l.ledger.extend(o.Blocks)
	case doStop:
		l.gate.Lock()
		l.disconnect()
	case doRewound:
		l.ledger.rewind(l.moments[o.Name])
		l.watchMu.Lock()
		l.watched = nil
		l.watchMu.Unlock()
		l.connect()
		// Before anybody writes it is exactly the snapshot.
		errs := l.compare(ctx, l.way(), l.moments[o.Name])
		l.gate.Unlock()
		return errors.Join(errs...)
	case doGo:
		l.connect()
		l.gate.Unlock()
	default:
		return fmt.Errorf("the host knows no order %q", o.Do)
	}
	return nil
}

// compare reads what a snapshot is to hold.
func (l *load) compare(ctx context.Context, m *multipath, want *moment) []error {
	const chunk = 64
	buf := make([]byte, chunk*blockSize)
	var seqs []uint64
	var errs []error
	for first := 0; first < len(want.acked); first += chunk {
		n := min(chunk, len(want.acked)-first)
		if _, _, err := m.do(ctx, bdev.OpRead, buf[:n*blockSize], uint64(first), n, true); err != nil {
			return []error{fmt.Errorf("read of block %d: %w", first, err)}
		}
		s, e := sequences(uint64(first), buf[:n*blockSize])
		seqs, errs = append(seqs, s...), append(errs, e...)
	}
	errs = append(errs, want.holds(seqs)...)
	if more := len(errs) - 5; more > 0 {
		errs = append(errs[:5], fmt.Errorf("and %d more", more))
	}
	return errs
}

// grown waits until all paths that show the array show so many blocks.
func (l *load) grown(ctx context.Context, blocks uint64) error {
	small := func() string {
		for _, m := range *l.ms.Load() {
			some := false
			for _, p := range m.paths {
				if ns := p.namespace(); ns != nil && ns.Usable() {
					some = true
					if size := uint64(ns.Size()) / blockSize; size < blocks {
						return fmt.Sprintf("path %s shows %d blocks, not %d", p.addr, size, blocks)
					}
				}
			}
			if !some {
				return "no path shows anything"
			}
		}
		return ""
	}
	for {
		why := small()
		if why == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), why)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// order has the host do something, and returns what it says is wrong.
func (p *hostProcess) order(o wish) error {
	p.mu.Lock()
	p.orders++
	o.ID = p.orders
	p.mu.Unlock()
	if err := p.send(o); err != nil {
		return err
	}
	for end := time.Now().Add(orderTime + time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		a := p.answer
		p.mu.Unlock()
		if a.Order != o.ID {
			continue
		}
		if a.What != "" {
			return fmt.Errorf("the host, ordered to %s %s: %s", o.Do, o.Name, a.What)
		}
		return nil
	}
	return fmt.Errorf("the host does not answer the order to %s %s", o.Do, o.Name)
}

func (p *hostProcess) send(o wish) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = p.in.Write(append(text, '\n'))
	return err
}
