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
		Bad                 bool
	}
	enc := json.NewEncoder(f)
	for _, o := range all {
		if err := enc.Encode(line{o.kind, o.pause, o.whole, o.stall, o.bad}); err != nil {
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
		sum = append(sum, outcome{l.Kind, l.Pause, l.Whole, l.Stall, l.Bad})
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
	return b.String()
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
