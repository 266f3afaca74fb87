package vdatgt

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// bdev_wait_for_examine waits for what bdev_examine has begun before and for what has come
// of that, and not for what others have examined later: it would wait for the last of all
// arrays that come back together.
func TestWaitForExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e examiner
		e.init(&Target{})
		ends := map[string]chan struct{}{"a": make(chan struct{}), "on a": make(chan struct{}), "b": make(chan struct{})}
		e.look = func(name string) { <-ends[name] }
		e.wanted["on a"] = true
		ask := func(name string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.start(name, examination{asked: true})
		}
		ask("a")
		waited := make(chan error, 1)
		go func() { waited <- e.wait(t.Context()) }()
		synctest.Wait()
		ask("b")
		e.appeared("on a")
		close(ends["a"])
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("it did not wait for what has appeared")
		default:
		}
		close(ends["on a"])
		if err := <-waited; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.wait(ctx); jsonrpc.AsError(err).Code != -125 {
			t.Errorf("it did not wait for what was begun before: %v", err)
		}
		close(ends["b"])
		if err := e.wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A bdev is made while another is looked at, whatever that takes.
func TestNothingWaitsForAnotherExamination(t *testing.T) {
	p := start(t, Config{WaitForRPC: true})
	ctx := t.Context()
	off := false
	ok(t, p.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: &off}))
	ok(t, p.FrameworkStartInit(ctx))
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M", BlockSize: 4096, NumBlocks: 512}))
	ok(t, p.Call(ctx, "bdev_error_create", map[string]any{"base_name": "M"}, nil))
	ok(t, p.Call(ctx, "bdev_error_inject_error", map[string]any{"name": "EE_M", "io_type": "read", "error_type": "pending", "num": 1}, nil))
	ok(t, p.BdevExamine(ctx, "EE_M"))
	must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "A", BlockSize: 4096, NumBlocks: 512}))
	ok(t, p.BdevRaidCreate(ctx, spdk.RaidCreate{Name: "R", RaidLevel: "raid0", StripSizeKB: 64, BaseBdevs: []string{"A"}}))
	ok(t, p.Call(ctx, "bdev_error_delete", map[string]any{"name": "EE_M"}, nil))
	ok(t, p.BdevWaitForExamine(ctx))
}
