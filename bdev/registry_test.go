package bdev_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
)

func TestAliases(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	h := add(t, reg, memory(t, "Malloc0"))
	defer h.Close()
	if err := reg.AddAlias("Malloc0", "lvs/lvol"); err != nil {
		t.Fatal(err)
	}
	if err := reg.AddAlias("Malloc0", "lvs/lvol"); !bdev.IsErrno(err, syscall.EEXIST) {
		t.Errorf("the same alias again: %v", err)
	}
	i, ok := reg.Info("lvs/lvol")
	if !ok || i.Name != "Malloc0" || !slices.Equal(i.Aliases, []string{"lvs/lvol"}) {
		t.Errorf("by alias: %+v %v", i, ok)
	}
	if _, ok := reg.Info(i.UUID.String()); !ok {
		t.Error("not found by UUID")
	}
	if err := reg.RemoveAlias("Malloc0", "Malloc0"); !bdev.IsErrno(err, syscall.ENOENT) {
		t.Errorf("the name as an alias removed: %v", err)
	}
	if err := reg.RemoveAlias("Malloc0", "lvs/lvol"); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Open("lvs/lvol", nil); !bdev.IsErrno(err, bdev.ErrNoDevice) {
		t.Errorf("opened by an alias that is gone: %v", err)
	}
	other := memory(t, "lvs/lvol")
	if err := reg.Register(other); err != nil {
		t.Errorf("the name of a removed alias: %v", err)
	}
}

func TestNamesAreTakenOnce(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	id := uuid.New()
	for i, c := range []malloc.Config{{Name: "a", UUID: id}, {Name: "a"}, {Name: "b", UUID: id}, {Name: id.String()}} {
		c.BlockSize, c.Blocks = 512, 8
		d, err := malloc.New(c)
		if err != nil {
			t.Fatal(err)
		}
		err = reg.Register(d)
		if i == 0 && err != nil || i > 0 && !bdev.IsErrno(err, bdev.ErrExists) {
			t.Errorf("%+v: %v", c, err)
		}
		if i > 0 {
			d.Close()
		}
	}
	if n := reg.Names(); !slices.Equal(n, []string{"a"}) {
		t.Errorf("names %v", n)
	}
}

func TestExamine(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	var seen []string
	reg.Examine = func(name string) {
		h, err := reg.Open(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		bdevtest.Read(t, h, 0, 1)
		seen = append(seen, name)
	}
	for _, n := range []string{"a", "b"} {
		if err := reg.Register(memory(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(seen, []string{"a", "b"}) {
		t.Errorf("examined %v", seen)
	}
}

// Everything at once: the race detector and the absence of a hang are the
// test.
func TestConcurrentLife(t *testing.T) {
	reg := bdev.NewRegistry()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for range 50 {
				d := memory(t, fmt.Sprintf("Malloc%d", w%2))
				if reg.Register(d) != nil {
					d.Close()
					continue
				}
				reg.Resized(d.Info().Name)
				if err := reg.Unregister(d.Info().Name); err != nil && !bdev.IsErrno(err, bdev.ErrNoDevice) {
					t.Error(err)
				}
			}
		}()
		go func() {
			defer wg.Done()
			for n := range 200 {
				name := fmt.Sprintf("Malloc%d", n%2)
				gone := make(chan struct{}, 2)
				h, err := reg.Open(name, func(k bdev.EventKind) {
					if k == bdev.Removed {
						gone <- struct{}{}
					}
				})
				if err != nil {
					continue
				}
				bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 512)}})
				if n%3 == 0 {
					<-gone
				}
				_, _ = reg.IOStat(name)
				_ = reg.SetQoS(name, bdev.Limits{RWIOs: 1000000})
				h.Close()
			}
		}()
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	// Holders above wait for a removal: keep removing until they are through.
	for {
		select {
		case <-done:
			reg.Close()
			return
		default:
			_ = reg.Unregister("Malloc0")
			_ = reg.Unregister("Malloc1")
		}
	}
}

func TestIOStatKeys(t *testing.T) {
	var s bdev.IOStat
	s.Op[bdev.OpRead] = bdev.OpStat{Ops: 2, Bytes: 8192, Nanos: 30, Max: 20, Min: 10}
	s.Fails = 1
	out, err := json.Marshal(s.JSON())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"bytes_read":8192,"num_read_ops":2,"bytes_written":0,"num_write_ops":0,"bytes_unmapped":0,"num_unmap_ops":0,` +
		`"bytes_copied":0,"num_copy_ops":0,"read_latency_ticks":30,"max_read_latency_ticks":20,"min_read_latency_ticks":10,`
	if !strings.HasPrefix(string(out), want) || !strings.HasSuffix(string(out), `"io_error":{"failed":1,"medium":0,"no_space":0}}`) {
		t.Errorf("%s", out)
	}
}
