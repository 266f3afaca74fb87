package daemon

import (
	"net"
	"path/filepath"
	"testing"
)

// TestServing: a program tells systemd that it serves, that it is alive, and that
// it is stopping.
func TestServing(t *testing.T) {
	Serving()() // without systemd it does nothing
	path := filepath.Join(t.TempDir(), "notify")
	s, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	hear := func() string {
		b := make([]byte, 100)
		n, err := s.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	stop := Serving()
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := hear(); got != want {
			t.Errorf("systemd hears %q, want %q", got, want)
		}
	}
	done := make(chan struct{})
	go func() { stop(); close(done) }()
	for got := hear(); got != "STOPPING=1"; got = hear() {
		if got != "WATCHDOG=1" {
			t.Errorf("systemd hears %q", got)
		}
	}
	<-done
}
