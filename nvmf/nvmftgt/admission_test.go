package nvmftgt

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// from opens a connection from another loopback address.
func (r *rig) from(ip string) (*wire, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", r.addr.String())
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &wire{t: r.t, c: c, hostnqn: testHost, hostid: testHostID}, nil
}

// TestIdleConnections: any number of connections without a Connect, or of
// discovery controllers, keep neither a host that connects nor one that is
// connected out; the log says so in a line, and a counter counts.
func TestIdleConnections(t *testing.T) {
	var log logged
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) {
		c.MaxConns = 40
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	_, id := r.admin()
	q := r.ioq(id, 1)
	flood := func(discovery bool) {
		for range 200 {
			w, err := r.from("127.0.0.1")
			must(t, err)
			if !discovery {
				continue
			}
			b := make([]byte, 128)
			b[2], b[4] = 128, 128
			if _, err := w.c.Write(b); err != nil {
				continue
			}
			s, d := w.connectSQE(0, 0xffff, 31, "nqn.2014-08.org.nvmexpress.discovery")
			sglIn(s, len(d))
			_, _ = w.c.Write(w.capsulePDU(s, d))
			time.Sleep(time.Millisecond)
		}
	}
	for i, discovery := range []bool{false, true} {
		flood(discovery)
		waitFor(t, func() bool { // as hosts do: again after a while
			_, err := r.tryConnect(0, 0xffff)
			return err == nil
		})
		q.read(0, 1)
		r.tgt.mu.Lock()
		guests := r.tgt.admission.young.Len() + r.tgt.admission.seekers.Len()
		r.tgt.mu.Unlock()
		if guests > 10 {
			t.Errorf("flood %d: %d guests of 40 connections", i, guests)
		}
	}
	if n := r.tgt.Stats().Refused; n < 300 {
		t.Errorf("%d times a limit was met", n)
	}
	log.mu.Lock()
	lines := strings.Count(log.buf.String(), "level=WARN")
	log.mu.Unlock()
	if lines == 0 || lines > 4 {
		t.Errorf("%d lines:\n%s", lines, log.buf.String())
	}
}

// TestOneAddressAlone: one address does not get all connections, however good
// its Connects are.
func TestOneAddressAlone(t *testing.T) {
	r := newRig(t, func(c *Config, _ *TransportOpts, _ *SubsystemConfig) { c.MaxConns = 40 })
	got := 0
	for range 40 {
		w, err := r.from("127.0.0.2")
		must(t, err)
		_, _ = w.c.Write(append([]byte{0, 0, 128, 0, 128, 0, 0, 0}, make([]byte, 120)...))
		s, d := w.connectSQE(0, 0xffff, 31, testNQN)
		sglIn(s, len(d))
		_, _ = w.c.Write(w.capsulePDU(s, d))
		p := make([]byte, 128+24)
		if n, _ := w.c.Read(p); n > 0 {
			got++
		}
		waitFor(t, func() bool { r.tgt.mu.Lock(); defer r.tgt.mu.Unlock(); return r.tgt.admission.young.Len() == 0 })
	}
	if got != 30 {
		t.Errorf("one address has %d of 40 connections", got)
	}
	_, id := r.admin()
	r.ioq(id, 1).read(0, 1)
}
