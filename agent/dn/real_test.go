package dn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/disk/disktest"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/vdatgt"
)

// realLab is an agent on a real data plane: a vda_tgt inside the test, or the
// spdk_tgt that SPDK_TGT names.
type realLab struct {
	*lab
	port    string
	file    string // a pd may have
	socket  string
	examine bool   // new bdevs by itself
	kill    func() // the data plane
}

func newRealLab(t *testing.T, onSPDK bool) *realLab {
	dir, err := os.MkdirTemp("", "dn") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &realLab{lab: &lab{T: t, dir: t.TempDir()}, port: freePort(t)}
	l.file = filepath.Join(l.dir, "disks", "d0")
	if err := os.Mkdir(filepath.Dir(l.file), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l.socket = socket
	l.dataPlane(onSPDK)
	t.Cleanup(func() { l.kill() })
	a, err := dn.Start(context.Background(), planetest.Node(t, planetest.NodeConfig{Kind: "dn", Socket: socket,
		Port: l.port, StateDir: l.dir}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	t.Cleanup(l.stop)
	return l
}

func (l *realLab) dataPlane(onSPDK bool) {
	l.Helper()
	socket := l.socket
	if onSPDK {
		cmd := exec.Command(os.Getenv("SPDK_TGT"), "--rpc-socket", socket, "--wait-for-rpc", "--no-pci", "--no-huge", "-s", "1024", "-m", "0x1",
			"--disable-cpumask-locks")
		if err := cmd.Start(); err != nil {
			l.Fatal(err)
		}
		l.kill = func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
			_ = os.Remove(socket)
		}
	} else {
		x, err := vdatgt.New(vdatgt.Config{RPCSocket: socket, WaitForRPC: true, BufferMemory: 64 << 20,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			l.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		l.kill = func() {
			cancel()
			if err := <-done; err != nil {
				l.Errorf("vda_tgt: %v", err)
			}
		}
	}
	c, err := spdk.New(spdk.Config{Socket: socket})
	if err != nil {
		l.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = c.WaitReady(ctx)
	if err == nil {
		err = c.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(l.examine)})
	}
	if err == nil {
		err = c.FrameworkStartInit(ctx)
	}
	if err != nil {
		l.Fatal(err)
	}
}

var nextPort atomic.Int32

// freePort returns a port that nothing listens on now, from below those that
// the system gives to connections, of which one could take it.
func freePort(t *testing.T) string {
	for range 1000 {
		port := fmt.Sprint(10100 + (int(nextPort.Add(1))+os.Getpid()*61)%10000)
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (l *realLab) connect(term uint64) (*host.Controller, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: l.port, SubNQN: vdNQN, HostNQN: hostNQN(term), Queues: 1})
}

// disk connects to a vd as the controller of a term.
func (l *realLab) disk(term uint64) (*host.Namespace, func()) {
	l.Helper()
	c, err := l.connect(term)
	if err != nil {
		l.Fatal(err)
	}
	ns := c.Namespace(1)
	if ns == nil {
		l.Fatal("the vd shows no namespace")
	}
	return ns, c.Close
}

// planes runs a test on vda_tgt, and on spdk_tgt when SPDK_TGT names one.
func planes(t *testing.T, test func(t *testing.T, onSPDK bool)) {
	t.Run("vda_tgt", func(t *testing.T) { test(t, false) })
	if os.Getenv("SPDK_TGT") != "" {
		t.Run("spdk_tgt", func(t *testing.T) { test(t, true) })
	}
}

// allocated returns the bytes that a file takes.
func allocated(t *testing.T, file string) int64 {
	t.Helper()
	i, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return i.Sys().(*syscall.Stat_t).Blocks * 512
}

// A deleted vd leaves nothing on the medium: its data is not to be read there,
// and the file below takes no more space than before.
func TestDeletedVDGivesItsSpaceBack(t *testing.T) {
	planes(t, func(t *testing.T, onSPDK bool) {
		l := newRealLab(t, onSPDK)
		l.givesBack(fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, l.file, 64<<20), onSPDK)
	})
}

// The same on a block device, where deallocated blocks need not be zeros.
func TestDeletedVDGivesABlockDevicesSpaceBack(t *testing.T) {
	planes(t, func(t *testing.T, onSPDK bool) {
		l := newRealLab(t, onSPDK)
		if err := errors.Join(os.WriteFile(l.file, nil, 0o600), os.Truncate(l.file, 64<<20)); err != nil {
			t.Fatal(err)
		}
		l.givesBack(fmt.Sprintf(`{"type":"aio","filename":%q,"volatile_cache":"accepted"}`, disktest.Loop(t, l.file)), onSPDK)
	})
}

// givesBack makes, writes and deletes a vd on a pd whose blocks are l.file's.
func (l *realLab) givesBack(conf string, onSPDK bool) {
	l.Helper()
	pd := aioPD()
	pd.ConfJson = conf
	l.good(full(1, []*apiv1.PdSpec{pd}))
	before := allocated(l.T, l.file)

	delta := full(2, nil, vd(1))
	delta.BaseVersion = 1
	l.good(delta)
	secret := []byte("what the tenant wrote ")
	ns, hangUp := l.disk(1)
	data := bytes.Repeat(secret, 16<<20/len(secret)+1)[:16<<20]
	err := ns.WriteAt(context.Background(), data, 0)
	if err = errors.Join(err, ns.Flush(context.Background())); err != nil {
		l.Fatal(err)
	}
	hangUp()
	if raw, err := os.ReadFile(l.file); err != nil || !bytes.Contains(raw, secret) {
		l.Fatalf("the test does not see what was written (%v)", err)
	}

	gone := proto.CloneOf(vd(1))
	gone.Deleted = true
	delta = full(3, nil, gone)
	delta.BaseVersion = 2
	l.good(delta)
	raw, err := os.ReadFile(l.file)
	if err != nil {
		l.Fatal(err)
	}
	if bytes.Contains(raw, secret) {
		l.Error("what the tenant wrote is still on the medium")
	}
	if now := allocated(l.T, l.file); !onSPDK && now > before+1<<20 {
		l.Errorf("the file takes %d bytes, before the vd it took %d", now, before)
	}
}

// TestACopyOnARealPlane: a copy of a pd's disk that the node has been given as
// another pd is never what hosts read and write, however often the data plane
// restarts, and stays as it is.
func TestACopyOnARealPlane(t *testing.T) {
	planes(t, func(t *testing.T, onSPDK bool) {
		l := newRealLab(t, onSPDK)
		pd := aioPD()
		pd.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, l.file, 64<<20)
		l.good(full(1, []*apiv1.PdSpec{pd}, vd(1)))
		write := func(what byte) {
			t.Helper()
			ns, hangUp := l.disk(1)
			defer hangUp()
			if err := errors.Join(ns.WriteAt(context.Background(), bytes.Repeat([]byte{what}, 4096), 0),
				ns.Flush(context.Background())); err != nil {
				t.Fatal(err)
			}
		}
		write(0)
		raw, err := os.ReadFile(l.file)
		if err == nil {
			err = os.WriteFile(l.file+"-copy", raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		other := proto.CloneOf(pd)
		other.Id, other.Name, other.Version = copyID, "pd1", 2
		other.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q}`, l.file+"-copy")
		delta := full(2, []*apiv1.PdSpec{other})
		delta.BaseVersion = 1
		if msg := l.errorOf(l.sync(delta), copyID); !strings.Contains(msg, "copy of the disk of pd pd0") {
			t.Errorf("the copy's state: %s", msg)
		}
		for i := byte(1); i < 5; i++ {
			write(i)
			l.kill()
			l.examine = !onSPDK && i%2 == 0
			l.dataPlane(onSPDK)
			planetest.Eventually(t, func() string {
				if c, err := l.connect(1); err == nil {
					c.Close()
					return ""
				}
				return "the vd does not come back: " + l.bad(vdID) + l.bad(pdID)
			})
			ns, hangUp := l.disk(1)
			got := make([]byte, 4096)
			if err := ns.ReadAt(context.Background(), got, 0); err != nil || got[0] != i {
				t.Errorf("after restart %d: %d, %v", i, got[0], err)
			}
			hangUp()
		}
		if now, err := os.ReadFile(l.file + "-copy"); err != nil || !bytes.Equal(now, raw) {
			t.Errorf("the copy was written to (%v)", err)
		}
	})
}

// TestADiskThatFailsIsShown: a file that lost its end fails reads of the vd on
// it; the pd and the vd say so.
func TestADiskThatFailsIsShown(t *testing.T) {
	l := newRealLab(t, false)
	pd := aioPD()
	pd.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, l.file, 64<<20)
	l.good(full(1, []*apiv1.PdSpec{pd}, vd(1)))
	if err := os.Truncate(l.file, 4<<20); err != nil {
		t.Fatal(err)
	}
	ns, hangUp := l.disk(1)
	defer hangUp()
	if err := ns.ReadAt(context.Background(), make([]byte, 4096), 12<<20); err == nil {
		t.Error("the read does not fail")
	}
	l.says([]string{pdID, vdID}, "I/O errors since")
}

// TestFullFileSystem: a pd's file lies on a file system that is too small for
// it. Where zeroing takes space a new vd is refused and leaves nothing; where
// only writes do, they fail, and the pd and the vd say why.
func TestFullFileSystem(t *testing.T) {
	for kind, mib := range map[string]int{"ext4": 24, "tmpfs": 20} {
		t.Run(kind, func(t *testing.T) {
			l := newRealLab(t, false)
			disktest.FileSystem(t, kind, filepath.Dir(l.file), mib)
			if err := errors.Join(os.WriteFile(l.file, nil, 0o600), os.Truncate(l.file, 64<<20)); err != nil {
				t.Fatal(err)
			}
			pd, v := aioPD(), vd(1)
			pd.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q}`, l.file)
			v.Size = 32 << 20
			msg := l.errorOf(l.sync(full(1, []*apiv1.PdSpec{pd}, v)), vdID)
			if kind == "ext4" {
				if !strings.Contains(msg, "no space: "+l.file+" of pd pd0") {
					t.Errorf("the vd: %q", msg)
				}
				if n := allocated(t, l.file); n > 2<<20 {
					t.Errorf("%d bytes are left", n)
				}
				l.says([]string{pdID}, "no space")
				return
			}
			if msg != "" {
				t.Fatal(msg)
			}
			ns, hangUp := l.disk(1)
			defer hangUp()
			var s nvme.Status
			if err := ns.WriteAt(context.Background(), bytes.Repeat([]byte{1}, 32<<20), 0); !errors.As(err, &s) ||
				s&^nvme.DNR != nvme.CapacityExceeded {
				t.Errorf("the write: %v", err)
			}
			l.says([]string{pdID, vdID}, "no space: "+l.file+" of pd pd0")
		})
	}
}
