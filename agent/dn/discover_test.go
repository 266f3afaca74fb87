package dn_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/disk/disktest"
	"github.com/virtual-disk-array/vda/disk/local"
	"github.com/virtual-disk-array/vda/module/aio"
)

// discovered are the disks of a rig's machine, by device.
func (r *rig) discovered(ctx context.Context) map[string]*apiv1.Disk {
	r.Helper()
	reply, err := r.a.ListDisks(ctx, &apiv1.ListDisksRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil {
		r.Fatal(err)
	}
	all := map[string]*apiv1.Disk{}
	for _, d := range reply.Disks {
		all[d.Device] = d
	}
	return all
}

// TestPoint5DiscoverDisks: what is said to be free a pd can be made of, and nothing else is free; the
// others say why, as pd create would. Nothing is written to any.
func TestPoint5DiscoverDisks(t *testing.T) { rigs(t, discoverDisks) }

func discoverDisks(r *rig) {
	t := r.T
	if _, err := r.a.ListDisks(t.Context(), &apiv1.ListDisksRequest{ClusterId: cluster, NodeId: nodeID}); status.Code(err) !=
		codes.FailedPrecondition {
		t.Errorf("a node of no cluster: %v", err)
	}
	own := pdOf(1, aioConf(r.file("own", 64*mib, 0, ""), ""))
	if msg := r.sync(own); msg != "" {
		t.Fatal(msg)
	}
	free := r.file("free", 64*mib, 0, "")
	ext := r.file("ext", 64*mib, 1024+56, "\x53\xef")
	copied := r.file("copy", 64*mib, 0, string(r.content(filepath.Join(r.folder, "own"))))
	tiny := r.file("tiny", 64<<10, 0, "")
	taken := r.file("taken", 64*mib, 0, "")
	behind := r.file("behind", 64*mib, 0, "")
	mounted := r.file("mounted", 64*mib, 0, "")
	other, err := aio.New(aio.Config{Name: "other", Filename: taken, BlockSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	loop, at := disktest.Loop(t, behind), t.TempDir()
	busy := disktest.Loop(t, mounted)
	for _, cmd := range [][]string{{"mkfs.ext4", "-q", busy}, {"mount", busy, at}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v, %s", cmd, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("%v, %s", err, out)
		}
	})
	before := map[string][]byte{}
	for _, path := range []string{free, ext, copied, behind} {
		before[path] = r.content(path)
	}
	if r.spdk { // which passes no flush on
		if d := r.discovered(t.Context())[loop]; d == nil || d.State != "cache" || !strings.Contains(d.Why, "volatile write cache") {
			t.Errorf("%s, which has a write cache: %v", loop, d)
		}
		uncached(t, loop)
	}
	all := r.discovered(t.Context())
	for path, want := range map[string]struct{ state, kind, why string }{
		free:                           {"free", "file", ""},
		filepath.Join(r.folder, "own"): {"pd", "file", "the disk of pd pd1"},
		ext:                            {"data", "file", "an ext file system"},
		copied:                         {"data", "file", "that of pd " + own.Id + " of this cluster"},
		taken:                          {"used", "file", "another process has locked the file"},
		behind:                         {"used", "file", loop},
		mounted:                        {"used", "file", busy},
		loop:                           {"free", "loop", ""},
		busy:                           {"used", "loop", "it is mounted at " + at},
	} {
		d := all[path]
		if d == nil {
			t.Errorf("%s is not found", path)
			continue
		}
		if d.State != want.state || d.Kind != want.kind || !strings.Contains(d.Why, want.why) || (d.Why == "") != (d.State == "free") ||
			d.Size != 64*mib || (d.PdId == own.Id) != (d.State == "pd") {
			t.Errorf("%s: %v, want %v", path, d, want)
		}
	}
	if all[tiny] != nil {
		t.Errorf("a file of 64 KiB is found: %v", all[tiny])
	}
	for path, was := range before {
		if !bytes.Equal(was, r.content(path)) {
			t.Errorf("%s has changed", path)
		}
	}
	pds := []*apiv1.PdSpec{own, pdOf(2, aioConf(all[free].Path, "")), pdOf(3, aioConf(all[loop].Path, "")), pdOf(4, aioConf(ext, ""))}
	for i, st := range r.states(pds) {
		if st.Error != (i == 3) {
			t.Errorf("pd %s: %v", pds[i].ConfJson, st)
		}
	}
	all = r.discovered(t.Context())
	for _, path := range []string{free, loop, ext} {
		if d := all[path]; d == nil || d.State != "pd" {
			t.Errorf("%s: %v, want a pd's", path, d)
		}
	}
	if d := all[behind]; d == nil || d.State != "pd" || !strings.Contains(d.Why, "shares its blocks with "+loop) {
		t.Errorf("the file behind a pd: %v", d)
	}
}

// uncached has the kernel say of a loop device, for as long as the test takes, that it has no write cache.
func uncached(t *testing.T, dev string) {
	t.Helper()
	at := filepath.Join("/sys/block", filepath.Base(dev), "queue", "write_cache")
	if err := os.WriteFile(at, []byte("write through"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(at, []byte("write back"), 0o644); err != nil {
			t.Error(err)
		}
	})
}

// stuck is a machine on which one disk does not open until it is let go.
type stuck struct {
	disk.Machine
	path  string
	opens *atomic.Int32
	begun chan struct{}
	leave chan struct{}
}

func (m stuck) Open(path string) (disk.Device, error) {
	if path != m.path {
		return m.Machine.Open(path)
	}
	if m.opens.Add(1) == 1 {
		close(m.begun)
	}
	<-m.leave
	return m.Machine.Open(path)
}

// TestDisksThatHang: one is unknown, and is opened once for all who ask; a pd that is made on it
// meanwhile waits for that, and is made.
func TestDisksThatHang(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	path := r.file("slow", 64*mib, 0, "")
	m := stuck{Machine: local.Machine{Folders: []string{r.folder}}, path: path, opens: &atomic.Int32{}, begun: make(chan struct{}),
		leave: make(chan struct{})}
	r.disks = m
	r.startAgent()
	first := pdOf(1, aioConf(r.file("first", 64*mib, 0, ""), ""))
	if msg := r.sync(first); msg != "" {
		t.Fatal(msg)
	}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-m.begun
			time.Sleep(100 * time.Millisecond)
			cancel()
		}()
		if d := r.discovered(ctx)[path]; d == nil || d.State != "unknown" || !strings.Contains(d.Why, "not read") {
			t.Errorf("a disk that hangs: %v", d)
		}
	}
	if n := m.opens.Load(); n != 1 {
		t.Errorf("it is opened %d times", n)
	}
	second := pdOf(2, aioConf(path, ""))
	made := make(chan string, 1)
	go func() { made <- r.sync(first, second) }()
	planetest.Eventually(t, func() string { // it is in the set, and its pass waits
		if d := r.discovered(t.Context())[filepath.Join(r.folder, "first")]; d == nil || d.State != "pd" {
			return "no disks"
		}
		return ""
	})
	select {
	case msg := <-made:
		t.Errorf("a pd is made on a disk that is being looked at: %s", msg)
	case <-time.After(3 * time.Second): // in which a pass comes to its disk
	}
	if n := m.opens.Load(); n != 1 {
		t.Errorf("its pass opens the disk beside the look: %d times", n)
	}
	close(m.leave)
	if msg := <-made; msg != "" {
		t.Error(msg)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// together is a machine on which looks at two disks meet, if they may: each waits a little for the other.
type together struct {
	disk.Machine
	file, loop string
	opened     chan struct{} // the file is
}

func (m together) Open(path string) (disk.Device, error) {
	const aLittle = 300 * time.Millisecond
	if path == m.loop {
		select {
		case <-m.opened:
		case <-time.After(aLittle):
		}
	}
	d, err := m.Machine.Open(path)
	if path == m.file {
		close(m.opened)
		time.Sleep(2 * aLittle)
	}
	return d, err
}

// TestLooksAtSharedBlocks: the look at a file, which locks it, does not make a loop device over it seem to
// be in use.
func TestLooksAtSharedBlocks(t *testing.T) {
	r := newRig(t)
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	file := r.file("behind", 64*mib, 0, "")
	loop := disktest.Loop(t, file)
	r.disks = together{Machine: local.Machine{Folders: []string{r.folder, "/dev"}}, file: file, loop: loop, opened: make(chan struct{})}
	r.startAgent()
	if msg := r.sync(pdOf(1, aioConf(r.file("first", 64*mib, 0, ""), ""))); msg != "" {
		t.Fatal(msg)
	}
	all := r.discovered(t.Context())
	if d := all[loop]; d == nil || d.State != "free" {
		t.Errorf("the loop device: %v", d)
	}
	if d := all[file]; d == nil || d.State != "used" || !strings.Contains(d.Why, "it is behind "+loop) {
		t.Errorf("the file: %v", d)
	}
}
