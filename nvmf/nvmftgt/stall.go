package nvmftgt

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// stall says what settling waits for when it takes long. The zero value begins
// with the first call.
type stall struct {
	begun time.Time
	next  time.Duration // how long after begun the next line is due
}

// maxStall is the longest time between two lines about the same wait.
const maxStall = time.Minute

// due reports whether a line is due, and how long the wait has taken.
func (s *stall) due(first time.Duration) (time.Duration, bool) {
	if s.begun.IsZero() {
		s.begun, s.next = time.Now(), first
	}
	took := time.Since(s.begun)
	if took < s.next {
		return took, false
	}
	s.next = took + min(max(took, first), maxStall)
	return took, true
}

// wait waits for done and says meanwhile what for.
func (s *stall) wait(t *Target, done <-chan struct{}, what func() []any) {
	tick := time.NewTicker(t.cfg.SettleGrace)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			s.say(t, "nvmf: a connection that was given up still waits for its commands", what)
		}
	}
}

// say logs msg with what is waited for, when a line is due.
func (s *stall) say(t *Target, msg string, what func() []any) {
	if took, ok := s.due(t.cfg.StallTime); ok {
		t.log.Warn(msg, append([]any{slog.Duration("for", took.Round(time.Millisecond))}, what()...)...)
	}
}

// waitsFor describes what conn waits for before it has settled.
func (conn *conn) waitsFor() []any {
	conn.mu.Lock()
	why := conn.why
	conn.mu.Unlock()
	a := append(conn.attrs(), slog.String("why", why), slog.Int64("commands", conn.q.inflight.Load()))
	if conn.sub != nil {
		a = append(a, slog.String("devices", conn.sub.busyDevices()))
	}
	return a
}

// busyDevices lists the namespaces whose devices have requests under way.
func (s *Subsystem) busyDevices() string {
	const most = 8
	var list []string
	for _, n := range *s.nss.Load() {
		if n == nil || len(list) == most {
			continue
		}
		if h := n.handle.Load(); h != nil && h.InFlight() > 0 {
			list = append(list, n.deviceUse())
		}
	}
	if len(list) == 0 {
		return "none busy"
	}
	return strings.Join(list, ", ")
}

// deviceUse says how many requests the namespace's device works at.
func (n *namespace) deviceUse() string {
	n.mu.Lock()
	name := n.bdev
	n.mu.Unlock()
	requests := 0
	if h := n.handle.Load(); h != nil {
		requests = h.InFlight()
	}
	return fmt.Sprintf("namespace %d on %s: %d requests", n.nsid, name, requests)
}

// drain shuts the gate and waits for the commands inside. Replies that a peer
// does not take are cut off after the grace.
func (n *namespace) drain() {
	var s stall
	s.due(n.sub.tgt.cfg.StallTime)
	n.gate.close(n.sub.tgt.cfg.SettleGrace, func() {
		n.cutLaggards()
		s.say(n.sub.tgt, "nvmf: a namespace still waits for commands to end", func() []any {
			inside := n.gate.state.Load() & (gateShut - 1)
			return []any{slog.String("subsystem", n.sub.cfg.NQN), slog.Int64("commands", inside), slog.String("devices", n.deviceUse())}
		})
	})
}
