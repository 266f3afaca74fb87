package lvol

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"github.com/virtual-disk-array/vda/module/aio"
)

// resize changes the file behind a0 and tells the bdev.
func (r *rig) resize(file string, bytes int64) {
	r.t.Helper()
	if err := os.Truncate(file, bytes); err != nil {
		r.t.Fatal(err)
	}
	d, _ := r.reg.Get("a0")
	if err := d.(*aio.Device).Rescan(r.reg); err != nil {
		r.t.Fatal(err)
	}
}

func TestGrow(t *testing.T) {
	for _, how := range []string{"unload", "loss"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			file := aioFile(t, 32*mib)
			r.attach(file)
			st := r.store("a0", "lvs", StoreOpts{})
			r.volume(st, VolumeOpts{Name: "v", Bytes: 20 * mib})
			data := noise(1, 20*mib)
			r.write("lvs/v", 0, data)
			was := st.Info()
			r.resize(file, 96*mib+mib/2)
			if got := st.Info(); got != was {
				t.Errorf("before it is told, the store says %+v", got)
			}
			if err := st.Grow(); err != nil {
				t.Fatal(err)
			}
			if got := st.Info(); got.TotalDataClusters != was.TotalDataClusters+64 || got.FreeClusters != was.FreeClusters+64 {
				t.Errorf("grown by 64 clusters: %+v, before %+v", got, was)
			}
			big := r.volume(st, VolumeOpts{Name: "big", Bytes: 70 * mib})
			tail := noise(2, mib)
			r.write("lvs/big", 69*mib, tail)
			info := st.Info()
			if how == "unload" {
				if err := st.Unload(); err != nil {
					t.Fatal(err)
				}
			} else {
				st.hotRemove()
			}
			st, err := r.m.Examine("a0")
			if err != nil {
				t.Fatal(err)
			}
			if got := st.Info(); got != info {
				t.Errorf("loaded %+v, was %+v", got, info)
			}
			if got := r.read(big.BdevName(), 69*mib, mib); !bytes.Equal(got, tail) {
				t.Error("what was written to new clusters is lost")
			}
			r.want("v", data)

			// Not smaller, and not beyond what the metadata can tell of.
			if err := st.Grow(); err != nil {
				t.Errorf("growing by nothing: %v", err)
			}
			r.resize(file, 60<<30) // sparse; one page of mask tells of 32728 clusters
			wantErrno(t, st.Grow(), syscall.ENOSPC)
			r.resize(file, 97*mib)
			if got := st.Info(); got != info {
				t.Errorf("after a refusal %+v, before %+v", got, info)
			}
		})
	}
}
