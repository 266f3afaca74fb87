package blobstore

import (
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

const testDeviceBytes = 10 << 20

// TestModel runs random operations and compares with the model.
func TestModel(t *testing.T) {
	steps := 40
	if raceEnabled {
		steps = 12
		_ = flag.Set("rapid.checks", "20")
		defer func() { _ = flag.Set("rapid.checks", "100") }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
		w := newWorld(t, testDeviceBytes, pick)
		defer func() { w.store.Close() }()
		for range steps {
			w.step()
		}
		if d := w.differs(w.model, true); d != "" {
			w.failf("%s", d)
		}
		w.checkDisk()
		if err := w.reload(); err != nil {
			w.failf("%v", err)
		}
		if d := w.differs(w.model, true); d != "" {
			w.failf("after a reload: %s", d)
		}
	})
}

// TestModelOfAFullStore writes and zeroes where the store has room for a part,
// or nothing, of that: the blocks hold the old or the new contents, and the
// model follows.
func TestModelOfAFullStore(t *testing.T) {
	for free := range uint64(3) {
		picks := []int{}
		w := newWorld(t, testDeviceBytes, func(n int) int {
			if len(picks) == 0 {
				return 0
			}
			p := picks[0]
			picks = picks[1:]
			return min(p, n-1)
		})
		do := func(p ...int) {
			picks = p
			if w.step(); len(picks) > 0 {
				t.Fatalf("%d picks are left", len(picks))
			}
		}
		do(1, 1, 6, 0) // op, then a thin blob of 6 clusters
		thin := w.model.names()[0]
		if _, err := w.store.CreateBlob(BlobConfig{Clusters: w.store.FreeClusters() - free, Xattrs: named("hog")}); err != nil {
			t.Fatal(err)
		}
		w.model["hog"] = &modelBlob{blocks: make([]block, w.blob("hog").Blocks())}
		w.model["hog"].blank(0)
		for _, op := range []int{12, 11, 12} {
			do(0, op, 1, 5) // 6 blocks from block 1
			if d := w.differs(w.model, true); d != "" {
				w.failf("%d clusters free: %s", free, d)
			}
		}
		if got := w.blob(thin).Allocated(); got > free {
			t.Errorf("%d clusters of %d", got, free)
		}
		w.checkDisk()
		w.store.Close()
	}
}

// TestPowerCut cuts the power at the writes of sequences of operations, loads
// what is left and compares: everything acknowledged is there, the operation
// under way happened or did not, nothing is leaked or used twice. By default it
// takes a sample of the writes; BLOBSTORE_POWER_CUT_SEEDS=n takes all writes of
// n sequences.
func TestPowerCut(t *testing.T) { powerCuts(t, testDeviceBytes, func(*world) {}) }

// TestFamilyPowerCut is TestPowerCut for short blobs, their snapshots and
// clones, whose lengths change; see TestFamilyModel.
func TestFamilyPowerCut(t *testing.T) {
	powerCuts(t, smallDeviceBytes, func(w *world) { w.short, w.ops = true, familyOps })
}

func powerCuts(t *testing.T, bytes int, shape func(*world)) {
	seeds, sample := 8, 40
	if raceEnabled || testing.Short() {
		seeds, sample = 2, 10
	}
	if n, err := strconv.Atoi(os.Getenv("BLOBSTORE_POWER_CUT_SEEDS")); err == nil {
		seeds, sample = n, math.MaxInt
	}
	const steps = 25
	for seed := range uint64(seeds) {
		writes := 0
		for hi := 1; ; hi *= 2 { // about how many writes the sequence has
			if !cutOnce(t, bytes, shape, seed, hi, steps) {
				writes = hi
				break
			}
		}
		stride := max(1, writes/sample)
		for cut := int(seed) % stride; cutOnce(t, bytes, shape, seed, cut, steps); cut += stride {
		}
	}
}

// cutOnce runs the sequence of a seed until its cut-th write, and goes on with what is left
// until the power fails twice more; false when the sequence has fewer writes. Every other
// time a load is followed by whatever change comes next, and not by one that does only what
// precedes each first one.
func cutOnce(t *testing.T, bytes int, shape func(*world), seed uint64, cut, steps int) bool {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(t, bytes, rng.IntN)
	shape(w)
	defer func() { w.store.Close() }()
	if !w.cutWithin(steps, 1+cut, seed, cut) {
		return false
	}
	for again := range 2 {
		w.found()
		w.trace = append(w.trace, "power cut")
		if !w.cutWithin(8, 1+rng.IntN(20), seed, cut+again+1) {
			break
		}
	}
	return true
}

// cutWithin runs steps until the power fails at a write, and loads what that leaves; false
// when they have fewer writes.
func (w *world) cutWithin(steps, write int, seed uint64, cut int) bool {
	w.t.Helper()
	w.dev.cutAt = w.dev.writes + write
	for range steps {
		before, failed := w.step()
		if !failed {
			continue
		}
		w.store.Close()
		after := w.model
		w.dev = w.dev.restart(rand.New(rand.NewPCG(seed, uint64(cut))))
		w.base = openDevice(w.t, w.dev)
		if err := w.load(); err != nil {
			w.failf("seed %d, cut %d: load: %v", seed, cut, err)
		}
		d := w.differs(after, false)
		w.model = after
		if d != "" {
			w.model = before
			if d2 := w.differs(before, false); d2 != "" {
				w.failf("seed %d, cut %d: neither the state after (%s) nor before (%s)", seed, cut, d, d2)
			}
		}
		if cut%2 == 0 {
			w.firstChange()
			if d := w.differs(w.model, false); d != "" {
				w.failf("seed %d, cut %d, repaired: %s", seed, cut, d)
			}
			w.checkDisk()
		}
		return true
	}
	return false
}
