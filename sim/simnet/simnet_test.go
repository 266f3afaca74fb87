package simnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/sim/simnet"
)

const (
	left  = "10.0.0.1"
	right = "10.0.0.2"
	port  = right + ":9520"
)

// world is two machines with a process each, of which one serves.
type world struct {
	*testing.T
	net            *simnet.Network
	client, server *simnet.Process
	in             chan net.Conn
}

// inWorld runs f in a bubble.
func inWorld(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		w := &world{T: t, net: n, client: n.Start("client", left), server: n.Start("server", right), in: make(chan net.Conn, 8)}
		lis := w.server.Listen(port)
		go func() {
			for {
				c, err := lis.Accept()
				if err != nil {
					return
				}
				w.in <- c
			}
		}()
		f(w)
		_ = lis.Close()
	})
}

// connect returns both ends of a connection.
func (w *world) connect() (client, server net.Conn) {
	w.Helper()
	c, err := w.client.Dial(w.Context(), port)
	if err != nil {
		w.Fatal(err)
	}
	return c, <-w.in
}

func (w *world) send(c net.Conn, text string) {
	w.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		w.Fatal(err)
	}
}

// reads expects a message.
func (w *world) reads(c net.Conn, text string) {
	w.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		w.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// silent expects that nothing comes for a while.
func (w *world) silent(c net.Conn, d time.Duration) {
	w.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	n, err := c.Read(make([]byte, 16))
	if ne, ok := errors.AsType[net.Error](err); n > 0 || !ok || !ne.Timeout() {
		w.Fatalf("read %d bytes, %v; want nothing within %v", n, err, d)
	}
	_ = c.SetReadDeadline(time.Time{})
}

func TestMessagesKeepTheirOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		w.net.Lose(left, 0.5)
		c, s := w.connect()
		want := ""
		for i := range 200 {
			text := fmt.Sprint(i, " ")
			w.send(c, text)
			want += text
		}
		w.reads(s, want)
		_ = c.Close()
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after Close: %v", err)
		}
		_ = s.Close()
	})
}

func TestWhatIsSentIntoACutArrivesAfterIt(t *testing.T) {
	inWorld(t, func(w *world) {
		c, s := w.connect()
		heal := w.net.Cut(left, right)
		w.send(c, "late")
		w.silent(s, time.Minute)
		w.send(s, "back") // the other way is not cut
		w.reads(c, "back")
		heal()
		w.reads(s, "late")
	})
}

func TestCutsAreCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		first, second := w.net.Cut(left, right), w.net.Cut(left, right)
		first()
		if w.net.Open(left, right) {
			t.Error("open while one of two faults cuts the link")
		}
		second()
		if !w.net.Open(left, right) {
			t.Error("cut when both faults have ended")
		}
	})
}

func TestAKilledProcessResets(t *testing.T) {
	inWorld(t, func(w *world) {
		c, s := w.connect()
		w.send(s, "lost")
		w.server.Kill()
		if _, err := io.ReadAll(c); err == nil {
			t.Error("the connection ended without an error")
		}
		if _, err := w.client.Dial(w.Context(), port); !errors.As(err, new(*net.OpError)) {
			t.Errorf("dial: %v; want a refusal", err)
		}
		if _, err := s.Write([]byte("ghost")); err == nil {
			t.Error("a dead process writes")
		}
		select {
		case <-w.server.Killed():
		default:
			t.Error("Killed is open")
		}
		if err := w.server.Gate(nil); !errors.Is(err, simnet.ErrKilled) {
			t.Errorf("gate: %v", err)
		}
	})
}

func TestAMachineWithoutPowerIsSilent(t *testing.T) {
	inWorld(t, func(w *world) {
		c, _ := w.connect()
		w.net.Power(right, false)
		w.server.Kill()
		w.silent(c, time.Hour)
		short, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		if _, err := w.client.Dial(short, port); err == nil || time.Since(begun) != time.Minute {
			t.Errorf("dial: %v after %v; want nothing for a minute", err, time.Since(begun))
		}
		w.net.Power(right, true)
		if _, err := io.ReadAll(c); err == nil {
			t.Error("no reset when the machine is back without the process")
		}
	})
}

func TestAHungProcessKeepsItsConnections(t *testing.T) {
	inWorld(t, func(w *world) {
		c, s := w.connect()
		w.server.Hang()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			w.reads(s, "ping")
			w.send(s, "pong")
		}()
		w.send(c, "ping")
		w.silent(c, time.Minute)
		w.server.Resume()
		w.reads(c, "pong")
		<-answered
	})
}

func TestSlow(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, times := range []float64{1, 1000} {
			heal := w.net.Slow(times, left, "10.0.0.9")
			d, ok := w.net.Path(left, "10.0.0.7")
			if least := time.Duration(times * float64(100*time.Microsecond)); !ok || d < least || d > 3*least {
				t.Errorf("%v times slower: %v, %v", times, d, ok)
			}
			heal()
		}
		if err := w.net.Travel(w.Context(), left, right); err != nil {
			t.Error(err)
		}
		w.net.Cut(left, right)
		short, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := w.net.Travel(short, left, right); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("over a cut: %v", err)
		}
	})
}
