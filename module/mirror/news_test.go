package mirror_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/errorinj"
	"github.com/virtual-disk-array/vda/module/mirror"
	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// A wait for news of mirrors ends at each change, and tells of nothing else: of those
// that have changed, of all when one is gone or the process is another, and after the
// time of those of which bytes are moved or legs lost.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		other := &rig{T: t, reg: r.reg, mod: r.mod, gen: 1}
		for i := range 2 {
			other.addDisk(2 + i)
			other.legs = append(other.legs, mirror.LegConfig{VD: id(0xb0, 2+i), Bdev: legName(2 + i), Role: core.Member, Epoch: id(0xee, 2+i)})
		}
		conf := other.config(true)
		conf.Name, conf.Mirror = "other", id(0xaa, 2)
		if _, err := r.mod.Create(r.Context(), conf); err != nil {
			t.Fatal(err)
		}
		wait := func(changes uint64, most time.Duration) (mirror.News, time.Duration) {
			ctx, cancel := context.WithTimeout(r.Context(), most)
			defer cancel()
			begin := time.Now()
			n := r.mod.Wait(ctx, changes)
			return n, time.Since(begin)
		}
		n, took := wait(0, time.Hour)
		if len(n.Mirrors) != 2 || !n.All || took > 0 {
			t.Fatalf("the first call returns %+v after %v, want all mirrors at once", n, took)
		}
		time.Sleep(time.Second) // what their making has led to is over
		n, _ = wait(0, time.Hour)
		if n, took := wait(n.Changes, time.Hour); n.All || len(n.Mirrors) != 0 || took != time.Hour {
			t.Fatalf("%+v after %v, though nothing has happened within the hour", n, took)
		}
		if old, took := wait(n.Changes+1000, time.Hour); !old.All || len(old.Mirrors) != 2 || took > 0 {
			t.Errorf("%+v after %v of another process' number, want all mirrors at once", old, took)
		}

		go func() {
			time.Sleep(7 * time.Second)
			h := r.open()
			r.ok(r.errors[1].Inject(errorinj.Injection{IOType: "write", Fault: errorinj.Failure, Num: 1}))
			go bdevtest.Do(h, &bdev.Request{Op: bdev.OpWrite, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}})
		}()
		n, took = wait(n.Changes, time.Hour)
		if len(n.Mirrors) != 1 || n.All || n.Mirrors[0].Name != "m" || took != 7*time.Second {
			t.Fatalf("%+v after %v, want the mirror whose leg is lost after 7 s", n, took)
		}
		for n.Mirrors[0].Online { // its bits came first
			n, _ = wait(n.Changes, time.Hour)
		}
		if again, took := wait(n.Changes, time.Second); len(again.Mirrors) != 1 || !again.Mirrors[0].Legs[1].Lost || took > time.Second {
			t.Errorf("%+v after %v, want the mirror with a lost leg once more", again, took)
		}
		n, _ = wait(0, time.Hour)
		go func() {
			time.Sleep(time.Second / 2)
			r.ok(r.mod.Delete("other"))
		}()
		for n, _ = wait(n.Changes, time.Hour); !n.All; n, _ = wait(n.Changes, time.Hour) {
		}
		if len(n.Mirrors) != 1 || n.Mirrors[0].Name != "m" {
			t.Errorf("%+v, want all that are left", n)
		}
	})
}
