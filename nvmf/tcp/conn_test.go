package tcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pair returns a connection and its peer, over loopback.
func pair(t testing.TB) (*Conn, *net.TCPConn) {
	t.Helper()
	ln, err := Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := Dial(context.Background(), "127.0.0.1", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), peer.Close() })
	return c, peer.(*net.TCPConn)
}

// TestRecv: nothing, some bytes, the end.
func TestRecv(t *testing.T) {
	c, peer := pair(t)
	buf := make([]byte, 10)
	if _, e := c.Recv(buf); e != syscall.EAGAIN {
		t.Fatalf("%v where nothing has come", e)
	}
	_, _ = peer.Write([]byte("abc"))
	_ = peer.CloseWrite()
	waitFor(t, func() bool { n, e := c.Recv(buf); return e == 0 && string(buf[:n]) == "abc" })
	waitFor(t, func() bool { n, e := c.Recv(buf); return e == 0 && n == 0 })
}

// TestEnded: the end of a connection is known while what came before is unread.
func TestEnded(t *testing.T) {
	for _, end := range []struct {
		name string
		by   func(peer *net.TCPConn) error
	}{
		{"closed", (*net.TCPConn).Close},
		{"half closed", (*net.TCPConn).CloseWrite},
		{"reset", func(peer *net.TCPConn) error { return errors.Join(peer.SetLinger(0), peer.Close()) }},
	} {
		c, peer := pair(t)
		_, _ = peer.Write([]byte("abc"))
		if c.Ended() {
			t.Errorf("%s: ended before", end.name)
		}
		if err := end.by(peer); err != nil {
			t.Fatal(err)
		}
		waitFor(t, c.Ended)
		if buf := make([]byte, 10); end.name != "reset" {
			if n, e := c.Recv(buf); e != 0 || n != 3 {
				t.Errorf("%s: %d bytes, %v", end.name, n, e)
			}
		}
	}
}

// TestRecvData: what is due goes to its place and the rest behind it; of more
// pieces than one call takes, nothing is received ahead.
func TestRecvData(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	c, peer := pair(t)
	for _, most := range []int{5, 3000} {
		got := make([]byte, 20_000)
		iov := cut(rnd, got, most)
		off, want := rnd.IntN(5000), random(rnd, 10_000)
		sent := random(rnd, 100)
		all := append(bytes.Clone(want), sent...)
		go func() { _, _ = peer.Write(all) }()
		ahead := make([]byte, 64)
		for done := 0; done < len(want); {
			n, e := c.RecvData(iov, off+done, len(want)-done, ahead)
			switch {
			case e == syscall.EAGAIN:
				time.Sleep(time.Millisecond)
			case e != 0 || n == 0:
				t.Fatal(n, e)
			case n > len(want)-done:
				over := n - (len(want) - done)
				if !bytes.Equal(ahead[:over], sent[:over]) {
					t.Fatal("what was received ahead")
				}
				sent = sent[over:]
				done = len(want)
			default:
				done += n
			}
		}
		if !bytes.Equal(got[off:off+len(want)], want) {
			t.Fatal("data is not in its place")
		}
		if !bytes.Equal(got[:off], make([]byte, off)) || !bytes.Equal(got[off+len(want):], make([]byte, len(got)-off-len(want))) {
			t.Fatal("bytes beside the data were changed")
		}
		rest := make([]byte, 200)
		for len(sent) > 0 {
			n, e := c.Recv(rest)
			if e == syscall.EAGAIN {
				time.Sleep(time.Millisecond)
				continue
			}
			if e != 0 || !bytes.Equal(rest[:n], sent[:n]) {
				t.Fatal("what came behind it")
			}
			sent = sent[n:]
		}
	}
}

// TestSend: a queue larger than the socket's buffer arrives whole, whichever
// way it is sent.
func TestSend(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for _, wait := range []bool{false, true} {
		c, peer := pair(t)
		var q Queue
		var want []byte
		for len(want) < 16<<20 {
			b := random(rnd, 1<<20)
			q.Data(cut(rnd, b, 3000), 0, len(b))
			copy(q.Header(24), "header")
			want = append(append(want, b...), append([]byte("header"), make([]byte, 18)...)...)
		}
		if e := c.Send(&q); e != syscall.EAGAIN || q.Empty() {
			t.Fatalf("%v: the socket takes it all", e)
		}
		got := make(chan []byte)
		go func() {
			b := make([]byte, len(want))
			_, _ = io.ReadFull(peer, b)
			got <- b
		}()
		if wait {
			if err := c.SendWait(&q, time.Minute); err != nil {
				t.Fatal(err)
			}
		} else {
			waitFor(t, func() bool { return c.Send(&q) == 0 })
		}
		if !q.Empty() || !bytes.Equal(<-got, want) {
			t.Fatal("something else has arrived")
		}
	}
}

// TestSendWaitEnds: a peer that takes nothing is waited for no longer than the
// limit, and Abort ends a wait without one.
func TestSendWaitEnds(t *testing.T) {
	c, _ := pair(t)
	var q Queue
	b := make([]byte, 1<<20)
	for range 32 {
		q.Data([][]byte{b}, 0, len(b))
	}
	if err := c.SendWait(&q, 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Time{})
	done := make(chan error)
	go func() { done <- c.SendWait(&q, 0) }()
	c.Abort()
	if err := <-done; err == nil {
		t.Fatal("sent")
	}
}

// ear is a user of an Input that counts what it hears.
type ear struct {
	c     *Conn
	in    Input
	bytes atomic.Int64
	rests atomic.Int64
	end   bool
	next  Next // what a poller leaves
}

func (r *ear) try() bool {
	var buf [256]byte
	for {
		n, e := r.c.Recv(buf[:])
		switch {
		case e == syscall.EAGAIN:
			return false
		case e != 0 || n == 0:
			r.end = true
			return true
		}
		r.bytes.Add(int64(n))
	}
}

func (r *ear) PollSource() bool {
	return r.in.Poll(func() (bool, Next) {
		before := r.bytes.Load()
		if r.try() {
			return true, Wake
		}
		return r.bytes.Load() > before, r.next
	})
}

func listen(c *Conn) *ear {
	r := &ear{c: c}
	r.in.Init(c, r, r.try, func() { r.rests.Add(1) })
	return r
}

// TestSleep: the reader hears all that comes, and of the end.
func TestSleep(t *testing.T) {
	c, peer := pair(t)
	r := listen(c)
	done := make(chan error)
	go func() { done <- r.in.Sleep() }()
	for i := range 100 {
		_, _ = peer.Write(make([]byte, 100))
		waitFor(t, func() bool { return r.bytes.Load() == int64(i+1)*100 })
	}
	_ = peer.Close()
	if err := <-done; err != nil || !r.end || r.rests.Load() == 0 {
		t.Fatal(err, r.end, r.rests.Load())
	}
}

// TestWake: Wake has Sleep return, once.
func TestWake(t *testing.T) {
	c, peer := pair(t)
	r := listen(c)
	done := make(chan error)
	sleep := func() { done <- r.in.Sleep() }
	go sleep()
	c.Wake()
	if err := <-done; err != os.ErrDeadlineExceeded {
		t.Fatal(err)
	}
	go sleep()
	_ = peer.Close()
	if err := <-done; err != nil || !r.end {
		t.Fatal(err)
	}
}

// TestPoll has two pollers serve a connection whose reader sleeps and wakes:
// no byte is lost, none is counted twice, and the end reaches the reader, also
// when a poller comes upon it.
func TestPoll(t *testing.T) {
	for range 20 {
		c, peer := pair(t)
		r := listen(c)
		done := make(chan struct{})
		go func() {
			for !r.end {
				_ = r.in.Sleep()
			}
			close(done)
		}()
		stop := make(chan struct{})
		for range 2 {
			go func() {
				for {
					select {
					case <-stop:
						return
					default:
						r.PollSource()
						runtime.Gosched()
					}
				}
			}()
		}
		const n = 200
		for range n {
			_, _ = peer.Write(make([]byte, 300))
		}
		_ = peer.Close()
		<-done
		close(stop)
		if got := r.bytes.Load(); got != n*300 {
			t.Fatalf("%d bytes of %d", got, n*300)
		}
	}
}

// TestPollLater: what only the reader may do does not wake it, unless it has
// been turned away meanwhile.
func TestPollLater(t *testing.T) {
	c, _ := pair(t)
	r := listen(c)
	done := make(chan error)
	go func() { done <- r.in.Sleep() }()
	waitFor(t, func() bool { return r.rests.Load() > 0 && r.in.turn.Try() })
	r.in.turn.Drop()
	if r.in.Poll(func() (bool, Next) { return false, Later }) {
		t.Error("Later, and nobody turned away, counts as something done")
	}
	select {
	case err := <-done:
		t.Fatal("the reader was woken: ", err)
	default:
	}
	for name, looks := range map[string][]Next{
		"while there is something for it":        {Later},
		"before there is something for it":       {Done, Later},
		"long before there is something for it":  {Done, Done, Later},
		"before there is something it wakes for": {Done, Wake},
	} {
		i := 0
		if !r.in.Poll(func() (bool, Next) {
			if i++; i < len(looks) || len(looks) == 1 {
				r.in.turn.Take() // as the reader does when it wakes
			}
			return false, looks[i-1]
		}) {
			t.Errorf("a reader that was turned away %s is not woken", name)
		}
		if err := <-done; err != os.ErrDeadlineExceeded {
			t.Fatal(err)
		}
		go func() { done <- r.in.Sleep() }()
		waitFor(t, func() bool { return r.rests.Load() > 1 && r.in.turn.Try() })
		r.in.turn.Drop()
	}
	c.Wake()
	<-done
}

// TestNoAllocations: receiving and sending allocate nothing.
func TestNoAllocations(t *testing.T) {
	c, peer := pair(t)
	var q Queue
	data, in := [][]byte{make([]byte, 4096), make([]byte, 512)}, make([]byte, 4632)
	got := [][]byte{make([]byte, 4096), make([]byte, 512)}
	if n := testing.AllocsPerRun(200, func() {
		q.Reset()
		q.Header(24)
		q.Data(data, 0, 4608)
		if e := c.Send(&q); e != 0 {
			t.Fatal(e)
		}
		_, _ = io.ReadFull(peer, in)
		_, _ = peer.Write(in[:100])
		for left := 100; left > 0; {
			n, e := c.RecvData(got, 100-left, min(left, 60), in[:40])
			if e == 0 {
				left -= n
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// waitFor returns when f is true.
func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	for !f() {
		if t.Context().Err() != nil {
			t.Fatal("it does not happen")
		}
		time.Sleep(time.Millisecond)
	}
}
