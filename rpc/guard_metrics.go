package rpc

import "github.com/prometheus/client_golang/prometheus"

var (
	connectionsDesc = prometheus.NewDesc("vda_server_connections_limited_total",
		"Connections given up at a limit, by what was done: closed (an idle one, to make room), refused, failed (could not be accepted), "+
			"unread (closed, as its client did not take replies).",
		[]string{"action"}, nil)
	callsDesc = prometheus.NewDesc("vda_server_calls_refused_total",
		"Calls answered with RESOURCE_EXHAUSTED as too many were under way.", nil, nil)
	refusedDesc = prometheus.NewDesc("vda_server_requests_refused_total",
		"Requests answered with RESOURCE_EXHAUSTED, by why: length (longer than the limit), memory (others took all of it).",
		[]string{"reason"}, nil)
	bytesDesc = prometheus.NewDesc("vda_server_request_memory_bytes",
		"Memory that requests take which are being received, or that handlers have.", nil, nil)
	bytesLimitDesc = prometheus.NewDesc("vda_server_request_memory_limit_bytes",
		"Memory that requests may take.", nil, nil)
	repliesDesc = prometheus.NewDesc("vda_server_reply_memory_bytes",
		"Memory that replies take which clients have not taken yet.", nil, nil)
	repliesLimitDesc = prometheus.NewDesc("vda_server_reply_memory_limit_bytes",
		"Memory that replies may take which clients have not taken yet.", nil, nil)
)

// collector shows a guard's counts.
type collector struct{ g *guard }

// Collector shows how often limits were met.
func (g *guard) Collector() prometheus.Collector { return collector{g} }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectionsDesc
	ch <- callsDesc
	ch <- refusedDesc
	ch <- bytesDesc
	ch <- bytesLimitDesc
	ch <- repliesDesc
	ch <- repliesLimitDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	n := c.g.Counts()
	for action, count := range map[string]uint64{"closed": n.ClosedConns, "refused": n.RefusedConns, "failed": n.FailedAccept,
		"unread": n.UnreadConns} {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.CounterValue, float64(count), action)
	}
	ch <- prometheus.MustNewConstMetric(callsDesc, prometheus.CounterValue, float64(n.RefusedCalls))
	ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n.LongMessages), "length")
	ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n.NoMemory), "memory")
	used, _ := c.g.budget.bytes()
	ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(used))
	ch <- prometheus.MustNewConstMetric(bytesLimitDesc, prometheus.GaugeValue, float64(c.g.limits.Memory))
	held, _ := c.g.replies.bytes()
	ch <- prometheus.MustNewConstMetric(repliesDesc, prometheus.GaugeValue, float64(held))
	ch <- prometheus.MustNewConstMetric(repliesLimitDesc, prometheus.GaugeValue, float64(c.g.limits.Replies))
}
