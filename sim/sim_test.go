package sim

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/store"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "run this seed alone and print its event log")
	seedsFlag   = flag.Int("seeds", defaultSeeds, "run so many seeds, from -from on")
	fromFlag    = flag.Uint64("from", 1, "the first of the seeds")
	kindsFlag   = flag.String("kinds", "", "make only these kinds of faults, separated by commas")
	redFlag     = flag.String("redundancy", "any", "redundancy of the arrays: none, mirror:2, mirror:3 or any")
	volumesFlag = flag.Bool("volumes", false, "snapshot arrays, roll back, clone them and have them grow beside the faults")
	changesFlag = flag.Bool("changes", false, "change redundancies and move vds beside the faults")
	logsFlag    = flag.String("logs", "", "directory for the event logs of seeds that fail, and of stories")
)

// kindsOf splits a list of kinds; nil for none.
func kindsOf(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// schema makes a database file with the schema and no rows.
func schema(t testing.TB) string {
	file := filepath.Join(t.TempDir(), "schema.db")
	if _, _, err := store.Create(context.Background(), "sqlite:///"+file); err != nil {
		t.Fatal(err)
	}
	return file
}

// run simulates one seed in a bubble.
func run(t *testing.T, cfg Config) *Outcome {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vda-sim-")
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	cfg.Dir = dir
	done := make(chan struct{})
	defer close(done)
	var seconds atomic.Int64 // of fake time
	go watchdog(cfg.Seed, &seconds, done)
	var o *Outcome
	synctest.Test(t, func(*testing.T) {
		over := make(chan struct{})
		defer close(over)
		go func() {
			for {
				select {
				case <-time.After(time.Second):
					seconds.Add(1)
				case <-over:
					return
				}
			}
		}()
		o, err = Run(cfg)
	})
	if err != nil {
		o.Wrongs = append(o.Wrongs, err.Error())
	}
	return o
}

// watchdog ends the process when fake time has not moved for two minutes: a
// goroutine that spins keeps it, and with it every time-out, still. A machine
// that has much else to do only slows it down. The minutes are counted in
// seconds, for the whole process may be stopped.
func watchdog(seed uint64, seconds *atomic.Int64, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last, still := int64(-1), 0; still < 120; still++ {
		if now := seconds.Load(); now != last {
			last, still = now, 0
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
	debug.SetTraceback("all")
	panic(fmt.Sprintf("seed %d: fake time stands still", seed))
}

// report fails the test for what went wrong and says how to see it again.
func report(t *testing.T, cfg *Config, o *Outcome) {
	t.Helper()
	if len(o.Wrongs) == 0 {
		return
	}
	t.Errorf("seed %d: %s\n\tagain: go test ./sim -count=1 -run TestSeeds -v -seed %d -kinds %q -redundancy %s -changes=%t -volumes=%t",
		cfg.Seed, o.Wrongs[0],
		cfg.Seed, strings.Join(cfg.Kinds, ","), cmp.Or(cfg.Redundancy, "none"), cfg.Changes, cfg.Volumes)
	keepLog(t, fmt.Sprintf("seed-%d", cfg.Seed), o)
}

// keepLog writes a run's log to the folder that -logs names.
func keepLog(t *testing.T, name string, o *Outcome) {
	t.Helper()
	if *logsFlag != "" {
		if err := os.WriteFile(filepath.Join(*logsFlag, name+".log"), []byte(o.Log), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// show prints one run in full.
func show(t *testing.T, o *Outcome) {
	t.Helper()
	t.Logf("\n%s", o.Log)
	t.Logf("%d writes, %d reads, %d sent again; faults %v; %d moves; well again after %v", o.Writes, o.Reads, o.Again,
		o.Faults, o.Moves, o.Healed)
	for _, w := range o.Wrongs {
		t.Error(w)
	}
}

// TestSeeds runs many seeds and sums up, or shows one.
func TestSeeds(t *testing.T) {
	file := schema(t)
	if *seedFlag != 0 {
		show(t, run(t, Config{Seed: *seedFlag, Schema: file, Changes: *changesFlag, Volumes: *volumesFlag, Kinds: kindsOf(*kindsFlag),
			Redundancy: *redFlag, Debug: true}))
		return
	}
	var writes, reads, again, moves, failed, refused int
	var healed []time.Duration
	faults, redundancies := map[string]int{}, map[string]int{}
	begin := time.Now()
	for seed := *fromFlag; seed < *fromFlag+uint64(*seedsFlag); seed++ {
		cfg := Config{Seed: seed, Schema: file, Changes: *changesFlag, Volumes: *volumesFlag, Kinds: kindsOf(*kindsFlag), Redundancy: *redFlag}
		o := run(t, cfg)
		report(t, &cfg, o)
		redundancies[o.Redundancy]++
		writes, reads, again, moves = writes+o.Writes, reads+o.Reads, again+o.Again, moves+o.Moves
		refused += o.Refused
		for k, n := range o.Faults {
			faults[k] += n
		}
		if len(o.Wrongs) > 0 {
			failed++
			continue
		}
		healed = append(healed, o.Healed)
	}
	slices.Sort(healed)
	total := 0
	for _, k := range slices.Concat(kinds, changes, volumes, together, cloning, securities) {
		t.Logf("%6d %s", faults[k.name], k.name)
		total += faults[k.name]
	}
	for _, r := range []string{"none", "mirror:2", "mirror:3"} {
		t.Logf("%6d seeds with arrays of redundancy %s", redundancies[r], r)
	}
	if n := len(healed); n > 0 {
		t.Logf("well again after the last fault: p50 %v, p99 %v, max %v", healed[n/2], healed[n*99/100], healed[n-1])
	}
	t.Logf("%d seeds in %v: %d failed; %d faults, %d moves of primaries, %d writes, %d reads, %d commands sent again",
		*seedsFlag, time.Since(begin).Round(time.Second), failed, total, moves, writes, reads, again)
	t.Logf("%d times somebody was refused who may not", refused)
	if writes == 0 || refused == 0 || *seedsFlag >= 6 && (moves == 0 || again == 0) {
		t.Error("nothing happened: the simulation is broken")
	}
}
