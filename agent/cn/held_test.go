package cn_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// Where a data plane holds I/O for a lost connection and carries it out at a
// time of its own, the paths to it are closed meanwhile: a primary's when it has
// lost a vd, a secondary's when its primary is away or has closed its own.
func TestPathsAreClosedWhileIOIsHeld(t *testing.T) {
	inBubble(t, 2, false, pathsAreClosedWhileIOIsHeld)
}

func pathsAreClosedWhileIOIsHeld(l *lab) {
	t := l.T
	l.up(0)
	l.ana(0, spdk.ANAOptimized)
	l.ana(1, spdk.ANANonOptimized)
	m := &monitor{l: l, lease: 2 * time.Second}
	defer m.renew()()

	var mu sync.Mutex
	var calls []string
	l.cns[1].plane.SetHook(func(method string, a map[string]any) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(method, "able_controller") {
			calls = append(calls, fmt.Sprint(strings.TrimPrefix(method, "bdev_nvme_"), " ", a["name"]))
		} else if method == "nvmf_subsystem_listener_set_ana_state" || method == "nvmf_subsystem_add_ns" {
			calls = append(calls, fmt.Sprint(strings.TrimPrefix(method, "nvmf_subsystem_"), " ", a["ana_state"]))
		}
		return nil
	})
	for what, cut := range map[string]func(on bool){
		"vd":      func(on bool) { l.cns[0].plane.Cut(l.dns[1].plane, on) },
		"primary": func(on bool) { l.cns[1].plane.Cut(l.cns[0].plane, on) },
	} {
		mu.Lock()
		calls = nil
		mu.Unlock()
		cut(true)
		if what == "vd" {
			l.ana(0, spdk.ANAInaccessible)
		}
		l.ana(1, spdk.ANAInaccessible)
		px := "vda-px-" + expID
		// I/O ends before the connection may come back.
		want := []string{"listener_set_ana_state inaccessible", "disable_controller " + px, "add_ns <nil>", "enable_controller " + px}
		planetest.Eventually(t, func() string {
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(calls, want) {
				return fmt.Sprintf("%s: calls %q, want %q", what, calls, want)
			}
			return ""
		})
		l.stays(1, spdk.ANAInaccessible, 500*time.Millisecond)
		cut(false)
		l.ana(0, spdk.ANAOptimized)
		l.ana(1, spdk.ANANonOptimized)
		l.healthy(0)
		l.healthy(1)
	}
}

// On a data plane whose proxies cannot be cut hosts do not use a secondary's path,
// and nothing is wrong with it.
func TestASecondaryThatMayBeLateIsNotUsed(t *testing.T) {
	inBubble(t, 2, false, aSecondaryThatMayBeLateIsNotUsed)
}

func aSecondaryThatMayBeLateIsNotUsed(l *lab) {
	l.cns[1].stop(l)
	l.cns[1].plane.Hide("bdev_nvme_disable_controller") // SPDK before 23.09
	l.cns[1].start(l)
	l.up(0)
	l.ana(0, spdk.ANAOptimized)
	l.ana(1, spdk.ANAInaccessible)
	l.healthy(1)
	l.term++
	l.spec.Create = false
	l.up(1)
	l.ana(1, spdk.ANAOptimized)
	l.ana(0, spdk.ANANonOptimized)
}

// TestRealHeldWrites has writes wait for lost vds on a connection that the
// host gives up. It sends them again on another, and then newer ones. What
// has waited must not take the place of what was acknowledged since.
func TestRealHeldWrites(t *testing.T) { planes(t, realHeldWrites) }

func realHeldWrites(t *testing.T, spdkDN, spdkCN bool) {
	l, dnTgts, _ := reals(t, 2, true, spdkDN, spdkCN)
	l.upLeased(0)
	m := l.multipath()
	old, now := l.disk(0), m.paths[0]
	const blocks = 40
	var wg sync.WaitGroup
	var acked sync.WaitGroup
	block := func(i int, seq byte) ([]byte, int64) {
		return bytes.Repeat([]byte{seq}, 4096), int64(i) * 32 << 10 // on both vds
	}
	// once writes on a path as a host does when it has no other.
	once := func(ctx context.Context, i int, seq byte) error {
		data, off := block(i, seq)
		for {
			err := now.WriteAt(ctx, data, off)
			if err == nil || ctx.Err() != nil {
				return err
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	for _, g := range dnTgts {
		g.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for i := range blocks {
		wg.Go(func() {
			data, off := block(i, 1)
			_ = old.WriteAt(ctx, data, off) // its connection is closed
		})
		time.Sleep(time.Second / blocks) // so that they are tried at different times of SPDK's second
	}
	old.Controller().Close()
	wg.Wait()
	for k := range blocks {
		i := blocks - 1 - k // so that some are tried before their first copies
		acked.Go(func() {
			for seq := byte(2); seq <= 3; seq++ {
				if err := once(ctx, i, seq); err != nil {
					t.Errorf("block %d, write %d: %v", i, seq, err)
				}
			}
		})
		time.Sleep(time.Second / blocks) // likewise
	}
	for _, g := range dnTgts {
		g.start()
	}
	acked.Wait()
	time.Sleep(2500 * time.Millisecond) // SPDK tries what has waited once a second
	if wrong := stale(ctx, t, now, blocks, block); len(wrong) > 0 {
		t.Errorf("%d of %d blocks hold an older write than the last that was acknowledged: %v", len(wrong), blocks, wrong)
	}
	l.healthy(0)
	l.healthy(1)
}

func stale(ctx context.Context, t *testing.T, ns *host.Namespace, blocks int,
	block func(i int, seq byte) ([]byte, int64)) (wrong []string) {
	t.Helper()
	got := make([]byte, 4096)
	for i := range blocks {
		want, off := block(i, 3)
		if err := ns.ReadAt(ctx, got, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			wrong = append(wrong, fmt.Sprintf("block %d: %d", i, got[0]))
		}
	}
	return wrong
}

// TestRealHungSecondary stops the data plane of a secondary for longer than its
// hosts wait, with writes on their way to it, which the host sends again by the
// primary, and newer ones after them.
func TestRealHungSecondary(t *testing.T) {
	if os.Getenv("SPDK_TGT") == "" {
		t.Skip("SPDK_TGT is not set: a vda_tgt is a process of its own in test/chaos only, which hangs it")
	}
	t.Run("primary on vda_tgt", func(t *testing.T) { realHungSecondary(t, "cn0") })
	t.Run("primary on spdk_tgt", func(t *testing.T) { realHungSecondary(t, "cn0 cn1") })
}

func realHungSecondary(t *testing.T, onSPDK string) {
	l, _, cnTgts := realsOn(t, 2, false, func(node string) bool { return strings.Contains(onSPDK, node) }, 0, func(*tgt, string) {})
	l.leased()
	l.up(1)
	old, now := l.disk(0), l.multipath().paths[1]
	const blocks = 20
	// What Linux does at the earliest, by default and as such an SPDK wants it.
	patience := 5 * time.Second
	if cnTgts[1].spdk && cnTgts[1].olderThan(25, 5) {
		patience = 20 * time.Second
	}
	block := func(i int, seq byte) ([]byte, int64) { return bytes.Repeat([]byte{seq}, 4096), int64(i) * 32 << 10 }
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for round := range 3 {
		time.Sleep(time.Second) // the agent looks at its connections
		if err := cnTgts[0].proc.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range blocks {
			wg.Go(func() {
				data, off := block(i, 1)
				_ = old.WriteAt(ctx, data, off)
			})
		}
		time.Sleep(patience) // as long as the host has it
		old.Controller().Close()
		wg.Wait()
		for i := range blocks {
			for seq := byte(2); seq <= 3; seq++ {
				data, off := block(i, seq)
				if err := now.WriteAt(ctx, data, off); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cnTgts[0].proc.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond) // what has waited would be carried out now
		if wrong := stale(ctx, t, now, blocks, block); len(wrong) > 0 {
			t.Errorf("round %d: %d of %d blocks hold an older write than the last that was acknowledged: %v", round, len(wrong), blocks, wrong)
		}
		l.healthy(0)
		old = l.disk(0)
	}
}
