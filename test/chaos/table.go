//go:build e2e

package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// outcome is what the host saw of one fault.
type outcome struct {
	kind  string
	pause time.Duration // the longest I/O under way between the fault and the next one
	whole time.Duration // from the end of the fault until all paths were back
	bad   bool
}

// table shows outcomes by kind.
func table(all []outcome) string {
	byKind := map[string][]outcome{}
	for _, o := range all {
		byKind[o.kind] = append(byKind[o.kind], o)
	}
	var b strings.Builder
	line := func(kind string, os []outcome) {
		var pauses, wholes []time.Duration
		bad := 0
		for _, o := range os {
			pauses, wholes = append(pauses, o.pause), append(wholes, o.whole)
			if o.bad {
				bad++
			}
		}
		fmt.Fprintf(&b, "%-36s %5d  %8s %8s %8s   %8s %8s %6d\n", kind, len(os), ms(quantile(pauses, 50)), ms(quantile(pauses, 99)), ms(quantile(pauses, 100)),
			ms(quantile(wholes, 50)), ms(quantile(wholes, 100)), bad)
	}
	fmt.Fprintf(&b, "%-36s %5s  %26s   %17s %6s\n", "", "", "longest I/O, seconds", "all paths back, s", "")
	fmt.Fprintf(&b, "%-36s %5s  %8s %8s %8s   %8s %8s %6s\n", "fault", "count", "p50", "p99", "max", "p50", "max", "failed")
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		line(kind, byKind[kind])
	}
	if len(all) > 0 {
		line("all", all)
	}
	return b.String()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// quantile returns the least value that percent of all don't exceed.
func quantile(ds []time.Duration, percent int) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[max((len(ds)*percent+99)/100-1, 0)]
}
