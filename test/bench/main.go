package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/sandbox/dataplane"
)

func main() {
	var (
		runs    = flag.Int("runs", 5, "rounds; in each every target runs once")
		seconds = flag.Int("seconds", 3, "length of one run")
		tgt     = flag.String("vda-tgt", "bin/vda_tgt", "the vda_tgt to measure")
		out     = flag.String("doc", "", "document that gets the tables between its marks; standard output always gets them")
		only    = flag.String("only", "", "run only the part with this title, or those whose title contains it")
		child   = flag.String("job", "", "internal: run one load and print its result")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *child != "" {
		err = runJob(ctx, *child)
	} else {
		err = run(ctx, *runs, time.Duration(*seconds)*time.Second, *tgt, *out, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// goal is the ratio to SPDK that is aimed at, without and with spinning; of a part
// that is mirrored, the ratios of one leg and of two to the striped array of as many
// disks and connections.
type goal struct{ plain, spin float64 }

// part is a table: the same loads on every target with one setup.
type part struct {
	title string
	setup func(context.Context, *plane, string) error
	works []work
	goals []goal // by work; empty: none
	// backs is how many processes more, of the same kind and on the same
	// core, export a disk for the setup. Not with spdk_tgt: its pollers
	// would share the core, which measures the scheduler.
	backs int
	// mirrored has vda_tgt measured without and with mirrors below the raid0, on four
	// disks each, and the ratios printed, instead of the kinds that others are measured
	// with.
	mirrored bool
	profile  bool // also recorded where the time goes
	// after adds to the table what can be measured without a target.
	after func(dir string, works []work, d time.Duration) string
}

func parts() []part {
	small := func(pattern string, depths ...int) (ws []work) {
		for _, d := range depths {
			ws = append(ws, work{pattern: pattern, bytes: 4096, depth: d})
		}
		return ws
	}
	oneHop := func(ctx context.Context, p *plane, _ string) error { return p.oneHop(ctx) }
	return []part{
		{title: "One hop, memory", setup: oneHop, works: slices.Concat(small("randread", 1, 32, 128), small("randwrite", 1, 32, 128),
			[]work{{pattern: "read", bytes: 128 << 10, depth: 32}, {pattern: "write", bytes: 128 << 10, depth: 32}}),
			profile: true, goals: []goal{{.4, 1.1}, {1.05, 1.2}, {1.15, 1.2}, {.4, 1.1}, {1, 1.8}, {1.8, 1.8}, {1.3, 1.3}, {.9, 1.05}}},
		{title: "Two hops and raid0, one process", setup: func(ctx context.Context, p *plane, _ string) error { return p.twoHops(ctx) },
			works:   slices.Concat(small("randread", 1, 32, 128), small("randwrite", 1, 32, 128)),
			profile: true, goals: []goal{{.3, 1}, {.8, 1}, {1, 1.1}, {.3, 1}, {.8, 1}, {1, 1.1}}},
		{title: "One hop, memory, header and data digests", setup: oneHop,
			works: []work{{pattern: "randread", bytes: 4096, depth: 32, digests: true}, {pattern: "randwrite", bytes: 4096,
				depth: 32, digests: true},
				{pattern: "read", bytes: 128 << 10, depth: 32, digests: true}, {pattern: "write", bytes: 128 << 10, depth: 32, digests: true}}},
		{title: "One hop, aio on a file", profile: true, after: fioTable, works: slices.Concat(small("randread", 1, 32),
			small("randwrite", 1, 32)),
			setup: func(ctx context.Context, p *plane, dir string) error {
				return p.aioFile(ctx, filepath.Join(dir, "disk"))
			}},
		{title: "Array over two dns, three processes on one core", backs: 2, works: slices.Concat(small("randread", 1, 32),
			small("randwrite", 1, 32)),
			setup: func(ctx context.Context, p *plane, _ string) error { return p.remoteArray(ctx) }},
		{title: "Mirrored array beside a striped one, three processes on one core", backs: 2, mirrored: true,
			works: slices.Concat(small("randread", 1, 32), small("randwrite", 1, 32)), goals: []goal{{1, .95}, {1, .95}, {1, .6}, {1, .5}},
			setup: func(ctx context.Context, p *plane, _ string) error { return p.remoteArray(ctx) }},
		{title: "Many connections, memory", setup: oneHop,
			works: []work{{pattern: "randread", bytes: 4096, depth: 128, conns: 1, own: true}, {pattern: "randread", bytes: 4096, depth: 512,
				conns: 256, own: true}}},
	}
}

func run(ctx context.Context, runs int, d time.Duration, tgt, outPath, only string) error {
	plan, err := dataplane.FromEnv()
	if err != nil {
		return err
	}
	if !slices.Contains(plan.Kinds(), dataplane.VDA) {
		return errors.New("DATA_PLANE=spdk: bench measures vda_tgt beside spdk_tgt; leave DATA_PLANE unset for both")
	}
	fmt.Println(plan.DescribeKinds())
	dir, err := os.MkdirTemp("", "vda-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := fill(filepath.Join(dir, "disk"), 256<<20); err != nil {
		return err
	}
	kinds := []kind{{name: "vda_tgt, no spin", argv: []string{tgt, "--spin", "0"}}, {name: "vda_tgt", argv: []string{tgt}}}
	if slices.Contains(plan.Kinds(), dataplane.SPDK) {
		kinds = append(kinds, kind{name: "spdk_tgt", argv: []string{os.Getenv("SPDK_TGT"), "-m", "0x1", "--no-pci", "--no-huge", "-s",
			"3072", "--iova-mode=va"}})
	}
	sections := []section{}
	for _, p := range parts() {
		sections = append(sections, section{p.title, func() (string, error) {
			measured := kinds
			if p.backs > 0 {
				measured = kinds[:2]
			}
			if p.mirrored {
				argv := []string{tgt}
				measured = []kind{{name: "striped", argv: argv, cols: 4}, {name: "one leg", argv: argv, legs: 1, cols: 4},
					{name: "mirror:2", argv: argv, legs: 2}}
			}
			table, err := measure(ctx, p, measured, runs, d, dir)
			if err == nil && p.after != nil {
				table += p.after(dir, p.works, d)
			}
			return table, err
		}})
	}
	sections = append(sections,
		section{"Idle, with 100 connections open", func() (string, error) { return idleTable(ctx, kinds, dir) }},
		section{"What loopback TCP itself carries here", func() (string, error) { return loopback(d) }})
	for _, p := range parts() {
		if p.profile {
			sections = append(sections, section{"Where vda_tgt's time goes: " + p.title, func() (string, error) {
				return profileTable(ctx, p, kinds[1], dir, d)
			}})
		}
	}
	exact := slices.ContainsFunc(sections, func(s section) bool { return s.title == only })
	for _, s := range sections {
		if exact && s.title != only || !strings.Contains(s.title, only) {
			continue
		}
		text, err := s.make()
		if err != nil {
			return err
		}
		text = fmt.Sprintf("%s\n%s", machine(runs, d), text)
		fmt.Printf("\n## %s\n\n%s", s.title, text)
		if outPath == "" {
			continue
		}
		if err := insert(outPath, s.title, text); err != nil {
			return err
		}
	}
	return nil
}

// section is a headed piece of the report.
type section struct {
	title string
	make  func() (string, error)
}

// insert puts a section between the marks in a document, in place of what an
// earlier run has put there under its title.
func insert(path, title, body string) error {
	const begin, end = "<!-- measured: make bench writes this part -->\n", "<!-- end of the measured part -->"
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), begin)
	measured, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q to put the tables between", path, begin, end)
	}
	heading := "## " + title + "\n"
	body = heading + "\n" + body + "\n"
	before, old, found := strings.Cut(measured, heading)
	if found {
		if _, next, more := strings.Cut(old, "\n## "); more {
			body += "## " + next
		}
	}
	return os.WriteFile(path, []byte(head+begin+before+body+end+tail), 0o644)
}

// measure runs every load of a part on every target in turn, runs times.
func measure(ctx context.Context, p part, kinds []kind, runs int, d time.Duration, dir string) (string, error) {
	results := make([][][]result, len(p.works)) // by work, kind, run
	for i := range results {
		results[i] = make([][]result, len(kinds))
	}
	if p.mirrored {
		if err := inTurn(ctx, p, kinds, runs, d, dir, results); err != nil {
			return "", err
		}
		return table(p, kinds, results), nil
	}
	for round := range runs {
		for k, kd := range kinds {
			if err := onTarget(ctx, p, kd, dir, func(t *plane) error {
				for i, w := range p.works {
					fmt.Fprintf(os.Stderr, "round %d of %d: %s: %v\n", round+1, runs, kd.name, w)
					r, err := load(ctx, t, w, d)
					if err != nil {
						return fmt.Errorf("%s: %v: %w", kd.name, w, err)
					}
					results[i][k] = append(results[i][k], r)
				}
				return nil
			}); err != nil {
				return "", err
			}
		}
	}
	return table(p, kinds, results), nil
}

// inTurn is measure's loop with all targets there at the same time, of which one has
// a load at a time: each load follows on the other targets within seconds, so that
// they share what else the machine does.
func inTurn(ctx context.Context, p part, kinds []kind, runs int, d time.Duration, dir string, results [][][]result) error {
	var targets []*plane
	loads := func() error {
		for round := range runs {
			for i, w := range p.works {
				for k, t := range targets {
					fmt.Fprintf(os.Stderr, "round %d of %d: %s: %v\n", round+1, runs, t.kind.name, w)
					r, err := load(ctx, t, w, d)
					if err != nil {
						return fmt.Errorf("%s: %v: %w", t.kind.name, w, err)
					}
					results[i][k] = append(results[i][k], r)
				}
			}
		}
		return nil
	}
	var start func() error
	start = func() error {
		if len(targets) == len(kinds) {
			return loads()
		}
		return onTarget(ctx, p, kinds[len(targets)], dir, func(t *plane) error {
			targets = append(targets, t)
			return start()
		})
	}
	return start()
}

func onTarget(ctx context.Context, p part, k kind, dir string, f func(*plane) error) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	t, err := startPlane(ctx, dir, k, port)
	if err != nil {
		return err
	}
	defer t.stop()
	for i := range p.backs {
		port, err := freePort()
		if err != nil {
			return err
		}
		b, err := startPlane(ctx, dir, kind{name: fmt.Sprintf("%s back %d", k.name, i), argv: k.argv}, port)
		if err != nil {
			return err
		}
		defer b.stop()
		t.backs = append(t.backs, b)
	}
	if err := p.setup(ctx, t, dir); err != nil {
		return err
	}
	if err := touch(ctx, t.port); err != nil {
		return err
	}
	return f(t)
}

// fill writes a file full of data, so that reads are of blocks on the disk.
func fill(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for range size / len(block) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Sync()
}
