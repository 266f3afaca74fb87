package cn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

const host1 = "nqn.2016-06.io.spdk:host1"

// TestHostsOfAnExporter: each controller lets in all hosts of an exporter, keeps those
// that stay connected when one goes, and a new primary lets in all as well.
func TestHostsOfAnExporter(t *testing.T) {
	for _, swaps := range []bool{true, false} {
		t.Run(fmt.Sprint("swaps=", swaps), func(t *testing.T) {
			inBubble(t, 2, swaps, func(l *lab) {
				var mu sync.Mutex
				var removed []string
				for i := range l.cns {
					l.cns[i].plane.SetHook(func(method string, a map[string]any) error {
						if h, _ := a["host"].(string); method == "nvmf_subsystem_remove_host" && (h == host0 || h == host1) {
							mu.Lock()
							removed = append(removed, fmt.Sprint(i, " ", h))
							mu.Unlock()
						}
						return nil
					})
				}
				admitted := func(want ...string) {
					l.Helper()
					for i := range l.cns {
						var got []string
						subs, err := l.cns[i].plane.Client().NvmfGetSubsystems(context.Background())
						if err != nil {
							l.Fatal(err)
						}
						for _, s := range subs {
							for _, h := range s.Hosts {
								if s.NQN == expNQN && (h.NQN == host0 || h.NQN == host1) {
									got = append(got, h.NQN)
								}
							}
						}
						if slices.Sort(got); !slices.Equal(got, want) {
							l.Errorf("cn%d lets in %q, want %q", i, got, want)
						}
					}
				}
				l.up(0)
				admitted(host0)
				l.spec.Create = false
				l.spec.Exps[0].MoreInitiatorNqns = []string{host1}
				l.up(0)
				admitted(host0, host1)
				if removed != nil {
					l.Errorf("removed %q when a host was added", removed)
				}
				l.term++
				l.up(1)
				admitted(host0, host1)
				if swaps && removed != nil {
					l.Errorf("removed %q when the primary moved", removed)
				}
				removed = nil
				l.spec.Exps[0].InitiatorNqn, l.spec.Exps[0].MoreInitiatorNqns = host1, nil
				l.up(1)
				admitted(host1)
				if slices.Sort(removed); !slices.Equal(removed, []string{"0 " + host0, "1 " + host0}) {
					l.Errorf("removed %q", removed)
				}
			})
		})
	}
}

// TestRealHostIsRemoved: two hosts use an array by different controllers. When the one
// that writes by the secondary has been removed, nothing of it lands any more, it is
// not let in again, and the other goes on with the connection that it has.
func TestRealHostIsRemoved(t *testing.T) { planes(t, realHostIsRemoved) }

func realHostIsRemoved(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.spec.Exps[0].MoreInitiatorNqns = []string{host1}
	l.leased()
	l.up(0)
	l.spec.Create = false
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	stays := l.disk(0)
	second := host.Config{Traddr: "127.0.0.1", Trsvcid: l.cns[1].port, SubNQN: expNQN, HostNQN: host1, Queues: 1, KeepAlive: unhurried}
	c, err := host.Connect(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	goes := c.Namespace(1)
	theirs, ours, got := bytes.Repeat([]byte{2}, 4096), bytes.Repeat([]byte{1}, 4096), make([]byte, 4096)
	if err := goes.WriteAt(ctx, theirs, 0); err != nil {
		t.Fatal(err)
	}
	if err := stays.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, theirs) {
		t.Fatalf("one host does not read what the other has written: %v", err)
	}
	writing, stop := context.WithCancel(ctx)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for writing.Err() == nil { // fails from the removal on
				if goes.WriteAt(writing, theirs, int64(i)*4096) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	l.spec.Exps[0].MoreInitiatorNqns = nil
	l.good(0, l.cntlr(0, 0))
	l.good(1, l.cntlr(1, 0))
	for i := range int64(8) {
		if err := stays.WriteAt(ctx, ours, i*4096); err != nil {
			t.Errorf("the host that stays: %v", err)
		}
	}
	for range 20 {
		for i := range int64(8) {
			if err := stays.ReadAt(ctx, got, i*4096); err != nil || !bytes.Equal(got, ours) {
				t.Fatalf("block %d has %d after the removal, %v", i, got[0], err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	writers.Wait()
	again, err := host.Connect(ctx, second)
	if err == nil {
		again.Close()
		t.Error("a host that was removed is let in again")
	}
	var st nvme.Status // it is not told to stay away, as it may be let in once more
	if !errors.As(err, &st) || st != nvme.ConnectInvalidHost {
		t.Errorf("a host that was removed is refused with %v, want %v", err, nvme.ConnectInvalidHost)
	}
}
