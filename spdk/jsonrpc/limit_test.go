package jsonrpc

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), "\n")
}

// TestIdleClientsMakeRoom: clients that connect and say nothing lock nobody
// out; one that has called just now, or waits for its reply, stays.
func TestIdleClientsMakeRoom(t *testing.T) {
	const most = 8
	var log lines
	release := make(chan struct{})
	path := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(lis, Config{Lookup: methods(release), MaxConns: most, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	defer s.Close(time.Second)
	dial := func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		return c
	}
	buf := make([]byte, 200)
	agent := dial()
	ask := func() {
		t.Helper()
		if _, err := io.WriteString(agent, `{"method":"yes","id":1}`); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.Read(buf); err != nil {
			t.Fatalf("a client that calls was disconnected: %v", err)
		}
	}
	ask()
	for range 3 * most {
		dial() // and say nothing
	}
	for i := range most {
		c := dial()
		fmt.Fprintf(c, `{"method":"yes","id":%d}`, i)
		if _, err := c.Read(buf); err != nil {
			t.Fatalf("client %d is locked out: %v", i, err)
		}
		c.Close()
		ask()
	}
	if s.LimitsMet() == 0 {
		t.Error("no limit was counted")
	}
	if n := log.count(); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// TestSlowRequestsMakeRoom: a request that comes a byte at a time and does not end keeps its
// client's place no longer than silence does.
func TestSlowRequestsMakeRoom(t *testing.T) {
	var u use
	begin := time.Now()
	idle := func(after time.Duration) bool { return u.idle(begin.Add(after)) > 0 }
	u.touch()
	u.receive()
	u.last.Store(begin.Add(time.Minute).UnixNano()) // more of it
	u.begun.CompareAndSwap(0, u.last.Load())
	if !idle(muteTime+time.Second) || idle(muteTime/2) {
		t.Errorf("half of a first request makes room: after %v %v, after %v %v; want true, false", muteTime+time.Second,
			idle(muteTime+time.Second), muteTime/2, idle(muteTime/2))
	}
	u.whole()
	u.begin()
	if idle(time.Hour) {
		t.Error("a call under way makes room")
	}
	u.end()
	u.receive()
	if idle(idleTime/2) || !idle(idleTime+time.Minute) {
		t.Errorf("half of another request makes room: after %v %v, later %v; want false, true", idleTime/2,
			idle(idleTime/2), idle(idleTime+time.Minute))
	}

	const most = 4
	dial := start(t, Config{MaxConns: most})
	stop, slow := make(chan struct{}), sync.WaitGroup{}
	defer slow.Wait()
	defer close(stop)
	for range most {
		c := dial()
		slow.Go(func() {
			_, err := io.WriteString(c, `{"method":"`)
			for err == nil {
				select {
				case <-stop:
					return
				case <-time.After(muteTime / 20):
				}
				_, err = io.WriteString(c, "y")
			}
		})
	}
	c := dial()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c, `{"method":"yes","id":1}`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Errorf("who sends half a request, slowly, locks others out: %v", err)
	}
}

// starved is a listener of a process without descriptors.
type starved struct {
	net.Listener
	fails int
}

func (l *starved) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

// TestNoDescriptors: a process without descriptors says so once, and serves
// when there are some again.
func TestNoDescriptors(t *testing.T) {
	var log lines
	path := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(&starved{lis, 50}, Config{Lookup: methods(nil), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	defer s.Close(time.Second)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	if got := exchange(t, c, `{"method":"yes","id":1}`); !strings.Contains(got, "true") {
		t.Errorf("got %q", got)
	}
	if n := log.count(); n != 1 || s.LimitsMet() != 50 {
		t.Errorf("%d lines, %d times", n, s.LimitsMet())
	}
}
