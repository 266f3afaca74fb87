package vdatgt

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// valve is a TCP proxy that can stop to pass on what the target sends.
type valve struct {
	port string
	mu   sync.Mutex // held while shut
}

func newValve(t *testing.T, to string) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	v := &valve{port: port}
	go func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", "127.0.0.1:"+to)
			if err != nil {
				front.Close()
				continue
			}
			go func() { _, _ = io.Copy(back, front); back.Close() }()
			go func() {
				defer front.Close()
				buf := make([]byte, 32<<10)
				for {
					n, err := back.Read(buf)
					v.mu.Lock()
					_, werr := front.Write(buf[:n])
					v.mu.Unlock()
					if err != nil || werr != nil {
						return
					}
				}
			}()
		}
	}()
	return v
}

// reader is one read and its end.
type reader struct {
	buf []byte
	end chan nvme.Status
}

func (r *reader) CompleteIO(_ *bdev.Request, s nvme.Status, _ *bdev.Batch) { r.end <- s }

// TestSlowReaderSeesOnlyItsOwn: replies that show a volume's memory are on
// their way to a host that does not take them, while the memory leaves the
// volume (by a shrink, by a snapshot that goes, by a delete) and is written by
// another tenant. Whatever the host gets in the end is its own data.
func TestSlowReaderSeesOnlyItsOwn(t *testing.T) {
	const mib, size = 1 << 20, 24
	for name, leave := range map[string]func(t *testing.T, p *plane){
		"shrink": func(t *testing.T, p *plane) {
			ok(t, p.BdevLvolResize(t.Context(), "lvs/mine", 1))
		},
		"snapshot": func(t *testing.T, p *plane) {
			must[string](t)(p.BdevLvolSnapshot(t.Context(), "lvs/mine", "snap"))
			ok(t, p.BdevLvolResize(t.Context(), "lvs/mine", 1)) // the rest is the snapshot's alone
			ok(t, p.BdevLvolDelete(t.Context(), "lvs/snap"))
		},
		"delete": func(t *testing.T, p *plane) {
			ok(t, p.BdevLvolDelete(t.Context(), "lvs/mine"))
		},
		"under an array": func(t *testing.T, p *plane) {
			ok(t, p.BdevRaidDelete(t.Context(), "R"))
			ok(t, p.BdevLvolDelete(t.Context(), "lvs/mine"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, Config{})
			ctx := t.Context()
			must[string](t)(p.BdevMallocCreate(ctx, spdk.MallocCreate{Name: "M", BlockSize: 4096, NumBlocks: (size + 8) * mib / 4096}))
			must[string](t)(p.BdevLvolCreateLvstore(ctx, spdk.LvstoreCreate{BdevName: "M", LvsName: "lvs", ClusterSz: mib}))
			must[string](t)(p.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "lvs", LvolName: "mine", SizeInMiB: size}))
			shown := "lvs/mine"
			if name == "under an array" {
				shown = "R"
				ok(t, p.BdevRaidCreate(ctx, spdk.RaidCreate{Name: "R", StripSizeKB: 64, RaidLevel: "raid0", BaseBdevs: []string{"lvs/mine"}}))
			}
			port, sub, user := freePort(t), "nqn.2016-06.io.spdk:mine", "nqn.2016-06.io.spdk:host"
			p.export(spdk.NvmfSubsystemCreate{NQN: sub, SerialNumber: "S"}, spdk.NvmfNamespace{BdevName: shown}, port, user)
			mine := bytes.Repeat([]byte("mine"), size*mib/4)
			ok(t, dial(t, port, sub, user).WriteAt(ctx, mine, 0))

			v := newValve(t, port)
			c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: v.port, SubNQN: sub, HostNQN: user, Log: testLog(),
				Queues: 1, QueueDepth: 127})
			ok(t, err)
			t.Cleanup(c.Close)
			ns := c.Namespace(1)
			v.mu.Lock()
			var b bdev.Batch
			var reads []*reader
			for at := range uint64(120) { // 15 MiB, more than the sockets hold; nothing of the first MiB, which stays
				r := &reader{buf: make([]byte, 128<<10), end: make(chan nvme.Status, 1)}
				reads = append(reads, r)
				ns.Submit(&bdev.Request{Op: bdev.OpRead, Offset: 256 + at*32, Blocks: 32, Iov: [][]byte{r.buf},
					Done: func(*bdev.Request, *bdev.Batch) {}}, r, &b)
			}
			b.Flush()
			time.Sleep(200 * time.Millisecond) // the target has them all
			leave(t, p)
			theirs(t, p, size-8)
			v.mu.Unlock()
			late := 0
			for i, r := range reads {
				select {
				case s := <-r.end:
					if bytes.Contains(r.buf, []byte("theirs")) {
						t.Fatalf("read %d (%v) shows another tenant's data: %.16q", i, s, r.buf)
					}
					if s == nvme.Success && !bytes.Equal(r.buf, mine[:len(r.buf)]) {
						t.Fatalf("read %d shows %.16q", i, r.buf)
					}
				case <-time.After(2 * time.Minute):
					late++
				}
			}
			if late > 0 {
				t.Errorf("%d reads never ended", late)
			}
		})
	}
}

// theirs makes another tenant's volume of the freed memory and fills it.
func theirs(t *testing.T, p *plane, mib uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must[string](t)(p.BdevLvolCreate(ctx, spdk.LvolCreate{LvsName: "lvs", LvolName: "theirs", SizeInMiB: mib}))
	port, sub, user := freePort(t), "nqn.2016-06.io.spdk:theirs", "nqn.2016-06.io.spdk:other"
	p.export(spdk.NvmfSubsystemCreate{NQN: sub, SerialNumber: "T"}, spdk.NvmfNamespace{BdevName: "lvs/theirs"}, port, user)
	ok(t, dial(t, port, sub, user).WriteAt(ctx, bytes.Repeat([]byte("theirs! "), int(mib)<<20/8), 0))
}
