package raid_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/bdev/bdevtest"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/module/raid"
	"github.com/virtual-disk-array/vda/nvme"
)

func TestBadConfig(t *testing.T) {
	reg := bdev.NewRegistry()
	defer reg.Close()
	m := raid.New(reg)
	names := bases(t, reg, 1024, 1024, 4)
	small, err := malloc.New(malloc.Config{Name: "Small", BlockSize: 512, Blocks: 8192})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(small); err != nil {
		t.Fatal(err)
	}
	claimed, err := reg.Open("Malloc1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := claimed.Claim("somebody"); err != nil {
		t.Fatal(err)
	}
	ok := raid.Config{Name: "R", Level: raid.Raid0, StripSizeKB: 64, Bases: names[:1]}
	for _, c := range []struct {
		change func(*raid.Config)
		want   syscall.Errno
	}{
		{func(c *raid.Config) { c.Name = "" }, syscall.EINVAL},
		{func(c *raid.Config) { c.Name = "Malloc2" }, syscall.EEXIST},
		{func(c *raid.Config) { c.Level = "raid7" }, syscall.EINVAL},
		{func(c *raid.Config) { c.StripSizeKB = 0 }, syscall.EINVAL},
		{func(c *raid.Config) { c.StripSizeKB = 48 }, syscall.EINVAL},
		{func(c *raid.Config) { c.StripSizeKB = 2 }, syscall.EINVAL},
		{func(c *raid.Config) { c.Bases = nil }, syscall.EINVAL},
		{func(c *raid.Config) { c.Bases = []string{"Malloc0", "Malloc0"} }, syscall.EINVAL},
		{func(c *raid.Config) { c.Bases = []string{"Malloc0", "Malloc1"} }, syscall.EPERM},
		{func(c *raid.Config) { c.Bases = []string{"Malloc0", "Malloc2"} }, syscall.EINVAL},
		{func(c *raid.Config) { c.Bases = []string{"Malloc0", "Small"} }, syscall.EINVAL},
	} {
		conf := ok
		c.change(&conf)
		if _, err := m.Create(conf); !bdev.IsErrno(err, c.want) {
			t.Errorf("%+v: %v, want %v", conf, err, c.want)
		}
	}
	if n := len(m.Arrays("all")); n != 0 {
		t.Errorf("%d arrays left by failed creates", n)
	}
	if by := reg.ClaimedBy("Malloc0"); by != "" {
		t.Errorf("a failed create left a claim of %s", by)
	}
	claimed.Close()
	if _, err := m.Create(ok); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(ok); !bdev.IsErrno(err, syscall.EEXIST) {
		t.Errorf("the same array again: %v", err)
	}
	if err := m.Delete("R"); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete("R"); !bdev.IsErrno(err, syscall.ENODEV) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := m.Create(ok); err != nil {
		t.Errorf("again after the deletion: %v", err)
	}
}

// An array waits for its bases, in whatever order they come.
func TestConfiguring(t *testing.T) {
	reg := bdev.NewRegistry()
	m := raid.New(reg)
	reg.Examine = m.Examine
	a, err := m.Create(raid.Config{Name: "R", Level: raid.Raid0, StripSizeKB: 64, Bases: []string{"Malloc0", "Malloc1"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.State != raid.Configuring || s.BasesDiscovered != 0 {
		t.Errorf("%+v", s)
	}
	bases(t, reg, 1024)
	if s := a.Status(); s.State != raid.Configuring || s.BasesDiscovered != 1 {
		t.Errorf("%+v", s)
	}
	if _, ok := reg.Get("R"); ok {
		t.Error("registered with a base missing")
	}
	if err := reg.Unregister("Malloc0"); err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.BasesDiscovered != 0 {
		t.Errorf("a base that is gone: %+v", s)
	}
	bases(t, reg, 1024, 1024)
	s := a.Status()
	if s.State != raid.Online || s.BasesDiscovered != 2 {
		t.Fatalf("%+v", s)
	}
	out, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `"strip_size_kb":64,"state":"online","raid_level":"raid0","superblock":false,"num_base_bdevs":2,"num_base_bdevs_discovered":2,"num_base_bdevs_operational":2,"base_bdevs_list":[{"name":"Malloc0","uuid":"`
	if !strings.Contains(string(out), want) || !strings.HasSuffix(string(out), `"is_configured":true,"data_offset":0,"data_size":1024}]}`) {
		t.Errorf("%s", out)
	}
	if len(m.Arrays(raid.Online)) != 1 || len(m.Arrays(raid.Offline)) != 0 || len(m.Arrays("all")) != 1 {
		t.Error("the list by state is wrong")
	}
	reg.Close()
	if err := m.Delete("R"); err != nil {
		t.Error(err)
	}
}

// The loss of a base ends the array with path statuses, and neither I/O nor
// the removal hangs.
func TestBaseRemoval(t *testing.T) {
	reg := bdev.NewRegistry()
	m := raid.New(reg)
	names := bases(t, reg, 1024, 1024)
	if _, err := m.Create(raid.Config{Name: "R", Level: raid.Raid0, StripSizeKB: 64, Bases: names}); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	h, err := reg.Open("R", func(k bdev.EventKind) {
		if k == bdev.Removed {
			close(told)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	bad := make(chan nvme.Status, 1)
	go func() {
		defer close(bad)
		for !stop.Load() {
			s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 64, Iov: [][]byte{make([]byte, 64*4096)}})
			if s != nvme.Success && !s.IsPath() {
				bad <- s
				return
			}
		}
	}()
	time.Sleep(5 * time.Millisecond)
	removed := make(chan error, 1)
	go func() { removed <- reg.Unregister("Malloc1") }()
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Fatal("the array's user is not told")
	}
	if s := bdevtest.Do(h, &bdev.Request{Op: bdev.OpRead, Blocks: 1, Iov: [][]byte{make([]byte, 4096)}}); !s.IsPath() {
		t.Errorf("a read on the base that is left: %v, want a path status", s)
	}
	if l := m.Arrays(raid.Offline); len(l) != 1 {
		t.Errorf("offline arrays: %+v", l)
	}
	stop.Store(true)
	if s, ok := <-bad; ok {
		t.Errorf("I/O during the removal: %v", s)
	}
	h.Close()
	select {
	case err := <-removed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the base's removal hangs")
	}
	<-reg.Gone("R")
	if by := reg.ClaimedBy("Malloc0"); by != "" {
		t.Errorf("the other base is still claimed by %s", by)
	}
	if err := m.Delete("R"); err != nil {
		t.Error(err)
	}
	if n := len(m.Arrays("all")); n != 0 {
		t.Errorf("%d arrays left", n)
	}
}

// TestArrayOnAnArrayThatGoes: the last user of an array closes it while the array that it
// stands on is being removed, so that this one is closed with it. The module must not wait
// for itself.
func TestArrayOnAnArrayThatGoes(t *testing.T) {
	reg := bdev.NewRegistry()
	m := raid.New(reg)
	names := bases(t, reg, 1024, 1024)
	if _, err := m.Create(raid.Config{Name: "Lower", Level: raid.Raid0, StripSizeKB: 64, Bases: names}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(raid.Config{Name: "Upper", Level: raid.Concat, StripSizeKB: 64, Bases: []string{"Lower"}}); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{}, 2)
	h, err := reg.Open("Upper", func(bdev.EventKind) { told <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	go func() { removed <- reg.Unregister("Lower") }()
	hang := time.After(time.Minute)
	select {
	case <-told: // Upper goes with it, and has this user alone
	case <-hang:
		t.Fatal("the user of the upper array is not told")
	}
	closed := make(chan struct{})
	go func() {
		h.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-hang:
		t.Fatal("closing the upper array hangs")
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	<-reg.Gone("Upper")
	if all := m.Arrays(raid.Online); len(all) != 0 {
		t.Errorf("online: %+v", all)
	}
	reg.Close()
}
