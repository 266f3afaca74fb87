package daemon

import "github.com/prometheus/client_golang/prometheus"

var (
	connectionsDesc = prometheus.NewDesc("vda_server_connections_limited_total",
		"Connections given up at a limit, by what was done: closed (an idle one, to make room), refused, failed (could not be accepted).", []string{"action"}, nil)
	callsDesc = prometheus.NewDesc("vda_server_calls_refused_total",
		"Calls answered with RESOURCE_EXHAUSTED as too many were under way.", nil, nil)
	linesDesc = prometheus.NewDesc("vda_log_lines_dropped_total",
		"Log lines that standard error did not take.", nil, nil)
)

// collector shows a guard's counts, and the log lines that were dropped.
type collector struct{ g *Guard }

// Collector shows how often limits were met, and how many log lines the
// process has dropped.
func (g *Guard) Collector() prometheus.Collector { return collector{g} }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectionsDesc
	ch <- callsDesc
	ch <- linesDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	n := c.g.Counts()
	for action, count := range map[string]uint64{"closed": n.ClosedConns, "refused": n.RefusedConns, "failed": n.FailedAccept} {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.CounterValue, float64(count), action)
	}
	ch <- prometheus.MustNewConstMetric(callsDesc, prometheus.CounterValue, float64(n.RefusedCalls))
	ch <- prometheus.MustNewConstMetric(linesDesc, prometheus.CounterValue, float64(DroppedLines()))
}
