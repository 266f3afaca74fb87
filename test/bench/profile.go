package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// places are what a profile's samples are counted by: the first whose pattern
// is found among a sample's functions, from the innermost on.
var places = []struct {
	name    string
	pattern *regexp.Regexp
	leaf    bool // in the innermost function only
}{
	{"copies", regexp.MustCompile(`^runtime\.(memmove|memclr)`), true},
	{"CRC32C", regexp.MustCompile(`^hash/crc32\.|/vda/nvme\.UpdateDigest`), true},
	{"receiving", regexp.MustCompile(`\.(recvInto|recvVec)$`), false},
	{"sending", regexp.MustCompile(`\.sendVec$`), false},
	{"submitting to the file", regexp.MustCompile(`aio\.\(\*ring\)\.submit$`), false},
	{"scheduler and sleeping", regexp.MustCompile(`^runtime\.(mcall|schedule|findRunnable|netpoll|gopark|goready|systemstack|mstart|goschedImpl|sysmon|semasleep|morestack|gcBgMarkWorker|bgsweep)|^internal/runtime/syscall\.`), false},
}

// profileTable runs each load of a part once more on a vda_tgt that records
// its processor time, and says where that went.
func profileTable(ctx context.Context, p part, k kind, dir string, d time.Duration) (string, error) {
	var b strings.Builder
	b.WriteString("| load |")
	for _, pl := range places {
		fmt.Fprintf(&b, " %s |", pl.name)
	}
	b.WriteString(" the rest | allocations a command |\n|---|" + strings.Repeat("---|", len(places)+2) + "\n")
	file := filepath.Join(dir, "profile")
	k = kind{name: k.name, legs: k.legs, argv: append(slices.Clone(k.argv), "--cpu-profile", file)}
	idle, err := recorded(ctx, p, k, dir, file, func(*plane) error { return nil })
	if err != nil {
		return "", err
	}
	for _, w := range p.works {
		var commands float64
		allocs, err := recorded(ctx, p, k, dir, file, func(t *plane) error {
			r, err := load(ctx, t, w, d)
			commands = r.iops * d.Seconds()
			return err
		})
		if err != nil {
			return "", err
		}
		shares, err := readProfile(ctx, file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "| %v |", w)
		for _, s := range shares {
			fmt.Fprintf(&b, " %.0f %% |", 100*s)
		}
		fmt.Fprintf(&b, " %.4f |\n", max(0, allocs-idle)/commands)
	}
	return b.String(), nil
}

// recorded runs f on a target that records into file, and returns how many
// objects the target has allocated from start to end.
func recorded(ctx context.Context, p part, k kind, dir, file string, f func(*plane) error) (allocs float64, err error) {
	if err := onTarget(ctx, p, k, dir, f); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(file + ".allocs")
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
}

// readProfile returns the share of the samples of each of places, and of the
// rest.
func readProfile(ctx context.Context, file string) ([]float64, error) {
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", file).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof %s: %w", file, err)
	}
	return shares(string(out))
}

// shares reads the output of pprof -traces: samples between dashed lines, the
// time and the innermost function on the first line, a caller on each further
// one.
func shares(text string) ([]float64, error) {
	sums := make([]float64, len(places)+1)
	total := 0.0
	for _, sample := range strings.Split(text, "-----------+-------------------------------------------------------\n")[1:] {
		lines := strings.Split(strings.TrimRight(sample, "\n"), "\n")
		first := strings.Fields(lines[0])
		if len(first) < 2 {
			continue
		}
		t, err := time.ParseDuration(first[0])
		if err != nil {
			continue // a label
		}
		stack := []string{first[1]}
		for _, l := range lines[1:] {
			stack = append(stack, strings.TrimSuffix(strings.TrimSpace(l), " (inline)"))
		}
		sums[place(stack)] += t.Seconds()
		total += t.Seconds()
	}
	if total == 0 {
		return nil, fmt.Errorf("the profile has no samples:\n%s", text)
	}
	for i := range sums {
		sums[i] /= total
	}
	return sums, nil
}

func place(stack []string) int {
	for i, p := range places {
		search := stack
		if p.leaf {
			search = stack[:1]
		}
		for _, f := range search {
			if p.pattern.MatchString(f) {
				return i
			}
		}
	}
	return len(places)
}
