package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHostsReachEachOtherAndKeepNothing(t *testing.T) {
	if missing := Missing(); len(missing) > 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this machine lacks %v", missing)
		}
		t.Skipf("this machine lacks %v", missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := New(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/etc/lab-was-here"); err == nil {
			t.Error("a host wrote to the machine's own /etc")
		}
	}()
	a, err := l.AddHost(ctx, "alpha", "192.168.0.10")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.AddHost(ctx, "beta", "192.168.0.11")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.must(ctx, "echo x > /etc/lab-was-here; (while true; do echo hello from $(hostname) | timeout 5 bash -c 'cat' ; sleep 1; "+
		"done) > /tmp/log 2>&1 &"); err != nil {
		t.Fatal(err)
	}
	r, err := b.Run(ctx, "test ! -e /etc/lab-was-here && hostname && ip -br addr show eth0 && for i in $(seq 50); do timeout 1 bash -c "+
		"'</dev/tcp/192.168.0.10/1' 2>&1 | grep -q refused && echo reached && break; sleep 0.1; done")
	if err != nil || r.Code != 0 {
		t.Fatalf("beta: %v %+v", err, r)
	}
	if out := string(r.Stdout); !strings.Contains(out, "beta") || !strings.Contains(out, "192.168.0.11/24") ||
		!strings.Contains(out, "reached") {
		t.Errorf("beta printed %q", out)
	}
}

// TestAHostIsReadyInItsOwnRoot has chroot take its time, as it does on a busy
// machine: a command that is run as soon as the host is there must not change the
// machine's own files.
func TestAHostIsReadyInItsOwnRoot(t *testing.T) {
	if missing := Missing(); len(missing) > 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this machine lacks %v", missing)
		}
		t.Skipf("this machine lacks %v", missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	real, err := exec.LookPath("chroot")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "chroot"), []byte("#!/bin/sh\nsleep 1\nexec "+real+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	l, err := New(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h, err := l.AddHost(ctx, "slow", "192.168.0.10")
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(bin, "host-was-here")
	if err := h.must(ctx, "mkdir -p "+bin+" && echo x > "+mark); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a host that had just started wrote to the machine's own files")
	}
}

func TestMissingNamesWhatLacks(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if got := strings.Join(Missing(), " "); !strings.Contains(got, "nsenter") {
		t.Errorf("with an empty PATH Missing() = %q, want nsenter among it", got)
	}
}

var _ Runner = (*Host)(nil)
