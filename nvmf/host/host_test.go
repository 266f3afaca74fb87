package host

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pattern(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// TestReadWrite covers each way that data can move.
func TestReadWrite(t *testing.T) {
	for _, digests := range []bool{false, true} {
		for _, v := range []struct {
			name string
			set  func(*peer)
		}{
			{"in capsule", func(p *peer) {}},
			{"R2T for all", func(p *peer) { p.inline = 0 }},
			{"R2T in pieces", func(p *peer) { p.inline, p.r2t = 4096, 20480 }},
			{"data in pieces, capsule at the end", func(p *peer) { p.piece, p.success = 1000, false }},
			{"small MDTS", func(p *peer) { p.mdts = 1 }},
		} {
			t.Run(fmt.Sprintf("%s, digests %t", v.name, digests), func(t *testing.T) {
				p := newPeer(t, func(p *peer) { v.set(p); p.hdgst, p.ddgst = digests, digests })
				c := dialPeer(t, p, func(c *Config) { c.HeaderDigest, c.DataDigest = digests, digests })
				ns := c.Namespace(1)
				for i, size := range []int{4096, 8192, 65536, 1 << 20, 1<<20 + 4096} {
					want := pattern(uint64(i), size)
					if err := ns.WriteAt(t.Context(), want, 8192); err != nil {
						t.Fatal(err)
					}
					got := make([]byte, size)
					if err := ns.ReadAt(t.Context(), got, 8192); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) || !bytes.Equal(p.image(8192, int64(size)), want) {
						t.Fatalf("%d bytes came back different", size)
					}
				}
				if err := ns.Deallocate(t.Context(), 8192, 4096); err != nil {
					t.Fatal(err)
				}
				if err := ns.WriteZeroes(t.Context(), 12288, ns.Size()-12288); err != nil {
					t.Fatal(err)
				}
				if err := ns.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p.image(8192, ns.Size()-8192), make([]byte, ns.Size()-8192)) {
					t.Fatal("deallocate and write zeroes left data")
				}
			})
		}
	}
}

func TestIdentity(t *testing.T) {
	p := newPeer(t, nil)
	c := dialPeer(t, p, nil)
	ns := c.Namespace(1)
	i := ns.Identity()
	if i.UUID != p.disks[1].uuid || i.NGUID != p.disks[1].nguid || ns.Size() != 4<<20 || ns.BlockSize() != peerBlock {
		t.Fatalf("%+v", i)
	}
	if c.State() != Enabled || c.CNTLID() != 1 || len(c.Namespaces()) != 1 {
		t.Fatalf("%v, cntlid %d, %d namespaces", c.State(), c.CNTLID(), len(c.Namespaces()))
	}
	for name, err := range map[string]error{
		"outside":   ns.ReadAt(t.Context(), make([]byte, 4096), 4<<20),
		"negative":  ns.ReadAt(t.Context(), make([]byte, 4096), -4096),
		"unaligned": ns.WriteAt(t.Context(), make([]byte, 4096), 100),
		"length":    ns.WriteAt(t.Context(), make([]byte, 100), 0),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestManySubmitters has requests from many goroutines wait for slots, with
// several pieces a buffer.
func TestManySubmitters(t *testing.T) {
	p := newPeer(t, func(p *peer) { p.inline, p.piece = 4096, 3000 })
	c := dialPeer(t, p, func(c *Config) { c.QueueDepth = 4; c.Spin = 20 * time.Microsecond })
	ns := c.Namespace(1)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var b bdev.Batch
			done := make(chan nvme.Status, 16)
			bufs := make([][]byte, 16)
			for _, op := range []bdev.Op{bdev.OpWrite, bdev.OpRead, bdev.OpCompare} {
				for i := range bufs {
					if op == bdev.OpWrite {
						bufs[i] = pattern(uint64(g*16+i), 8192)
					}
					if op == bdev.OpRead {
						bufs[i] = make([]byte, 8192)
					}
					r := &bdev.Request{Op: op, Offset: uint64(g*32 + i*2), Blocks: 2, Iov: [][]byte{bufs[i][:100], bufs[i][100:5000], nil, bufs[i][5000:]},
						Done: func(r *bdev.Request, _ *bdev.Batch) { done <- r.Status }}
					ns.Submit(r, nil, &b)
				}
				b.Flush()
				for range bufs {
					if s := <-done; s != nvme.Success {
						t.Errorf("%v: %v", op, s)
					}
				}
			}
			for i := range bufs {
				if !bytes.Equal(bufs[i], pattern(uint64(g*16+i), 8192)) {
					t.Errorf("submitter %d request %d read something else", g, i)
				}
			}
		})
	}
	wg.Wait()
}

func TestCompareAndWrite(t *testing.T) {
	p := newPeer(t, nil)
	var first bool
	p.hook = func(c *peerConn, cmd *nvme.Command, data []byte) bool {
		switch cmd.Fused() {
		case nvme.FirstFused:
			first = bytes.Equal(data, make([]byte, 4096))
			if !first {
				c.complete(nvme.Completion{CID: cmd.CID(), Status: nvme.CompareFailure | nvme.DNR})
				return true
			}
		case nvme.SecondFused:
			if !first {
				c.complete(nvme.Completion{CID: cmd.CID(), Status: nvme.AbortFailedFused})
				return true
			}
		}
		return false
	}
	c := dialPeer(t, p, nil)
	ns := c.Namespace(1)
	for i, v := range []struct {
		old  byte
		want nvme.Status
	}{{0, nvme.Success}, {1, nvme.CompareFailure | nvme.DNR}} {
		r := &bdev.Request{Op: bdev.OpCompareAndWrite, Blocks: 1, Iov: [][]byte{bytes.Repeat([]byte{v.old}, 4096), pattern(1, 4096)}}
		err := ns.run(t.Context(), r, 0)
		var s nvme.Status
		errors.As(err, &s)
		if s != v.want {
			t.Fatalf("case %d: %v", i, err)
		}
	}
	if !bytes.Equal(p.image(0, 4096), pattern(1, 4096)) {
		t.Fatal("the write of the pair is missing")
	}
}

func TestEvents(t *testing.T) {
	p := newPeer(t, func(p *peer) { p.ana = true })
	changed := make(chan string, 10)
	c := dialPeer(t, p, func(c *Config) {
		c.OnNamespaces = func(*Controller) { changed <- "namespaces" }
		c.OnANA = func(*Controller) { changed <- "ana" }
	})
	wait := func(want string) {
		t.Helper()
		select {
		case got := <-changed:
			if got != want {
				t.Fatalf("%s changed, not %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: no event", want)
		}
	}
	old := c.Namespace(1)
	p.mu.Lock()
	p.disks[7] = &disk{data: make([]byte, 1<<20)}
	p.disks[1].data = append(p.disks[1].data, make([]byte, 4096)...)
	p.mu.Unlock()
	p.event(nvme.NoticeNamespace)
	wait("namespaces")
	if n := c.Namespace(7); n == nil || n.Size() != 1<<20 || c.Namespace(1) != old || old.Size() != 4<<20+4096 {
		t.Fatal("namespaces are not as the controller says")
	}
	p.mu.Lock()
	p.state = uint8(ANAInaccessible)
	p.mu.Unlock()
	p.event(nvme.NoticeANA)
	wait("ana")
	if old.ANA() != ANAInaccessible {
		t.Fatalf("ANA state %d", old.ANA())
	}
	p.mu.Lock()
	delete(p.disks, 1)
	p.mu.Unlock()
	p.event(nvme.NoticeNamespace)
	wait("namespaces")
	if !old.Gone() || c.Namespace(1) != nil {
		t.Fatal("namespace 1 is still there")
	}
}

// TestIdentifyFails: a namespace that is listed and cannot be identified for a
// while, as behind an SPDK that hands the command on to a backend which is
// away, stays when it was known, and is found when it was not.
func TestIdentifyFails(t *testing.T) {
	for _, cns := range []nvme.CNS{nvme.CNSNamespace, nvme.CNSNSDescriptors} {
		var failing atomic.Bool
		p := newPeer(t, func(p *peer) { p.ana = true })
		p.hook = func(c *peerConn, cmd *nvme.Command, _ []byte) bool {
			if !failing.Load() || cmd.Opcode() != nvme.AdminIdentify || cmd.Identify().CNS != cns {
				return false
			}
			c.complete(nvme.Completion{CID: cmd.CID(), Status: nvme.AbortSQDeletion})
			return true
		}
		c := dialPeer(t, p, func(c *Config) { c.Resilience = Resilience{LossTimeout: -1, Delay: 10 * time.Millisecond} })
		known := c.Namespace(1)
		failing.Store(true)
		connects := p.connects.Load()
		p.cut()
		eventually(t, "a new session", func() bool { return p.connects.Load() >= connects+2 && c.State() == Enabled })
		if c.Namespace(1) != known || known.Gone() {
			t.Errorf("identify %#x fails: a known namespace has gone", cns)
		}
		fresh := dialPeer(t, p, nil)
		if fresh.Namespace(1) != nil {
			t.Errorf("identify %#x fails: an unknown namespace is there", cns)
		}
		failing.Store(false)
		eventually(t, "the namespace", func() bool { return fresh.Namespace(1) != nil })
	}
}
