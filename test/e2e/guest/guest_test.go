//go:build e2e

package guest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/test/e2e/guest"
	"github.com/virtual-disk-array/vda/test/e2e/lab"
)

func TestBootedGuestHasWhatAHostNeeds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	image, err := guest.Build(ctx, "../../../out")
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := l.AddHost(ctx, "peer", "192.168.0.10")
	if err != nil {
		t.Fatal(err)
	}
	g, err := l.AddGuest(ctx, "host0", "192.168.0.18", image)
	if err != nil {
		t.Fatal(err)
	}
	r, err := g.Run(ctx, "hostname && modprobe nvme-tcp && test -e /dev/nvme-fabrics && nvme version && fio --version && ping -c 1 -W 5 "+
		"192.168.0.10")
	if err != nil || r.Code != 0 {
		t.Fatalf("%v %s%s\n%s", err, r.Stdout, r.Stderr, g.Log())
	}
	if !strings.HasPrefix(string(r.Stdout), "host0\nnvme version") {
		t.Errorf("printed %q", r.Stdout)
	}
	if r, err := g.Run(ctx, "exit 3"); err != nil || r.Code != 3 {
		t.Errorf("exit 3 gave %v, %+v", err, r)
	}
	if r, err := peer.Run(ctx, "hostname"); err != nil || string(r.Stdout) != "peer\n" {
		t.Errorf("peer: %v, %+v", err, r)
	}
}
