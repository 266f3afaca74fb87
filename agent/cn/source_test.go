package cn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// noise is bytes that nothing else has.
func noise(seed uint64, n int) []byte {
	rng, b := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// cloneState is what controller node i's heartbeat says of its clone, nil for nothing.
func (l *lab) cloneState(i int) *apiv1.CloneState {
	l.Helper()
	r, err := l.cns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: l.cns[i].id})
	if err != nil {
		l.Fatal(err)
	}
	for _, c := range r.Clones {
		return c
	}
	return nil
}

// move has another controller become primary, as when the one before is gone.
func (l *lab) move(from, to int) {
	l.Helper()
	l.term++
	l.fence(false)
	l.good(to, l.cntlr(to, to))
	if !l.cns[from].stopped {
		l.good(from, l.cntlr(from, to))
	}
}

// sourceOf brings up an array that begins with base, and returns the exporter of a snapshot of
// that, from which another lab's array is to be copied.
func (l *lab) sourceOf(base []byte) *apiv1.ExpSpec {
	l.Helper()
	l.small()
	l.leased()
	l.up(0)
	l.spec.Create = false
	if err := l.disk(0).WriteAt(l.Context(), base, 0); err != nil {
		l.Fatal(err)
	}
	s := l.snap(0)
	if st := l.snapState(0, s); !st.Found {
		l.Fatal(st)
	}
	s.State = taken
	e := l.exporter(1)
	e.SnapName, e.SnapId = s.Name, s.Id
	e.InitiatorNqn, e.Name = vda.CloneHostNQN(daID), vda.ClonePrefix+daID
	l.all(0)
	return e
}

// cloneOf makes l a clone of what exporter e of another lab shows.
func (l *lab) cloneOf(from *lab, e *apiv1.ExpSpec, size uint64) {
	e.InitiatorNqn = vda.CloneHostNQN(daID)
	s := &apiv1.CloneSource{Name: "src/monday", Nqn: e.Nqn, HostNqn: e.InitiatorNqn,
		Uuid: uuid.MustParse(e.NsUuid).String(), Size: size, Create: true}
	for _, n := range from.cns {
		s.Listeners = append(s.Listeners, at(n.port))
	}
	l.spec.Source, l.spec.Create = s, false
}

// shows checks what a disk holds.
func shows(t *testing.T, what string, ns *host.Namespace, want []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := make([]byte, len(want))
	if err := ns.ReadAt(ctx, got, 0); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(got, want) {
		at := 0
		for got[at] == want[at] {
			at++
		}
		t.Errorf("%s differs from byte %d on", what, at)
	}
}

// TestRealClone: a clone, larger than its source and of a snapshot, is what that shows from
// the first moment and takes writes, which the source does not see; it is copied while both
// arrays get other primaries, and then goes on without its source.
func TestRealClone(t *testing.T) {
	if os.Getenv("SPDK_TGT") == "" {
		t.Parallel()
		realClone(t, nowhere, nowhere)
		return
	}
	// One after the other: each spdk_tgt takes a core to itself.
	for _, c := range []struct {
		name          string
		source, clone func(node string) bool // which nodes run spdk_tgt
	}{
		{"vda_tgt", nowhere, nowhere},
		{"spdk_tgt on cn0 of the source", firsts(false, true), nowhere},
		{"spdk_tgt on dn0 of the source", firsts(true, false), nowhere},
		{"spdk_tgt on dn0 of the clone", nowhere, firsts(true, false)},
	} {
		t.Run(c.name, func(t *testing.T) { realClone(t, c.source, c.clone) })
	}
}

// nowhere is where spdk_tgt runs in a cluster that is all vda_tgt's.
func nowhere(string) bool { return false }

func realClone(t *testing.T, sourceOnSPDK, cloneOnSPDK func(node string) bool) {
	const size = 4 << 20
	src, srcDNs, srcCNs := realsOn(t, 2, false, sourceOnSPDK, unhurried, func(*tgt, string) {})
	base := noise(1, size)
	clear(base[2<<20 : 3<<20])
	e := src.sourceOf(base)
	if err := src.disk(0).WriteAt(t.Context(), noise(2, size), 0); err != nil { // the clone is of before
		t.Fatal(err)
	}

	l, _, _ := realsOn(t, 2, false, cloneOnSPDK, unhurried, func(*tgt, string) {})
	l.spec.Size = 6 << 20
	l.cloneOf(src, e, size)
	l.spec.Limits = &apiv1.Limits{RebuildMbps: 1} // so that it takes until the moves
	l.leased()
	l.up(0)
	l.spec.Source.Create = false
	want := append(bytes.Clone(base), make([]byte, 2<<20)...)
	put := func(i, at, n int, seed uint64) {
		t.Helper()
		copy(want[at:], noise(seed, n))
		if err := l.disk(i).WriteAt(t.Context(), want[at:at+n], int64(at)); err != nil {
			t.Fatal(err)
		}
		shows(t, "the clone", l.disk(0), want)
		shows(t, "the clone through its other controller", l.disk(1), want)
	}
	put(0, 3<<20+8192, 4096, 3)
	put(1, 5<<20, 8192, 4)
	planetest.Eventually(t, func() string {
		if c := l.cloneState(0); c == nil || c.DoneBytes == 0 || c.TotalBytes != 6<<20 || c.Term != l.term {
			return c.String()
		}
		return ""
	})
	src.move(0, 1)
	put(0, 2<<20, 16384, 5)
	src.move(1, 0)
	put(0, 3<<20, 4096, 7)
	l.cns[0].stop(l)
	l.move(0, 1)
	shows(t, "the clone after its move", l.disk(1), want)
	copy(want, noise(6, 4096))
	if err := l.disk(1).WriteAt(t.Context(), want[:4096], 0); err != nil {
		t.Fatal(err)
	}
	l.spec.Limits = nil
	l.good(1, l.cntlr(1, 1))
	planetest.Eventually(t, func() string {
		if c := l.cloneState(1); c == nil || !c.Independent {
			return c.String()
		}
		return ""
	})
	l.spec.Source = nil
	l.good(1, l.cntlr(1, 1))
	for _, g := range append(srcCNs, srcDNs...) {
		g.stop()
	}
	shows(t, "the clone on its own", l.disk(1), want)
}

// TestCloneIsNotCopiedOnSPDK: a primary on SPDK does not serve a clone that is not copied yet, and says
// where it would be.
func TestCloneIsNotCopiedOnSPDK(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.spec.Create = false
		l.spec.Source = &apiv1.CloneSource{Name: "src/monday", Nqn: expNQN + "-source", HostNqn: vda.CloneHostNQN(daID),
			Uuid: id("f1", 1), Size: 4 << 20, Create: true, Listeners: []*apiv1.ListenerConf{at(l.cns[0].port)}}
		l.fence(false)
		refused := false
		for _, s := range l.settled(0, l.cntlr(0, 0)) {
			refused = refused || s.Error && strings.Contains(s.ErrorMsg, "which SPDK cannot copy in parts; run vda_tgt on this node")
		}
		if !refused {
			t.Errorf("the array's states are %v", l.states(0))
		}
		if s := l.cns[0].plane.ANA(expNQN); s == spdk.ANAOptimized || s == spdk.ANANonOptimized {
			t.Errorf("hosts find the clone %s", s)
		}
		for _, o := range l.cns[0].plane.Objects() {
			if strings.Contains(o, vda.SourcePrefix) || strings.Contains(o, "vda-vol-") {
				t.Errorf("the data plane has %s", o)
			}
		}
	})
}

// gated is a data plane that has copied one part of a clone, and has no time for the rest yet.
type gated struct {
	*spdk.Client
	copied, free *atomic.Bool
}

func (g gated) Call(ctx context.Context, method string, params, result any) error {
	if method != "vda_lvol_absorb" {
		return g.Client.Call(ctx, method, params, result)
	}
	if g.copied.Load() && !g.free.Load() {
		return &spdk.RPCError{Method: method, Code: -int(unix.EBUSY), Message: "a copy is under way"}
	}
	err := g.Client.Call(ctx, method, params, result)
	if err == nil {
		g.copied.Store(true)
	}
	return err
}

// gate has node n copy one part of a clone, and the rest when goOn is called.
func (l *lab) gate(n *cnNode) (goOn func()) {
	l.Helper()
	copied, free := new(atomic.Bool), new(atomic.Bool)
	n.stop(l)
	n.config.Connect = func() (agent.Client, error) {
		c, err := spdk.New(spdk.Config{Socket: n.config.Socket})
		return gated{c, copied, free}, err
	}
	n.start(l)
	return func() { free.Store(true) }
}

// clone is an array that is being copied, and the array it is copied from.
type clone struct {
	*lab
	src     *lab
	base    []byte // what the source shows
	sources []*tgt // the source's data planes, that of its controller first
	goOn    func() // with the copy
}

// halfCopied is a clone of 4 MiB of which controller node primary, of two, has copied the first MiB.
func halfCopied(t *testing.T, cn0SPDK bool, primary int) *clone {
	t.Helper()
	const size = 4 << 20
	src, srcDNs, srcCNs := reals(t, 1, false, false, false)
	base := noise(1, size)
	e := src.sourceOf(base)
	l, _, _ := reals(t, 2, false, false, cn0SPDK)
	goOn := l.gate(l.cns[primary])
	l.spec.Size = size
	l.cloneOf(src, e, size)
	l.leased()
	l.up(primary)
	l.spec.Source.Create = false
	planetest.Eventually(t, func() string {
		if c := l.cloneState(primary); c.GetDoneBytes() != 1<<20 {
			return c.String()
		}
		return ""
	})
	return &clone{l, src, base, append(srcCNs, srcDNs...), goOn}
}

// TestRealCloneMeetsSPDK: a clone that moves to a node with SPDK before it is copied waits there, and
// shows nothing; it goes on where vda_tgt is, and is served by SPDK when all is copied.
func TestRealCloneMeetsSPDK(t *testing.T) {
	if os.Getenv("SPDK_TGT") == "" {
		t.Skip("SPDK_TGT is not set: there is one data plane only")
	}
	l := halfCopied(t, true, 1)
	base := l.base
	shows(t, "the clone on vda_tgt", l.disk(1), base)

	l.term++
	l.fence(false)
	refused := false
	for _, s := range l.settled(0, l.cntlr(0, 0)) {
		refused = refused || s.Error && strings.Contains(s.ErrorMsg, "run vda_tgt on this node")
	}
	if !refused {
		t.Errorf("SPDK is to serve a clone that is not copied, and the node says %v", l.states(0))
	}
	if _, err := l.reach(0); err == nil {
		t.Error("a host finds the clone on SPDK")
	}

	l.term++
	l.fence(false)
	l.goOn()
	planetest.Eventually(t, func() string {
		for _, s := range l.settled(1, l.cntlr(1, 1)) {
			if s.Error {
				return s.ErrorMsg
			}
		}
		return ""
	})
	copy(base[3<<20:], noise(2, 8192))
	if err := l.disk(1).WriteAt(t.Context(), base[3<<20:3<<20+8192], 3<<20); err != nil {
		t.Fatal(err)
	}
	planetest.Eventually(t, func() string {
		if c := l.cloneState(1); c == nil || !c.Independent {
			return c.String()
		}
		return ""
	})
	l.spec.Source = nil
	l.good(1, l.cntlr(1, 1))
	for _, g := range l.sources {
		g.stop()
	}
	l.move(1, 0)
	shows(t, "the clone on SPDK", l.disk(0), base)
}

// TestRealCloneWithoutItsSource: while its source is away a clone has path errors for what
// it has not copied, never zeros, and what it has itself; a primary that is new then has no
// volume; and it goes on when the source is back.
func TestRealCloneWithoutItsSource(t *testing.T) {
	t.Parallel()
	l := halfCopied(t, false, 0)
	own := noise(2, 1<<20)
	copy(l.base[3<<20:], own)
	if err := l.disk(0).WriteAt(t.Context(), own, 3<<20); err != nil {
		t.Fatal(err)
	}
	l.sources[0].stop()
	got := make([]byte, 4096)
	for _, at := range []int64{0, 1<<20 - 4096, 3 << 20} {
		if err := l.disk(0).ReadAt(t.Context(), got, at); err != nil || !bytes.Equal(got, l.base[at:at+4096]) {
			t.Errorf("what the clone has itself, at %d: %v", at, err)
		}
	}
	var st nvme.Status
	if err := l.disk(0).ReadAt(t.Context(), got, 1<<20); !errors.As(err, &st) || !st.IsPath() {
		t.Errorf("a read of what is not copied: %v", err)
	}
	l.goOn()
	planetest.Eventually(t, func() string {
		for _, why := range l.states(0) {
			if strings.Contains(why, "does not go on: no controller of it can be reached, at 127.0.0.1 port "+l.src.cns[0].port) {
				return ""
			}
		}
		return fmt.Sprint("the clone says ", l.states(0))
	})
	l.sources[0].start()
	planetest.Eventually(t, func() string {
		for _, st := range l.src.settled(0, l.src.cntlr(0, 0)) {
			if st.Error {
				return st.ErrorMsg
			}
		}
		return ""
	})
	planetest.Eventually(t, func() string { // the copy is tried again each second
		for _, st := range l.settled(0, l.cntlr(0, 0)) {
			if st.Error {
				return st.ErrorMsg
			}
		}
		return ""
	})
	planetest.Eventually(t, func() string {
		if c := l.cloneState(0); c == nil || !c.Independent {
			return c.String()
		}
		return ""
	})
	shows(t, "the clone", l.disk(0), l.base)
}

// TestRealHopOfAClone: the connection by which a clone is copied authenticates once there are
// keys, while it is used; nobody gets in by its NQN, at any controller; it comes back by the key
// that it has in the term of the source after that, and by no older one; and it leaves no key.
func TestRealHopOfAClone(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	src, _, srcCNs := reals(t, 2, false, false, false)
	base := noise(1, size)
	e := src.sourceOf(base)
	l, _, cnTgts := reals(t, 1, false, false, false)
	l.spec.Size = size
	l.cloneOf(src, e, size)
	goOn := l.gate(l.cns[0])
	l.leased()
	l.up(0)
	l.spec.Source.Create = false
	secret := agent.HopKey("of the cluster")
	key := func(term uint64) agent.HopKey { return secret.For(fmt.Sprint("clone ", term)) }
	keysOf := func(term uint64) dhchap.Keys {
		p := key(term).Pair()
		h, err1 := dhchap.ParseSecret(p.Host)
		c, err2 := dhchap.ParseSecret(p.Ctrlr)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return dhchap.Keys{Host: h, Controller: c}
	}
	tellSource := func() { // the clone is told later
		e.CloneHopKeys = [][]byte{key(src.term), key(src.term - 1)}
	}
	tellClone := func() {
		l.spec.Source.HopKey = key(src.term)
		planetest.Eventually(t, func() string { // an exchange that runs out of time is begun again
			for _, s := range l.settled(0, l.cntlr(0, 0)) {
				if s.Error {
					return s.ErrorMsg
				}
			}
			return ""
		})
	}
	// connected waits until the clone has connections to all controllers of its source.
	connected := func(when string) {
		t.Helper()
		planetest.Eventually(t, func() string {
			if got := cnTgts[0].paths(vda.SourcePrefix + daID); len(got) != 2 || got[0] != "enabled" || got[1] != "enabled" {
				return fmt.Sprint(when, ": paths to the source: ", got)
			}
			return ""
		})
		shows(t, "the clone "+when, l.disk(0), base)
	}
	stranger := func(i int, keys dhchap.Keys) error { return src.stranger(src.cns[i].port, e.Nqn, e.InitiatorNqn, keys) }
	refused := func(what string, keys dhchap.Keys) {
		t.Helper()
		for i := range src.cns {
			if err := stranger(i, keys); !unproven(err) {
				t.Errorf("%s, at cn%d: %v", what, i, err)
			}
		}
	}
	held := func(want int) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(l.cns[0].config.StateDir, "hops", "*"))
		if err != nil || len(files) != want {
			t.Errorf("the clone's node has %d keys, want %d: %v, %v", len(files), want, files, err)
		}
	}
	connected("of a plain cluster")
	if err := stranger(0, dhchap.Keys{}); err != nil {
		t.Fatalf("a plain source: %v", err)
	}
	held(0)

	tellSource()
	src.all(0)
	tellClone()
	connected("since there are keys")
	held(2)
	guess := dhchap.Keys{Host: dhchap.NewSecret(dhchap.SHA256)}
	refused("without a key", dhchap.Keys{})
	refused("with another key", guess)
	first := keysOf(src.term)
	if err := stranger(0, first); err != nil {
		t.Fatalf("the key that the clone has is refused: %v", err)
	}

	src.term++ // as move does, with keys of the term
	tellSource()
	src.fence(false)
	src.good(1, src.cntlr(1, 1))
	src.good(0, src.cntlr(0, 1))
	for _, g := range srcCNs {
		g.stop()
		g.start()
	}
	src.healthy(1)
	src.healthy(0)
	connected("by the key of the term before")
	tellClone()
	connected("by the key of the term")
	held(2)
	src.term++
	tellSource()
	src.fence(false)
	src.good(0, src.cntlr(0, 0))
	src.good(1, src.cntlr(1, 0))
	refused("with a key of two terms before", first)
	connected("in a term that it was not told of")

	goOn()
	planetest.Eventually(t, func() string {
		if c := l.cloneState(0); c == nil || !c.Independent {
			return c.String()
		}
		return ""
	})
	l.spec.Source = nil
	l.good(0, l.cntlr(0, 0))
	held(0)
	shows(t, "the clone on its own", l.disk(0), base)
}
