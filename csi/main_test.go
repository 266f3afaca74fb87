package csi

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// TestLocation: a node is where its flag says or, without one, its file.
func TestLocation(t *testing.T) {
	root := t.TempDir()
	if got, err := (Main{HostRoot: root}).location(); got != "" || err != nil {
		t.Errorf("a node that nobody has told: %q, %v", got, err)
	}
	write := func(text string) {
		t.Helper()
		name := filepath.Join(root, locationFile)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(" rack1\nsecond line\n")
	if got, err := (Main{HostRoot: root}).location(); got != "rack1" || err != nil {
		t.Errorf("its file: %q, %v", got, err)
	}
	if got, err := (Main{HostRoot: root, Location: "rack2"}).location(); got != "rack2" || err != nil {
		t.Errorf("its flag beside a file: %q, %v", got, err)
	}
	for _, bad := range []string{strings.Repeat("x", 64), "a b", "rack/1", "-a", "a.", "räck"} { // no values of labels
		if _, err := (Main{HostRoot: root, Location: bad}).location(); err == nil || !strings.Contains(err.Error(), "--location") {
			t.Errorf("the flag %q: %v", bad, err)
		}
		write(bad)
		if _, err := (Main{HostRoot: root}).location(); err == nil || !strings.Contains(err.Error(), "/etc/vda/location") {
			t.Errorf("the file %q: %v", bad, err)
		}
	}
	for _, good := range []string{"", "\n", "r", "Room-1_b.2", strings.Repeat("x", 63)} {
		write(good)
		if got, err := (Main{HostRoot: root}).location(); err != nil || got != strings.TrimSpace(good) {
			t.Errorf("the file %q: %q, %v", good, got, err)
		}
	}
}

// TestWaysOfAVolume: the portals that a volume's id names are asked for its controllers, and the
// driver's own where it names none.
func TestWaysOfAVolume(t *testing.T) {
	asked := make(chan string, 16)
	portal := func(name string) (addr string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				asked <- name
				_ = c.Close()
			}
		}()
		return l.Addr().String()
	}
	w := &ways{own: []string{portal("own")}, clients: map[string]*client.Client{}}
	defer w.close()
	for want, v := range map[string]volume.ID{"own": {Array: "v"}, "named": {Array: "v", Portals: portal("named")}} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = w.of(ctx, v, "exporter") }()
		if got := <-asked; got != want {
			t.Errorf("of volume %s the portal that is asked is the %s one, want the %s one", v, got, want)
		}
		cancel()
		w.close()
		w.clients = map[string]*client.Client{}
		for len(asked) > 0 {
			<-asked
		}
	}
}
