//go:build e2e

package scale

import (
	"fmt"
	"math"
	"strings"
)

// curve draws, as SVG, how many times what it was in the smallest cluster something is in the others: both axes
// are logarithms, so that what grows with the cluster is a straight line upwards, and what does not lies flat.
func curve(all []step) string {
	const width, height, left, bottom, top = 640, 360, 60, 40, 20
	op := func(name string, of func(f figure) float64) func(s *step) float64 {
		return func(s *step) float64 { return of(s.ops[name]) }
	}
	p50 := func(f figure) float64 { return ms(f.p50) }
	lines := []struct {
		name, colour string
		value        func(s *step) float64
	}{
		{"nodes", "#bbbbbb", func(s *step) float64 { return float64(s.nodes) }},
		{"da create: statements", "#1b6ca8", op("da create", func(f figure) float64 { return f.cost.calls })},
		{"da create: bytes of Syncs", "#3fa34d", op("da create", func(f figure) float64 { return f.bytes })},
		{"da create: p50", "#d1495b", op("da create", p50)},
		{"status: p50", "#8d5fd3", op("status", p50)},
		{"a monitor at rest", "#e08e0b", func(s *step) float64 { return s.rest.cores }},
	}
	span := max(math.Log10(float64(all[len(all)-1].nodes)/float64(all[0].nodes)), 0.1)
	x := func(s *step) float64 {
		return left + math.Log10(float64(s.nodes)/float64(all[0].nodes))/span*(width-left-200)
	}
	y := func(ratio float64) float64 {
		up := min(max(math.Log10(max(ratio, 0.01)), -0.5), span) + 0.5
		return height - bottom - up/(span+0.5)*(height-bottom-top)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for times := 1.0; times <= math.Pow(10, span)*1.01; times *= 10 {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#eeeeee"/><text x="%d" y="%.1f" text-anchor="end">%.0f×</text>`+"\n",
			left, width-200, y(times), y(times), left-8, y(times)+4, times)
	}
	for i := range all {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(&all[i]), height-bottom+18, all[i].nodes)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">nodes</text>`+"\n", (left+width-200)/2, height-6)
	for i, l := range lines {
		first := l.value(&all[0])
		var points []string
		for j := range all {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(&all[j]), y(l.value(&all[j])/first)))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), l.colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", width-185, top+12+18*i, l.colour, l.name)
	}
	return b.String() + "</svg>\n"
}
