package dn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk"
	"github.com/virtual-disk-array/vda/disk/disktest"
	"github.com/virtual-disk-array/vda/disk/local"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/vdatgt"
)

const mib = 1 << 20

// rig is an agent on a real data plane, whose pds are files in a folder.
type rig struct {
	*testing.T
	spdk    bool   // the spdk_tgt that SPDK_TGT names; otherwise a vda_tgt inside the test
	folder  string // of the disks
	state   string
	socket  string
	port    string
	version uint64
	a       *dn.Agent
	stopTgt func()
	disks   disk.Machine // nil: this machine's
}

// rigs runs a test on vda_tgt, and on SPDK when SPDK_TGT is set.
func rigs(t *testing.T, test func(r *rig)) {
	t.Run("vda_tgt", func(t *testing.T) {
		t.Parallel()
		test(newRig(t))
	})
	if os.Getenv("SPDK_TGT") != "" {
		t.Run("SPDK", func(t *testing.T) { test(newRigOn(t, true)) })
	}
}

func newRig(t *testing.T) *rig { return newRigOn(t, false) }

func newRigOn(t *testing.T, isSPDK bool) *rig {
	sockets, err := os.MkdirTemp("", "dn") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, spdk: isSPDK, folder: t.TempDir(), state: t.TempDir(), socket: sockets + "/s", port: freePort(t)}
	r.startTgt()
	r.startAgent()
	t.Cleanup(func() {
		_ = r.a.Close()
		r.stopTgt()
		_ = os.RemoveAll(sockets)
	})
	return r
}

func (r *rig) startTgt() {
	r.Helper()
	if r.spdk {
		r.startSPDK()
	} else {
		r.startVDA()
	}
	c, ctx := r.client(), context.Background()
	if _, err := c.WaitReady(ctx); err != nil {
		r.Fatal(err)
	}
	if err := errors.Join(c.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)}), c.FrameworkStartInit(ctx)); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) startSPDK() {
	cmd := exec.Command(os.Getenv("SPDK_TGT"), "--rpc-socket", r.socket, "--wait-for-rpc", "--no-pci", "--no-huge", "-s", "1024",
		"--disable-cpumask-locks")
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.stopTgt = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(r.socket)
	}
}

func (r *rig) startVDA() {
	x, err := vdatgt.New(vdatgt.Config{RPCSocket: r.socket, WaitForRPC: true, BufferMemory: 64 << 20,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	r.stopTgt = func() {
		cancel()
		if err := <-done; err != nil {
			r.Error(err)
		}
	}
}

func (r *rig) client() *spdk.Client {
	r.Helper()
	c, err := spdk.New(spdk.Config{Socket: r.socket})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *rig) startAgent() {
	r.Helper()
	n := planetest.Node(r, planetest.NodeConfig{Kind: "dn", Socket: r.socket, Port: r.port, StateDir: r.state, AioDirs: []string{r.folder,
		"/dev", filepath.Join(r.state, "disks")}, Disks: r.disks})
	a, err := dn.Start(context.Background(), n)
	if err != nil {
		r.Fatal(err)
	}
	r.a = a
}

func (r *rig) restart() {
	r.Helper()
	if err := r.a.Close(); err != nil {
		r.Error(err)
	}
	r.stopTgt()
	r.startTgt()
	r.startAgent()
}

// file makes a file of that many bytes with something at an offset.
func (r *rig) file(name string, size, at int64, data string) string {
	r.Helper()
	path := filepath.Join(r.folder, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		r.Fatal(err)
	}
	_, err = f.WriteAt([]byte(data), at)
	if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		r.Fatal(err)
	}
	return path
}

// content reads a file, to see whether it changes.
func (r *rig) content(path string) []byte {
	r.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	return b
}

func pdOf(i int, conf string) *apiv1.PdSpec {
	return &apiv1.PdSpec{Id: fmt.Sprintf("a%031d", i), Name: fmt.Sprint("pd", i), ConfJson: conf, Format: true, Version: uint64(i)}
}

func aioConf(path, more string) string {
	return fmt.Sprintf(`{"type":"aio","filename":%q%s}`, path, more)
}

// sync sends a full set and returns what is wrong with the last pd in it.
func (r *rig) sync(pds ...*apiv1.PdSpec) string {
	r.Helper()
	s := r.states(pds)
	return s[len(pds)-1].ErrorMsg
}

func (r *rig) states(pds []*apiv1.PdSpec, vds ...*apiv1.VdSpec) []*apiv1.ObjectState {
	r.Helper()
	r.version++
	req := proto.CloneOf(full(r.version, pds, vds...)) // the agent keeps it, and tests change theirs
	req.AllowEmpty = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reply, err := r.a.Sync(ctx, req)
	if err != nil {
		r.Fatal(err)
	}
	return reply.States
}

func (r *rig) says(msg string, words ...string) {
	r.Helper()
	for _, w := range words {
		if !strings.Contains(msg, w) {
			r.Errorf("%q does not say %q", msg, w)
		}
	}
}

// stamped reports whether a file carries the stamp of a pd.
func (r *rig) stamped(path string, pd *apiv1.PdSpec) bool {
	r.Helper()
	b := r.content(path)
	return bytes.HasPrefix(b, []byte("SPDKBLOB")) && bytes.Contains(b[:mib], []byte("vda-"+cluster[:16]+"-"+pd.Id))
}

// health waits until a pd is as it should be, or says something.
func (r *rig) health(pd *apiv1.PdSpec, word string) {
	r.Helper()
	planetest.Eventually(r.T, func() string {
		hb, err := r.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
		if err != nil {
			return err.Error()
		}
		if !hb.DataPlaneOk {
			return hb.DataPlaneMsg
		}
		for _, s := range hb.States {
			if s.Id == pd.Id {
				if word != "" && strings.Contains(s.ErrorMsg, word) {
					return ""
				}
				return s.ErrorMsg
			}
		}
		if word != "" {
			return "the pd is well; it should say " + word
		}
		return ""
	})
}

// A first format that failed says nothing about the disk that is put in its
// place.
func TestAFailedFormatLetsNoOtherDiskBeFormatted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"64 KiB, then another file", "a format that the data plane refused", "mark of an older agent"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			path := filepath.Join(r.folder, "disk")
			pd := pdOf(1, aioConf(path, ""))
			switch name {
			case "64 KiB, then another file":
				r.file("disk", 64<<10, 0, "")
				r.says(r.sync(pd), "65536 bytes", "2097152")
			case "a format that the data plane refused":
				r.file("disk", 64*mib, 0, "")
				if err := os.MkdirAll(filepath.Join(r.state, "notes"), 0o700); err != nil {
					t.Fatal(err)
				}
				id, err := local.Machine{}.Identify(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(r.state, "notes", "begun-"+pd.Id), fmt.Appendf(nil, `{"disk":%q}`, id.Lasting),
					0o600); err != nil {
					t.Fatal(err)
				}
			case "mark of an older agent":
				if err := errors.Join(os.MkdirAll(filepath.Join(r.state, "made"), 0o700), os.WriteFile(filepath.Join(r.state, "made",
					pd.Id+"-begun"),
					nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			_ = os.Remove(path)
			r.file("disk", 96*mib, 1024+56, "\x53\xef")
			before := r.content(path)
			r.restart()
			r.says(r.sync(pd), "is not blank", "an ext file system")
			r.restart()
			r.health(pd, "an ext file system")
			if !bytes.Equal(before, r.content(path)) {
				t.Error("the other disk has changed")
			}
		})
	}
}

// What a crash leaves of a format is taken up again, on that disk alone.
func TestAFormatThatWasCutOffIsTakenUp(t *testing.T) { rigs(t, aFormatThatWasCutOffIsTakenUp) }

func aFormatThatWasCutOffIsTakenUp(r *rig) {
	t := r.T
	path := r.file("disk", 64*mib, 0, "")
	pd := pdOf(1, aioConf(path, ""))
	if msg := r.sync(pd); msg != "" {
		t.Fatal(msg)
	}
	// A store that has no super blob yet.
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	r.stopTgt()
	id, err := local.Machine{}.Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	disktest.Unname(t, path)
	note := filepath.Join(r.state, "notes", "begun-"+pd.Id)
	if err := os.Remove(filepath.Join(r.state, "made", pd.Id)); err != nil {
		t.Fatal(err)
	}
	r.startTgt()
	r.startAgent()
	r.says(r.sync(pd), "is not blank", "blobstore") // nothing says that it began here
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(note, fmt.Appendf(nil, `{"disk":%q}`, "another "+id.Lasting), 0o600); err != nil {
		t.Fatal(err)
	}
	r.startAgent()
	r.health(pd, "blobstore") // it began on another disk
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(note, fmt.Appendf(nil, `{"disk":%q}`, id.Lasting), 0o600); err != nil {
		t.Fatal(err)
	}
	r.startAgent()
	r.health(pd, "")
	planetest.Eventually(t, func() string { // the first pass of a new agent may be under way
		if !r.stamped(path, pd) {
			return "it is not formatted"
		}
		return ""
	})
}

// A disk on which no vd would fit is refused, and left as it is, whatever says
// that it is one.
func TestATooSmallDiskSaysWhatIsNeeded(t *testing.T) { rigs(t, aTooSmallDiskSaysWhatIsNeeded) }

func aTooSmallDiskSaysWhatIsNeeded(r *rig) {
	t := r.T
	for i, size := range []int64{1, 4096, mib, 2*mib - 1, 4 * mib} {
		path := r.file(fmt.Sprint("disk", i), size, 0, "\x00")
		conf := aioConf(path, "")
		if i == 4 {
			conf = aioConf(path, `,"cluster_size":4194304`)
		}
		need := "2097152"
		if i == 4 {
			need = "8388608"
		}
		r.says(r.sync(pdOf(1+i, conf)), fmt.Sprint(size)+" bytes", need)
		if len(bytes.Trim(r.content(path), "\x00")) > 0 {
			t.Errorf("%d bytes: written to", size)
		}
	}
	// The smallest one holds a vd.
	path := r.file("least", 2*mib, 0, "")
	pd, v := pdOf(9, aioConf(path, "")), vd(1)
	v.PdId, v.Size = pd.Id, mib
	for _, s := range r.states([]*apiv1.PdSpec{pd}, v) {
		if s.Error {
			t.Errorf("the smallest: %s", s.ErrorMsg)
		}
	}
}

// Each kind of content is left as it is, and the user is told what it is.
func TestOnlyABlankDiskIsFormatted(t *testing.T) { rigs(t, onlyABlankDiskIsFormatted) }

func onlyABlankDiskIsFormatted(r *rig) {
	t := r.T
	i := 0
	for says, c := range map[string]struct {
		at   int64
		data string
	}{
		"version 0.90": {64*mib - 65536, "\xfc\x4e\x2b\xa9"},
		"LVM":          {1024, "LABELONE"},
		"backup of a":  {64*mib - 512, "EFI PART"},
		"executable":   {0, "\x7fELF"},
		"262144":       {256 << 10, "plain data"},
		"20971529":     {20*mib + 9, "plain data"},
	} {
		i++
		path := r.file(fmt.Sprint("disk", i), 64*mib, c.at, c.data)
		before := r.content(path)
		r.says(r.sync(pdOf(i, aioConf(path, ""))), path, "is not blank", says, `"wipe":true`)
		if !bytes.Equal(before, r.content(path)) {
			t.Errorf("%s has changed", says)
		}
	}
	zeros := r.file("zeros", 64*mib, 0, string(make([]byte, 64*mib)))
	if msg := r.sync(pdOf(100, aioConf(zeros, ""))); msg != "" {
		t.Errorf("zeros: %s", msg)
	}
}

// A disk with data is wiped when its user has been told what is on it, and
// that is still what is on it.
func TestOnlyWhatWasShownIsWiped(t *testing.T) { rigs(t, onlyWhatWasShownIsWiped) }

func onlyWhatWasShownIsWiped(r *rig) {
	t := r.T
	path := r.file("disk", 64*mib, 0, "XFSB of old")
	wipe := aioConf(path, `,"wipe":true`)
	before := r.content(path)
	r.says(r.sync(pdOf(1, wipe)), "XFS", "not been")
	r.restart() // and looks again
	r.health(pdOf(1, wipe), "XFS")
	if !bytes.Equal(before, r.content(path)) {
		t.Fatal("wiped before it was shown")
	}
	drop := func(i int, conf string) *apiv1.PdSpec {
		p := pdOf(i, conf)
		p.Deleted = true
		return p
	}
	if msg := r.sync(drop(1, wipe)); msg != "" {
		t.Fatal(msg)
	}
	r.file("disk", 64*mib, 30*mib, "come since")
	before = r.content(path)
	r.says(r.sync(pdOf(2, wipe)), "XFS")
	if !bytes.Equal(before, r.content(path)) {
		t.Fatal("wiped what was not shown")
	}
	if msg := r.sync(drop(2, wipe)); msg != "" {
		t.Fatal(msg)
	}
	last := pdOf(3, wipe)
	if msg := r.sync(last); msg != "" {
		t.Fatal(msg)
	}
	if !r.stamped(path, last) || bytes.Contains(r.content(path), []byte("come since")) {
		t.Error("it is not wiped and formatted")
	}
	// A deleted pd leaves its disk blank, and another may be made of it.
	if msg := r.sync(drop(3, wipe)); msg != "" {
		t.Fatal(msg)
	}
	if msg := r.sync(pdOf(4, aioConf(path, ""))); msg != "" {
		t.Errorf("a pd on the disk of a deleted one: %s", msg)
	}
}

// No file is made for a pd that has been formatted: its own comes back with its
// file system.
func TestAPdWhoseFileIsAwayGetsNoOther(t *testing.T) { rigs(t, aPdWhoseFileIsAwayGetsNoOther) }

func aPdWhoseFileIsAwayGetsNoOther(r *rig) {
	t := r.T
	mount := filepath.Join(r.folder, "mnt")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(mount, "disk")
	pd := pdOf(1, aioConf(path, `,"size":67108864`))
	if msg := r.sync(pd); msg != "" {
		t.Fatal(msg)
	}
	// The machine boots, and the file system is not mounted yet.
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	r.stopTgt()
	if err := errors.Join(os.Rename(mount, mount+".away"), os.Mkdir(mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	r.startTgt()
	r.startAgent()
	r.health(pd, "is its file system mounted?")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a file was made below the mount point: %v", err)
	}
	// What an older agent made there is let go of, too.
	if err := os.WriteFile(path, make([]byte, 64*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	r.health(pd, "is blank")
	if err := errors.Join(os.RemoveAll(mount), os.Rename(mount+".away", mount)); err != nil {
		t.Fatal(err)
	}
	r.health(pd, "")
	planetest.Eventually(t, func() string { // the first pass of a new agent may be under way
		if !r.stamped(path, pd) {
			return "not the pd's own"
		}
		return ""
	})
}

// systems is this machine, were all its disks partitions of the one that it runs from.
type systems struct{ disk.Machine }

type systemsDisk struct{ disk.Device }

func (d systemsDisk) ID() disk.ID {
	id := d.Device.ID()
	id.System = "sda1 of sda is mounted at /"
	return id
}

func (d systemsDisk) NextData(off uint64) (start, end uint64, err error) {
	return d.Device.(disk.Extents).NextData(off)
}

func (m systems) Open(path string) (disk.Device, error) {
	d, err := m.Machine.Open(path)
	if err != nil {
		return nil, err
	}
	return systemsDisk{d}, nil
}

// TestNothingIsWipedOnTheSystemsDisk: what is not blank there stays, also when its user was shown it
// and says wipe; what is blank is taken, and a pd that was made there goes on.
func TestNothingIsWipedOnTheSystemsDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	r.disks = systems{local.Machine{Folders: []string{r.folder}}}
	r.startAgent()
	path := r.file("esp", 64*mib, 0, "XFSB of the boot loader")
	before := r.content(path)
	for i := range 3 {
		pd := pdOf(1+i, aioConf(path, `,"wipe":true`))
		msg := r.sync(pd)
		r.says(msg, path, "XFS", "the disk that the machine runs from (sda1 of sda is mounted at /)", "give it another disk")
		if strings.Contains(msg, `"wipe"`) || strings.Contains(msg, "create it again") {
			t.Errorf("%q advises to wipe it", msg)
		}
		pd.Deleted = true
		if msg := r.sync(pd); msg != "" {
			t.Error(msg)
		}
	}
	if !bytes.Equal(before, r.content(path)) {
		t.Error("it was wiped")
	}
	blank := pdOf(7, aioConf(r.file("blank", 64*mib, 0, ""), ""))
	if msg := r.sync(blank); msg != "" {
		t.Error(msg)
	}
	r.restart()
	r.health(blank, "")
}

func TestASecondNameOfALiveDiskIsNamed(t *testing.T) { rigs(t, aSecondNameOfALiveDiskIsNamed) }

func aSecondNameOfALiveDiskIsNamed(r *rig) {
	t := r.T
	path := r.file("disk", 64*mib, 0, "")
	live := pdOf(1, aioConf(path, ""))
	if msg := r.sync(live); msg != "" {
		t.Fatal(msg)
	}
	soft, hard, copied := filepath.Join(r.folder, "soft"), filepath.Join(r.folder, "hard"), filepath.Join(r.folder, "copy")
	if err := errors.Join(os.Symlink(path, soft), os.Link(path, hard), os.WriteFile(copied, r.content(path), 0o600)); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{soft, hard, "/proc/self/root" + path, copied} {
		for _, more := range []string{"", `,"wipe":true`} {
			other := pdOf(2+i, aioConf(name, more))
			msg := r.sync(live, other)
			r.says(msg, "pd1")
			if strings.Contains(msg, "wipe") {
				t.Errorf("%s: %q advises to wipe a live disk", name, msg)
			}
			other.Deleted = true
			if msg := r.sync(live, other); msg != "" {
				t.Error(msg)
			}
		}
	}
	r.health(live, "")
	planetest.Eventually(t, func() string { // the first pass of a new agent may be under way
		if !r.stamped(path, live) {
			return "the live disk lost its stamp"
		}
		return ""
	})
}

func TestPdsBelowAllowedFoldersOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	outside := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(outside, make([]byte, 8*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(r.folder, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	r.says(r.sync(pdOf(1, aioConf(outside, ""))), outside, "--aio-dir", r.folder)
	r.says(r.sync(pdOf(2, aioConf(link, ""))), outside, "--aio-dir", r.folder)
	r.says(r.sync(pdOf(3, aioConf(outside+".new", `,"size":8388608`))), "--aio-dir")
	r.says(r.sync(pdOf(4, aioConf(filepath.Join(r.folder, "huge"), `,"size":1152921504606846976`))), "1152921504606846976", "bytes free")
	if msg := r.sync(pdOf(5, aioConf(filepath.Join(r.state, "disks", "new"), `,"size":8388608`))); msg != "" {
		t.Errorf("in the folder of the state directory: %s", msg)
	}
	if b := r.content(outside); len(bytes.Trim(b, "\x00")) > 0 {
		t.Error("the file outside was written to")
	}
}

// A block device that another program has, or that carries something, is not
// touched.
func TestBlockDevices(t *testing.T) { rigs(t, blockDevices) }

func blockDevices(r *rig) {
	t := r.T
	dev := disktest.Loop(t, r.file("backing", 64*mib, 0, ""))
	fd, err := syscall.Open(dev, syscall.O_RDONLY|syscall.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	pd := pdOf(1, aioConf(dev, `,"volatile_cache":"accepted"`)) // a loop device has one
	r.says(r.sync(pd), dev, "is in use")
	_ = syscall.Close(fd)
	r.health(pd, "")
	planetest.Eventually(t, func() string {
		if fd, err := syscall.Open(dev, syscall.O_RDONLY|syscall.O_EXCL, 0); !errors.Is(err, syscall.EBUSY) {
			_ = syscall.Close(fd)
			return fmt.Sprintf("another program may take a live disk: %v", err)
		}
		return ""
	})
	pd.Deleted = true
	if msg := r.sync(pd); msg != "" {
		t.Fatal(msg)
	}
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4096)
	copy(page[1024+56:], "\x53\xef")
	_, err = f.WriteAt(page, 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	r.says(r.sync(pdOf(2, aioConf(dev, ""))), "an ext file system")
	var d disk.Device
	planetest.Eventually(t, func() string { // a refused disk is let go of; the agent looks at it again from time to time
		var err error
		if d, err = (local.Machine{Folders: []string{"/dev"}}).Open(dev); err != nil {
			return err.Error()
		}
		return ""
	})
	defer d.Close()
	if c, err := disk.Look(t.Context(), d); err != nil || c.Blank() {
		t.Errorf("%v, %v", c, err)
	}
}

// A loop device keeps nobody from its file, nor from another loop device over
// it: neither is formatted while that is there, also when its user says wipe.
func TestADiskInUseByAnotherWayIsNotFormatted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	path := r.file("behind", 64*mib, 0, "")
	refuse := func(n int, where, by string) {
		t.Helper()
		for _, more := range []string{"", `,"wipe":true`} {
			pd := pdOf(n, aioConf(where, more))
			msg := r.sync(pd)
			r.says(msg, where, "is in use", by)
			if strings.Contains(msg, "wipe") {
				t.Errorf("%q advises to wipe it", msg)
			}
			pd.Deleted = true
			if msg := r.sync(pd); msg != "" {
				t.Error(msg)
			}
			n++
		}
	}
	t.Run("a file behind a loop device", func(t *testing.T) {
		refuse(1, path, disktest.Loop(t, path))
	})
	t.Run("two loop devices over the same blocks", func(t *testing.T) {
		first := disktest.Loop(t, path)
		refuse(3, disktest.Loop(t, path, "--offset", "1MiB"), first)
	})
	t.Run("a loop device over a locked file", func(t *testing.T) {
		dev := disktest.Loop(t, path)
		lock, err := aio.New(aio.Config{Name: "a", Filename: path, BlockSize: 4096})
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		refuse(5, dev, path)
	})
	if b := r.content(path); len(bytes.Trim(b, "\x00")) > 0 {
		t.Error("it was written to")
	}
	t.Run("two loop devices over different blocks", func(t *testing.T) {
		disktest.Loop(t, path, "--sizelimit", "8MiB")
		pd := pdOf(7, aioConf(disktest.Loop(t, path, "--offset", "8MiB"), ""))
		if msg := r.sync(pd); msg != "" {
			t.Fatal(msg)
		}
		pd.Deleted = true
		if msg := r.sync(pd); msg != "" {
			t.Fatal(msg)
		}
	})
	t.Run("a live disk stays when a loop device is put over it", func(t *testing.T) {
		pd := pdOf(8, aioConf(path, ""))
		if msg := r.sync(pd); msg != "" {
			t.Fatal(msg)
		}
		disktest.Loop(t, path, "--read-only")
		r.stopTgt()
		r.startTgt()
		r.health(pd, "")
	})
}

// A long path is shown and wiped like any other.
func TestADiskWithALongPathIsWiped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir := filepath.Join(strings.Repeat("long", 40), strings.Repeat("path", 40))
	if err := os.MkdirAll(filepath.Join(r.folder, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	path := r.file(filepath.Join(dir, "disk"), 8*mib, 5*mib, "data")
	pd := pdOf(1, aioConf(path, ""))
	r.says(r.sync(pd), path, "is not blank")
	pd.Deleted = true
	if msg := r.sync(pd); msg != "" {
		t.Fatal(msg)
	}
	if msg := r.sync(pdOf(2, aioConf(path, `,"wipe":true`))); msg != "" {
		t.Error(msg)
	}
}

// The disk of a pd died, and a blank one is in its place: the vd's tombstone is
// carried out, then the pd's, and a new pd takes the disk.
func TestAReplacedDiskIsTaken(t *testing.T) { rigs(t, aReplacedDiskIsTaken) }

func aReplacedDiskIsTaken(r *rig) {
	t := r.T
	path := r.file("disk", 64*mib, 0, "")
	pd, v := pdOf(1, aioConf(path, "")), vd(1)
	v.PdId = pd.Id
	for _, s := range r.states([]*apiv1.PdSpec{pd}, v) {
		if s.Error {
			t.Fatal(s.ErrorMsg)
		}
	}
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	r.stopTgt()
	_ = os.Remove(path)
	r.file("disk", 32*mib, 0, "")
	r.startTgt()
	r.startAgent()
	r.health(pd, "not done again")
	v.Deleted = true
	if s := r.states([]*apiv1.PdSpec{pd}, v); !s[1].Gone {
		t.Fatalf("the vd: %v", s[1])
	}
	pd.Deleted = true
	if s := r.states([]*apiv1.PdSpec{pd}); !s[0].Gone {
		t.Fatalf("the pd: %v", s[0])
	}
	if msg := r.sync(pdOf(2, aioConf(path, ""))); msg != "" {
		t.Errorf("a pd on the new disk: %s", msg)
	}
}

// A disk that is gone holds nothing up once its pd is given up as lost.
func TestALostPdIsRemoved(t *testing.T) { rigs(t, aLostPdIsRemoved) }

func aLostPdIsRemoved(r *rig) {
	t := r.T
	path := r.file("disk", 64*mib, 0, "")
	pd, v := pdOf(1, aioConf(path, "")), vd(1)
	v.PdId = pd.Id
	r.states([]*apiv1.PdSpec{pd}, v)
	if err := r.a.Close(); err != nil {
		t.Fatal(err)
	}
	r.stopTgt()
	if err := os.Rename(path, path+".gone"); err != nil {
		t.Fatal(err)
	}
	r.startTgt()
	r.startAgent()
	v.Deleted = true
	if s := r.states([]*apiv1.PdSpec{pd}, v); s[1].Gone {
		t.Fatal("a vd is called deleted on a disk that may come back")
	}
	pd.Deleted, pd.ConfJson = true, aioConf(path, `,"lost":true`)
	for _, s := range r.states([]*apiv1.PdSpec{pd}, v) {
		if !s.Gone {
			t.Errorf("%v", s)
		}
	}
	if msg := r.sync(pdOf(2, aioConf(path, `,"size":33554432`))); msg != "" {
		t.Errorf("a new pd at its path: %s", msg)
	}
}

// So is one that is there, and answers perhaps: nothing is read or written, and
// its stamp stays on it. When it turns up again it is the deleted pd's, until
// its user lets it be wiped.
func TestALostPdIsNotWaitedFor(t *testing.T) { rigs(t, aLostPdIsNotWaitedFor) }

func aLostPdIsNotWaitedFor(r *rig) {
	t := r.T
	path := r.file("disk", 64*mib, 0, "")
	pd, v := pdOf(1, aioConf(path, "")), vd(1)
	v.PdId = pd.Id
	r.states([]*apiv1.PdSpec{pd}, v)
	v.Deleted, pd.Deleted, pd.ConfJson = true, true, aioConf(path, `,"lost":true`)
	for _, s := range r.states([]*apiv1.PdSpec{pd}, v) {
		if !s.Gone {
			t.Errorf("%v", s)
		}
	}
	if !r.stamped(path, pd) || !bytes.Contains(r.content(path)[:mib], []byte("vda-vd-"+vdID)) {
		t.Error("a lost disk was written to")
	}
	r.says(r.sync(pdOf(2, aioConf(path, ""))), "belongs to pd "+pd.Id, `"wipe":true`)
	gone := pdOf(2, aioConf(path, ""))
	gone.Deleted = true
	if msg := r.sync(gone); msg != "" {
		t.Fatal(msg)
	}
	if msg := r.sync(pdOf(3, aioConf(path, `,"wipe":true`))); msg != "" {
		t.Error(msg)
	}
}
