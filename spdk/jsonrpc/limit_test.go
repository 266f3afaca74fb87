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
