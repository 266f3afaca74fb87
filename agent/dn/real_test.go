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
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"vda/agent/agenttest"
	"vda/agent/dn"
	apiv1 "vda/api/v1"
	"vda/nvmf/host"
	"vda/spdk"
	"vda/target"
)

// realLab is an agent on a real data plane: a vda_tgt inside the test, or the
// spdk_tgt that SPDK_TGT names.
type realLab struct {
	*lab
	port string
	file string // a pd may have
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
	l.dataPlane(socket, onSPDK)
	a, err := dn.Start(context.Background(), agenttest.Node(t, agenttest.NodeConfig{Kind: "dn", Socket: socket, Port: l.port, StateDir: l.dir}))
	if err != nil {
		t.Fatal(err)
	}
	l.a = a
	t.Cleanup(l.stop)
	return l
}

func (l *realLab) dataPlane(socket string, onSPDK bool) {
	l.Helper()
	if onSPDK {
		cmd := exec.Command(os.Getenv("SPDK_TGT"), "--rpc-socket", socket, "--wait-for-rpc", "--no-pci", "--no-huge", "-s", "1024", "-m", "0x1", "--disable-cpumask-locks")
		if err := cmd.Start(); err != nil {
			l.Fatal(err)
		}
		l.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
	} else {
		x, err := target.New(target.Config{RPCSocket: socket, WaitForRPC: true, BufferMemory: 64 << 20, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			l.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		l.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				l.Errorf("vda_tgt: %v", err)
			}
		})
	}
	c, err := spdk.New(spdk.Config{Socket: socket})
	if err != nil {
		l.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err = c.WaitReady(ctx)
	if err == nil {
		err = c.BdevSetOptions(ctx, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)})
	}
	if err == nil {
		err = c.FrameworkStartInit(ctx)
	}
	if err != nil {
		l.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// disk connects to a vd as the controller of a term.
func (l *realLab) disk(term uint64) (*host.Namespace, func()) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: l.port, SubNQN: vdNQN, HostNQN: hostNQN(term), Queues: 1})
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
		pd := aioPD()
		pd.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, l.file, 64<<20)
		l.good(full(1, []*apiv1.PdSpec{pd}))
		before := allocated(t, l.file)

		delta := full(2, nil, vd(1))
		delta.BaseVersion = 1
		l.good(delta)
		secret := []byte("what the tenant wrote ")
		ns, hangUp := l.disk(1)
		data := bytes.Repeat(secret, 16<<20/len(secret)+1)[:16<<20]
		err := ns.WriteAt(context.Background(), data, 0)
		if err = errors.Join(err, ns.Flush(context.Background())); err != nil {
			t.Fatal(err)
		}
		hangUp()
		if raw, err := os.ReadFile(l.file); err != nil || !bytes.Contains(raw, secret) {
			t.Fatalf("the test does not see what was written (%v)", err)
		}

		gone := proto.CloneOf(vd(1))
		gone.Deleted = true
		delta = full(3, nil, gone)
		delta.BaseVersion = 2
		l.good(delta)
		raw, err := os.ReadFile(l.file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, secret) {
			t.Error("what the tenant wrote is still on the medium")
		}
		if now := allocated(t, l.file); !onSPDK && now > before+1<<20 {
			t.Errorf("the file takes %d bytes, before the vd it took %d", now, before)
		}
	})
}
