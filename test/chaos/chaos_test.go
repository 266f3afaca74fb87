//go:build e2e

package chaos

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/test/e2e/lab"
	"github.com/virtual-disk-array/vda/test/verdict"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(loadEnv) != "":
		os.Exit(runLoad())
	case os.Getenv(diskEnv) != "":
		os.Exit(runDisk())
	}
	os.Exit(m.Run())
}

// TestCalm has no faults: the load alone.
func TestCalm(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: number(t, "CNTLRS", 2), Exps: number(t, "EXPS", 1)})
	time.Sleep(time.Duration(number(t, "SECONDS", 10)) * time.Second)
	finish(t, c)
}

func number(t *verdict.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, text)
	}
	return n
}

// start boots a cluster and waits until the host's I/O flows on all paths.
func start(t *verdict.T, cfg clusterConfig) *cluster {
	t.Helper()
	if missing := lab.Missing(); len(missing) > 0 {
		t.Fatalf("this machine lacks %v", missing)
	}
	dir := os.Getenv("VDA_CHAOS_DIR")
	if dir == "" {
		dir = t.TempDir()
	} else {
		dir = filepath.Join(dir, t.Name())
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := os.Getenv("VDA_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	if cfg.Dir = dir; cfg.BinDir == "" {
		cfg.BinDir = bin
	}
	var err error
	if cfg.Plan, err = dataplane.FromEnv(); err == nil {
		if cfg.Redundancy.Mirrored() {
			cfg.Plan = cfg.Plan.OnDisks()
		}
		err = cfg.Plan.Check(nodesOf(cfg))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(cfg.Plan.Describe(nodesOf(cfg)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := newCluster(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.startLoad(ctx, loadConfig{Workers: 12, Think: 8 * time.Millisecond, Slow: 40 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if !c.whole(30 * time.Second) {
		t.Fatalf("the host does not see all paths: %+v", c.host.now())
	}
	return c
}

// whole waits until all paths are accessible and I/O flows.
func (c *cluster) whole(limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if b := c.host.now(); c.flows(b) && allAccessible(b.Paths) {
			return true
		}
	}
	return false
}

// flows reports whether I/O goes on as of a beat.
func (c *cluster) flows(b report) bool {
	return b.Ops > 0 && b.Oldest < 500*time.Millisecond && time.Since(b.End) < time.Second
}

func allAccessible(paths map[string]string) bool {
	good := 0
	for _, s := range paths {
		if s != "optimized" && s != "non_optimized" {
			return false
		}
		if s == "optimized" {
			good++
		}
	}
	return good == 1
}

// finish reads everything back, stops the cluster and checks the disks.
func finish(t *verdict.T, c *cluster) {
	t.Helper()
	mirrored := c.cfg.Redundancy.Mirrored()
	if mirrored {
		c.heal(t)
	}
	done, err := c.host.verify(2 * time.Minute)
	if err != nil {
		t.Error(err)
	} else {
		t.Logf("%d I/O, %d of them sent again on another path, read back %d blocks, %d lost or wrong", done.Ops, done.Retries,
			done.Checked, done.Wrong)
		if done.Checked != c.blocks || done.Wrong != 0 {
			t.Errorf("blocks read back: %d of %d, lost or wrong: %d", done.Checked, c.blocks, done.Wrong)
		}
	}
	_, errs := c.host.worst(time.Time{}, time.Now())
	for i, e := range errs {
		if i < 20 {
			t.Errorf("%s the host saw: %s", e.End.Format("15:04:05.000"), e.What)
		}
	}
	for _, text := range c.crashes() {
		t.Error(text)
	}
	var legs []leg
	if mirrored {
		// Whatever a dead primary has left half written is repaired in the background.
		if err := c.settled(t.Context(), time.Minute); err != nil {
			t.Errorf("a minute after the last write: %v", err)
		}
		if state, ok := c.full(30 * time.Second); !ok {
			t.Errorf("after the last write the array's redundancy_state is %q", state)
		}
		if legs, err = c.legs(t.Context()); err != nil || len(legs) == 0 {
			t.Errorf("the legs: %+v %v", legs, err)
		}
	}
	c.checkKeys(t)
	c.checkDisks(t)
	if len(legs) > 0 {
		c.compareLegs(t, legs)
	}
}

// checkDisks ends the data planes and has vda_tgt check look at the disks.
func (c *cluster) checkDisks(t *verdict.T) {
	t.Helper()
	// Mirrors say on their legs that they are clean while these are there, and
	// nobody is to become primary meanwhile.
	kinds := [][]string{{"dn", "cn"}}
	if c.cfg.Redundancy.Mirrored() {
		kinds = [][]string{{"monitor"}, {"cn"}, {"dn"}}
	}
	for _, kind := range kinds {
		for _, m := range c.order {
			if !slices.Contains(kind, m.kind) {
				continue
			}
			for _, p := range []*process{m.daemon, m.plane} {
				if p == nil {
					continue
				}
				if err := p.end(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for _, m := range c.order {
		if m.kind != "dn" {
			continue
		}
		out, err := c.output(t.Context(), m, "/root/vda_tgt check "+m.media)
		if err != nil {
			t.Errorf("the lvstore on %s: %v", m.name, err)
			continue
		}
		t.Logf("%s: vda_tgt check: %s", m.name, out)
	}
}

// TestChaos runs faults that follow from SEED for MINUTES; FAULT runs only
// those kinds that contain its text, LONGEST is the longest time in seconds
// that a hang or a cut is held. CNTLRS and EXPS are the numbers of the array's
// controllers and exporters, REDUNDANCY is its redundancy; with CHANGES=1 a mirrored array
// is converted, its vds move and its dns are drained beside the faults, and with VOLUMES=1
// there are snapshots, clones, rollbacks and growth. With SECURED=1 the cluster is secured:
// daemons go by certificates, and nodes by keys that change per term. With LOSSES=n the ways
// of losing a disk node for which there is a goal are n times as likely.
func TestChaos(plain *testing.T) {
	t := verdict.New(plain)
	seed := uint64(number(t, "SEED", int(time.Now().Unix())))
	minutes := number(t, "MINUTES", 5)
	redundancy, err := vda.ParseRedundancy("REDUNDANCY", os.Getenv("REDUNDANCY"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("SEED=%d MINUTES=%d REDUNDANCY=%s", seed, minutes, redundancy)
	volumes := number(t, "VOLUMES", 0) != 0
	c := start(t, clusterConfig{Cntlrs: number(t, "CNTLRS", 2), Exps: number(t, "EXPS", 1), Redundancy: redundancy, Volumes: volumes,
		Secured: number(t, "SECURED", 0) != 0})
	faults := newChooser(c, seed, time.Duration(number(t, "LONGEST", 60))*time.Second, os.Getenv("FAULT"))
	faults.losses = number(t, "LOSSES", 1)
	if number(t, "CHANGES", 0) != 0 && redundancy.Mirrored() {
		faults.withChanges()
	}
	if volumes {
		faults.withVolumes(seed)
	}
	storm(t, c, faults, time.Duration(minutes)*time.Minute)
	if faults.changes { // it is to be compared
		c.changed(t, nil, 5*time.Minute)
		if err := c.insist("da modify --da-name da0 --redundancy "+redundancy.String(), time.Minute); err != nil {
			t.Fatal(err)
		}
		c.changed(t, nil, 5*time.Minute)
	}
	finish(t, c)
}

// recovery is how long after a fault the host's I/O may stand still, and all
// paths may need, at most: far above what is measured, for the machine may be
// busy with other things.
const recovery = 60 * time.Second

// storm injects faults until time is up and prints the table.
func storm(t *verdict.T, c *cluster, faults *chooser, length time.Duration) {
	t.Helper()
	var all []outcome
	for end := time.Now().Add(length); time.Now().Before(end); {
		f := faults.next()
		if faults.r.IntN(5) == 0 {
			f = both(f, faults.next(), between(faults.r, 0, 3*time.Second))
		}
		if faults.changes && faults.r.IntN(2) == 0 {
			f = faults.beside(f)
		}
		if faults.volumes != nil && faults.volumes.IntN(2) == 0 {
			f = faults.use(f)
		}
		if c.cfg.Redundancy.Mirrored() {
			c.await(faults, f)
		}
		o, ok := strike(t, c, f)
		all = append(all, o)
		if !ok {
			break
		}
		time.Sleep(between(faults.r, 200*time.Millisecond, 2*time.Second))
	}
	t.Logf("%d faults\n%s", len(all), table(all))
	if path := os.Getenv("RESULTS"); path != "" {
		sum, err := gather(path, all)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d faults in %s\n%s", len(sum), path, table(sum))
	}
}

// await lets most faults find a mirrored array with all its legs, as far as it gets
// them back in a while. The others get a line of their own: the last member of a
// mirror may be what they hit, and then I/O waits until that is back.
func (c *cluster) await(faults *chooser, f *fault) {
	limit := 10 * time.Second
	if faults.r.IntN(4) == 0 {
		limit = 0
	}
	full := c.full
	if faults.changes { // it may have redundancy none by now
		full = c.quiet
	}
	state, ok := full(limit)
	if !ok && limit > 0 {
		c.calmMonitors()
		state, ok = full(limit)
	}
	if !ok {
		f.what += ", while its redundancy was " + state
		f.kind = "any, while a leg was missing"
	}
}

// strike injects one fault, holds and heals it, and waits until the host has
// all its paths again. It reports false when there is no sense in going on.
func strike(t *verdict.T, c *cluster, f *fault) (outcome, bool) {
	t.Helper()
	begin := time.Now()
	o := outcome{kind: f.kind}
	fail := func(format string, args ...any) {
		o.bad = true
		t.Errorf("%s %s: "+format, append([]any{begin.Format("15:04:05.000"), f.what}, args...)...)
	}
	if err := f.inject(); err != nil {
		fail("%v", err)
	}
	time.Sleep(time.Until(begin.Add(f.hold)))
	if f.heal != nil {
		if err := f.heal(); err != nil {
			fail("heal: %v", err)
			return o, false
		}
	}
	healed := time.Now()
	whole := c.whole(recovery)
	if !whole {
		fail("not all is well %v after it ended: %+v", recovery, c.host.now())
	}
	o.whole = time.Since(healed)
	time.Sleep(150 * time.Millisecond) // reports of the last slow I/O
	o.load = machineLoad()
	w, errs := c.host.worst(begin, time.Now())
	o.pause = w.End.Sub(w.Start)
	o.stall = c.host.stalled(begin, time.Now())
	for i, e := range errs {
		if i < 5 {
			fail("the host saw %s", e.What)
		}
	}
	t.Logf("%s %-32s %s: longest I/O %.3f s (%d attempts), all paths back %.3f s later; the machine stood still for %.3f s, load %.1f",
		begin.Format("15:04:05.000"), f.kind, f.what, o.pause.Seconds(), w.Attempts, o.whole.Seconds(), o.stall.Seconds(),
		o.load)
	for _, s := range c.crashes() {
		fail("%s", s)
		return o, false
	}
	return o, whole
}

// TestChaosShort is a minute of faults that are the same each time, with snapshots, clones,
// rollbacks and growth; what they hit also depends on where the primary is by then.
func TestChaosShort(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 3, Exps: 2, Volumes: true})
	faults := newChooser(c, 7, 12*time.Second, "")
	faults.withVolumes(7)
	storm(t, c, faults, 60*time.Second)
	finish(t, c)
}

// TestChaosShortMirrored is the same on a mirrored array in a secured cluster, and a disk
// that fails.
func TestChaosShortMirrored(plain *testing.T) {
	t := verdict.New(plain)
	c := start(t, clusterConfig{Cntlrs: 2, Exps: 1, Redundancy: vda.Mirror2, Secured: true})
	faults := newChooser(c, 7, 12*time.Second, "")
	if c.faultyDisks() {
		f := faults.badDisk("dn's disk has media errors", "fails all I/O", diskFault{Read: syscall.EIO, Write: syscall.EIO})
		f.hold = time.Second
		strike(t, c, f)
	}
	storm(t, c, faults, 50*time.Second)
	strike(t, c, faults.planned()) // another term at least, and so other keys
	finish(t, c)
}
