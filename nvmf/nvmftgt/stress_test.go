package nvmftgt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress lets hosts write and verify stamped blocks while the namespace
// is swapped back and forth between two handles of the same memory, ANA
// states change, and connections are cut. No acknowledged write may be lost
// and no host may see anything but success, ANA statuses and cuts.
func TestStress(t *testing.T) {
	t.Run("own readers", func(t *testing.T) { stress(t, newRig(t)) })
	t.Run("polled by others", func(t *testing.T) {
		r := newRig(t)
		r.pollAll()
		stress(t, r)
	})
}

func stress(t *testing.T, r *rig) {
	r.malloc("s", 4096)
	a, b := r.gated("a", "s"), r.gated("b", "s")
	a.release()
	b.release()
	nsid, err := r.sub.AddNamespace(NamespaceConfig{Bdev: "a"})
	must(t, err)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var writes atomic.Int64
	for h := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, uint64(h)))
			kept := map[uint64]byte{}
			for !stop.Load() {
				host(t, r, h, nsid, rng, kept, &stop, &writes)
			}
		}()
	}
	end := time.Now().Add(1500 * time.Millisecond)
	rng := rand.New(rand.NewPCG(2, 2))
	late := end.Add(10 * time.Second) // on a machine with much else to do
	for i := 0; time.Now().Before(end) || writes.Load() < 10 && time.Now().Before(late); i++ {
		must(t, r.sub.SwapNamespace(nsid, []string{"b", "a"}[i%2]))
		switch rng.IntN(4) {
		case 0:
			must(t, r.sub.SetANAState(r.addr, 0, ANAInaccessible))
			must(t, r.sub.SetANAState(r.addr, 0, ANAOptimized))
		case 1:
			r.sub.AllowAnyHost(false)
			r.sub.AllowAnyHost(true)
		}
		time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	if writes.Load() < 10 {
		t.Errorf("only %d writes", writes.Load())
	}
	if p := r.tgt.Stats().Panics; p != 0 {
		t.Errorf("%d panics", p)
	}
	waitFor(t, func() bool { return len(r.sub.Qpairs()) == 0 })
}

// host is one life of a host: it connects, works until it is cut, and checks
// what it knows.
func host(t *testing.T, r *rig, h int, nsid uint32, rng *rand.Rand, kept map[uint64]byte, stop *atomic.Bool, writes *atomic.Int64) {
	adm, err := r.tryConnect(0, 0xffff)
	if err != nil {
		return
	}
	defer adm.c.Close()
	w, err := r.tryConnect(1, adm.cid)
	if err != nil {
		return
	}
	defer w.c.Close()
	for !stop.Load() {
		lba := uint64(h*1000 + rng.IntN(200))
		blocks := 1 + rng.IntN(6)
		seed := byte(rng.IntN(256))
		data := bytes.Repeat([]byte{seed}, blocks*4096)
		write := rng.IntN(2) == 0
		s := w.rw(2, lba, blocks)
		if write {
			s[0] = 1
		}
		s[4] = byte(nsid)
		sglOut(s, len(data))
		if _, err := w.c.Write(w.capsulePDU(s, nil)); err != nil {
			return
		}
		if write { // until it is acknowledged the blocks may be old or new
			for i := range blocks {
				delete(kept, lba+uint64(i))
			}
		}
		c, in, err := w.tryAwait(w.cid, data)
		if err != nil {
			return
		}
		if c.status == 0x302 {
			continue
		}
		if c.status != 0 {
			t.Errorf("status %03x", c.status)
			return
		}
		for i := range blocks {
			at := lba + uint64(i)
			if write {
				kept[at] = seed
				writes.Add(1)
			} else if want, ok := kept[at]; ok && !bytes.Equal(in[i*4096:(i+1)*4096], bytes.Repeat([]byte{want}, 4096)) {
				t.Errorf("block %d of host %d lost a write", at, h)
			}
		}
	}
}

// tryConnect makes a queue; an admin queue's cid field then holds the
// controller's id.
func (r *rig) tryConnect(qid, cntlid uint16) (w *wire, err error) {
	w = (&rig{t: r.t, addr: r.addr}).dial()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	w.t = quiet{w.t}
	w.icreq()
	s, d := w.connectSQE(qid, cntlid, 31, testNQN)
	sglIn(s, len(d))
	w.capsule(s, d)
	c, _, err := w.tryAwait(w.cid, nil)
	if err != nil || c.status != 0 {
		w.c.Close()
		return nil, fmt.Errorf("connect: %03x %v", c.status, err)
	}
	if qid == 0 {
		if w.propSet(0x14, 0x00460001).status != 0 {
			return nil, fmt.Errorf("enable")
		}
		w.cid = uint16(c.dw0)
	}
	return w, nil
}

// quiet turns the initiator's fatal errors into panics: here connections may
// be cut at any time.
type quiet struct{ testing.TB }

func (quiet) Helper()                      {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (quiet) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
