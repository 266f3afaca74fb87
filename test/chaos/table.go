//go:build e2e

package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// outcome is what the host saw of one fault.
type outcome struct {
	kind  string
	pause time.Duration // the longest I/O under way between the fault and the next one
	whole time.Duration // from the end of the fault until all paths were back
	stall time.Duration // of the pause, the machine's own: the host got no processor
	load  float64       // of the machine when it was over, as the kernel counts: ready or waiting for a disk
	bad   bool
}

// gather appends outcomes to the file that RESULTS names, one JSON object a
// line, and returns all that are in it: several runs make one table.
func gather(path string, all []outcome) ([]outcome, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type line struct {
		Kind                string
		Pause, Whole, Stall time.Duration
		Load                float64
		Bad                 bool
	}
	enc := json.NewEncoder(f)
	for _, o := range all {
		if err := enc.Encode(line{o.kind, o.pause, o.whole, o.stall, o.load, o.bad}); err != nil {
			return nil, err
		}
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	var sum []outcome
	for dec := json.NewDecoder(f); ; {
		var l line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return sum, nil
		} else if err != nil {
			return nil, err
		}
		sum = append(sum, outcome{l.Kind, l.Pause, l.Whole, l.Stall, l.Load, l.Bad})
	}
}

// table shows outcomes by kind.
func table(all []outcome) string {
	byKind := map[string][]outcome{}
	for _, o := range all {
		byKind[o.kind] = append(byKind[o.kind], o)
	}
	var b strings.Builder
	line := func(kind string, os []outcome) {
		var pauses, wholes, stalls []time.Duration
		bad := 0
		for _, o := range os {
			stalls = append(stalls, o.stall)
			pauses, wholes = append(pauses, o.pause), append(wholes, o.whole)
			if o.bad {
				bad++
			}
		}
		fmt.Fprintf(&b, "%-36s %5d  %8s %8s %8s   %8s %8s %10s %6d\n", kind, len(os), ms(quantile(pauses, 50)), ms(quantile(pauses, 99)),
			ms(quantile(pauses, 100)),
			ms(quantile(wholes, 50)), ms(quantile(wholes, 100)), ms(quantile(stalls, 100)), bad)
	}
	fmt.Fprintf(&b, "%-36s %5s  %26s   %17s %10s %6s\n", "", "", "longest I/O, seconds", "all paths back, s", "machine", "")
	fmt.Fprintf(&b, "%-36s %5s  %8s %8s %8s   %8s %8s %10s %6s\n", "fault", "count", "p50", "p99", "max", "p50",
		"max", "stood still", "failed")
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		line(kind, byKind[kind])
	}
	if len(all) > 0 {
		line("all", all)
	}
	b.WriteString(histogram(all))
	b.WriteString(diskNodes(all))
	return b.String()
}

// losses are the ways of losing a disk node for which there is a goal, see isLoss.
var losses = []struct {
	name  string
	kinds []string
	goal  time.Duration
}{
	{"killed", []string{"kill dn's data plane", "kill dn's node", "dn's node is down"}, time.Second},
	{"hung", []string{"hang dn's data plane", "hang dn's node"}, 4 * time.Second},
	{"cut off", []string{"cut a dn off from all"}, 4 * time.Second},
	{"hung or cut off", []string{"hang dn's data plane", "hang dn's node", "cut a dn off from all"}, 4 * time.Second},
}

// isLoss reports whether a kind of fault is one of losses.
func isLoss(kind string) bool {
	for _, l := range losses {
		if slices.Contains(l.kinds, kind) {
			return true
		}
	}
	return false
}

// fewest is how many samples a p99 takes: with fewer it is the longest.
const fewest = 100

// diskNodes shows what hosts of a mirrored array saw of the loss of a disk node, all kinds
// of a way together, beside the goal and what else the machine had to do.
func diskNodes(all []outcome) string {
	var b strings.Builder
	for _, l := range losses {
		var pauses []time.Duration
		var loads []float64
		for _, o := range all {
			if slices.Contains(l.kinds, o.kind) {
				pauses, loads = append(pauses, o.pause), append(loads, o.load)
			}
		}
		if len(pauses) == 0 {
			continue
		}
		p99 := quantile(pauses, 99)
		said := "met"
		switch {
		case p99 >= l.goal:
			said = "missed"
		case len(pauses) < fewest:
			said = fmt.Sprintf("so far: a p99 takes %d", fewest)
		}
		over := 0
		for _, p := range pauses {
			if p >= l.goal {
				over++
			}
		}
		slices.Sort(loads)
		fmt.Fprintf(&b, "disk node %-15s %4d samples: longest I/O p50 %s, p99 %s, max %s s, %d not below %s; goal p99 < %s s: %s; "+
			"load %.1f, %.1f to %.1f\n", l.name, len(pauses), ms(quantile(pauses, 50)), ms(p99), ms(quantile(pauses, 100)), over, ms(l.goal),
			ms(l.goal), said, loads[len(loads)/2], loads[0], loads[len(loads)-1])
	}
	return b.String()
}

// machineLoad is the load average of the last minute, 0 when the kernel does not say.
func machineLoad() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	_, _ = fmt.Sscan(string(text), &load)
	return load
}

// steps are the upper ends of the histogram's bars.
var steps = []time.Duration{40 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2 * time.Second, 3 * time.Second, 4 * time.Second, 6 * time.Second, 10 * time.Second, time.Hour}

// histogram shows how many faults had how long a pause, by what was done to
// the primary.
func histogram(all []outcome) string {
	groups := []struct{ name, prefix string }{{"killed", "kill primary's"}, {"hung", "hang primary's"}, {"cut off", "cut primary's cn"},
		{"planned", "planned"}, {"all", ""}}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-14s", "longest I/O <")
	for _, g := range groups {
		fmt.Fprintf(&b, "%9s", g.name)
	}
	for i, to := range steps {
		from := time.Duration(-1)
		if i > 0 {
			from = steps[i-1]
		}
		label := ms(to)
		if to == time.Hour {
			label = "longer"
		}
		fmt.Fprintf(&b, "\n%-14s", label)
		for _, g := range groups {
			n := 0
			for _, o := range all {
				if o.pause > from && o.pause <= to && strings.HasPrefix(o.kind, g.prefix) {
					n++
				}
			}
			fmt.Fprintf(&b, "%9d", n)
		}
	}
	return b.String() + "\n"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// quantile returns the least value that percent of all do not exceed.
func quantile(ds []time.Duration, percent int) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[max((len(ds)*percent+99)/100-1, 0)]
}
