package discovery_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/portal/discovery"
)

// TestBackAsItWas: a host that has read what is not so any more is told, although the service has
// seen the same before and after.
func TestBackAsItWas(t *testing.T) {
	var shown atomic.Bool
	looks := make(chan struct{}, 1)
	s, err := discovery.Start(discovery.Config{Address: "127.0.0.1:0", Period: time.Second, Log: slog.New(slog.DiscardHandler),
		Places: func(context.Context, string) ([]discovery.Place, error) {
			select {
			case looks <- struct{}{}:
			default:
			}
			if !shown.Load() {
				return nil, nil
			}
			return []discovery.Place{{NQN: "nqn.2016-06.io.spdk:vda-x", Address: netip.MustParseAddrPort("127.0.0.1:4420"), Port: 1}}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	addr, port, _ := net.SplitHostPort(s.Address())
	told := make(chan struct{}, 1)
	ctrl, err := host.Connect(t.Context(), host.Config{Traddr: addr, Trsvcid: port, HostNQN: "nqn.2014-08.org.nvmexpress:h",
		SubNQN: nvme.DiscoveryNQN, Queues: -1, OnNamespaces: func(*host.Controller) {
			select {
			case told <- struct{}{}:
			default:
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer ctrl.Close()
	wait := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(2 * time.Minute):
			t.Fatal(what)
		}
	}
	places := func() (n int) {
		t.Helper()
		l, err := ctrl.DiscoveryLog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l {
			if e.Subtype == nvme.SubtypeNVM {
				n++
			}
		}
		return n
	}
	wait("a host that has come is not told at all", told)
	for range 2 { // the second was seen whole by a service that knows the host
		for len(looks) > 0 {
			<-looks
		}
		wait("the service does not look", looks)
	}
	for len(told) > 0 {
		<-told
	}
	shown.Store(true)
	if n := places(); n != 1 {
		t.Fatalf("it reads %d places", n)
	}
	shown.Store(false)
	for n := 1; n != 0; n = places() {
		wait("it is not told", told)
	}
}
