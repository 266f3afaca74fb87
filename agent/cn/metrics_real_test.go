package cn_test

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/daemon/httpd/metricsdoc"
)

// scraped is a page of metrics.
type scraped string

func scrape(t *testing.T, c prometheus.Collector) scraped {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	w := httptest.NewRecorder()
	httpd.Handler(httpd.Config{Registry: r}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("/metrics: %d, %s", w.Code, w.Body)
	}
	return scraped(w.Body.String())
}

// value is that of one series, -1 when there is none.
func (s scraped) value(t *testing.T, series string, args ...any) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(fmt.Sprintf(series, args...)) + ` (\S+)$`).FindStringSubmatch(string(s))
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRealMetrics: what a host writes and reads is shown by the agents of all nodes that it
// goes through, to the operation and the byte: of the array and of the exporter's path at the
// primary, of the path only at the secondary, and of the disks.
func TestRealMetrics(t *testing.T) { planes(t, realMetrics) }

func realMetrics(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.leased() // an array that is put up again counts from 0
	l.up(0)
	l.spec.Create = false
	cn := func(i int) scraped { return scrape(t, agent.NewMeter("cn", l.cns[i].a.Plane, l.cns[i].a.Measured)) }
	da, exp := l.cntlr(0, 0).DaName, l.spec.Exps[0].Name
	before := cn(0)
	const n, bytes = 7, 64 << 10
	for i := range 2 { // through both paths
		ns := l.disk(i)
		for k := range n {
			if err := ns.WriteAt(t.Context(), make([]byte, bytes), int64(k)*bytes); err != nil {
				t.Fatal(err)
			}
		}
		if err := ns.ReadAt(t.Context(), make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
	}
	after, second := cn(0), cn(1)
	grew := func(series string, want float64) {
		t.Helper()
		a, b := after.value(t, "%s", series), before.value(t, "%s", series)
		if a < 0 || b < 0 || a-b != want {
			t.Errorf("%s went from %v to %v, want %v more", series, b, a, want)
		}
	}
	array, path := fmt.Sprintf(`{da=%q}`, da), fmt.Sprintf(`{da=%q,exp=%q}`, da, exp)
	grew("vda_da_writes_completed_total"+array, 2*n)
	grew("vda_da_written_bytes_total"+array, 2*n*bytes)
	grew("vda_path_writes_completed_total"+path, 2*n)
	grew("vda_path_written_bytes_total"+path, 2*n*bytes)
	if v := after.value(t, "vda_da_read_bytes_total"+"%s", array) - before.value(t, "vda_da_read_bytes_total"+"%s", array); v < 2*4096 {
		t.Errorf("two reads of 4096 bytes: %v were read", v)
	}
	for _, s := range []scraped{after, second} {
		if v := s.value(t, "vda_path_write_seconds_total"+"%s", path); v <= 0 || v > 3600 {
			t.Errorf("writes through a path took %v s", v)
		}
		if v := s.value(t, "vda_agent_data_plane_counted"); v != 1 {
			t.Errorf("vda_agent_data_plane_counted %v", v)
		}
		if v := s.value(t, "vda_host_connections{da=%q,exp=%q,host=%q}", da, exp, host0); v != 1 {
			t.Errorf("%v controllers of the host", v)
		}
	}
	if v := second.value(t, "vda_path_writes_completed_total"+"%s", path); v != n {
		t.Errorf("%v writes through the secondary's path, want %d", v, n)
	}
	if strings.Contains(string(second), "vda_da_writes") {
		t.Error("a secondary shows the array's I/O too")
	}
	for i, want := range []string{"optimized", l.cns[1].a.Plane.Driver().ProxyState()} {
		if v := []scraped{after, second}[i].value(t, "vda_path_state{da=%q,exp=%q,state=%q}", da, exp, want); v != 1 {
			t.Errorf("the path on cn%d is not %s", i, want)
		}
	}
	if !spdkCN {
		// A write whose end is seen in the pass that sent it, as on a busy machine, is counted by
		// latency with the next that is timed, one in 61.
		count := fmt.Sprintf(`vda_da_io_duration_seconds_count{da=%q,op="write"}`, da)
		byLatency := func() (of, ofPath, writes float64) {
			s := cn(0)
			return s.value(t, "%s", count) - before.value(t, "%s", count),
				s.value(t, `vda_path_io_duration_seconds_bucket{da=%q,exp=%q,op="write",le="+Inf"}`, da, exp),
				s.value(t, "vda_da_writes_completed_total"+"%s", array) - before.value(t, "vda_da_writes_completed_total"+"%s", array)
		}
		of, ofPath, writes := byLatency()
		ns := l.disk(0)
		for range 2 * 61 {
			if of > writes || of >= 2*n && ofPath >= 2*n {
				break
			}
			if err := ns.WriteAt(t.Context(), make([]byte, bytes), 0); err != nil {
				t.Fatal(err)
			}
			of, ofPath, writes = byLatency()
		}
		if of < 2*n || ofPath < 2*n || of > writes {
			t.Errorf("of %v writes, %v are counted by latency, and %v of the path", writes, of, ofPath)
		}
		metricsdoc.Check(t, "../../docs/metrics.md", "cn agent", string(after))
	}
	wrote := 0.0
	var disks []scraped
	for _, d := range l.dns {
		s := scrape(t, agent.NewMeter("dn", d.a.Plane, d.a.Measured))
		for _, m := range d.a.Measured() {
			wrote += s.value(t, "vda_pd_written_bytes_total{pd=%q}", m.Labels[0])
		}
		disks = append(disks, s)
	}
	if wrote < 2*n*bytes {
		t.Errorf("%v bytes were written to disks, the host wrote %d", wrote, 2*n*bytes)
	}
	if !spdkDN {
		metricsdoc.Check(t, "../../docs/metrics.md", "dn agent", string(disks[0]))
	}
}

// TestMetricsWithoutADataPlane: a scrape says so, and what is known without it.
func TestMetricsWithoutADataPlane(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		l.up(0)
		s := scrape(t, agent.NewMeter("cn", l.cns[0].a.Plane, l.cns[0].a.Measured))
		da, exp := l.cntlr(0, 0).DaName, l.spec.Exps[0].Name
		if v := s.value(t, "vda_path_state{da=%q,exp=%q,state=\"optimized\"}", da, exp); v != 1 {
			t.Errorf("the path's state is not shown: %s", s)
		}
		l.cns[0].plane.SetHook(func(string, map[string]any) error { return planetest.Refuse(5) })
		s = scrape(t, agent.NewMeter("cn", l.cns[0].a.Plane, l.cns[0].a.Measured))
		if v := s.value(t, "vda_agent_data_plane_counted"); v != 0 {
			t.Errorf("vda_agent_data_plane_counted %v", v)
		}
	})
}

// TestMetricsAreBounded: 1000 of a kind are listed, and each name once.
func TestMetricsAreBounded(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		s := scrape(t, agent.NewMeter("cn", l.cns[0].a.Plane, func() (all []agent.Measured) {
			for i := range 1500 {
				all = append(all, agent.Measured{Kind: agent.MeasuredPath, NQN: fmt.Sprint("nqn", i), Labels: []string{"da", fmt.Sprint("e", i)},
					State: "optimized"})
			}
			return append(all, slices.Clone(all)...)
		}))
		if n := strings.Count(string(s), "\nvda_path_state{"); n != 1000 {
			t.Errorf("%d paths are listed, want 1000", n)
		}
		if v := s.value(t, "vda_agent_unlisted"); v != 500 {
			t.Errorf("%v are not listed, want 500", v)
		}
	})
}
