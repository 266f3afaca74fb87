package nvmftgt

import (
	"testing"
)

// BenchmarkCommand measures what a command costs besides system calls: from
// received bytes to a reply that is ready to be sent, and its release.
func BenchmarkCommand(b *testing.B) {
	const depth = 32
	for _, c := range []struct {
		name string
		op   byte
	}{{"read4K", 2}, {"write4K", 1}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b)
			_, id := r.admin()
			w := r.ioq(id, 1)
			var in []byte
			for i := range depth {
				s := w.rw(c.op, uint64(i), 1)
				if c.op == 1 {
					sglIn(s, 4096)
					in = append(in, w.capsulePDU(s, pattern(4096, byte(i)))...)
				} else {
					sglOut(s, 4096)
					in = append(in, w.capsulePDU(s, nil)...)
				}
			}
			var conn *conn
			r.sub.mu.Lock()
			for v := range r.sub.conns {
				if v.q.id == 1 {
					conn = v
				}
			}
			r.sub.mu.Unlock()
			// The reader sleeps; this goroutine takes its place.
			for conn.rx.parked.Load() == 0 {
			}
			conn.rx.takeBuffer()
			pass := func() {
				conn.rx.r, conn.rx.w = 0, 0
				copy(conn.rx.buf, in)
				if err := conn.rx.received(len(in)); err != nil {
					b.Fatal(err)
				}
				conn.mu.Lock()
				conn.tx.dirty, conn.tx.sending = false, true
				conn.tx.takeOut()
				conn.mu.Unlock()
				conn.batch.Flush() // finds somebody sending
				conn.tx.sent(&conn.batch)
			}
			for range 10 {
				pass()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += depth {
				pass()
			}
			b.StopTimer()
			conn.rx.dropBuffer()
		})
	}
}
