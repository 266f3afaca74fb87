package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/daemon/httpd"
)

// metrics are those of one monitor, in a registry of its own.
type metrics struct {
	registry    *prometheus.Registry
	beats       *prometheus.CounterVec
	beatSeconds *prometheus.HistogramVec
	syncs       *prometheus.CounterVec
	failovers   *prometheus.CounterVec
	storeErrors prometheus.Counter
	heldUp      prometheus.Counter
}

func newMetrics(m *Monitor) *metrics {
	x := &metrics{
		registry: httpd.NewRegistry("vda_monitor"),
		beats: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vda_monitor_heartbeats_total",
			Help: "Heartbeats by kind of node (dn, cn) and result (ok, error, missed, refused)."}, []string{"kind", "result"}),
		beatSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vda_monitor_heartbeat_seconds",
			Help: "Time a heartbeat took, also when it got no answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"kind"}),
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vda_monitor_syncs_total",
			Help: "Syncs by kind of node, scope (full, delta) and result (ok, error)."}, []string{"kind", "scope", "result"}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vda_monitor_failovers_total",
			Help: "Arrays whose primary was moved off a node that was down, by result (ok, error)."}, []string{"result"}),
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "vda_monitor_database_errors_total",
			Help: "Transactions that failed."}),
		heldUp: prometheus.NewCounter(prometheus.CounterOpts{Name: "vda_monitor_held_up_seconds_total",
			Help: "Time in which the monitor could not run when it had to; nodes are not taken for dead for it."}),
	}
	x.registry.MustRegister(x.beats, x.beatSeconds, x.syncs, x.failovers, x.storeErrors, x.heldUp, &nodeCollector{m})
	if m.cfg.Events != nil {
		x.registry.MustRegister(m.cfg.Events)
	}
	return x
}

func (m *metrics) beat(k vda.NodeKind, b Beat, took time.Duration) {
	result := "ok"
	switch {
	case b.Refused:
		result = "refused"
	case !b.Answered:
		result = "missed"
	case b.Reason != "":
		result = "error"
	}
	m.beats.WithLabelValues(string(k), result).Inc()
	m.beatSeconds.WithLabelValues(string(k)).Observe(took.Seconds())
}

func (m *metrics) held(d time.Duration) { m.heldUp.Add(d.Seconds()) }

func (m *metrics) sync(k vda.NodeKind, full bool, err error) {
	scope, result := "delta", "ok"
	if full {
		scope = "full"
	}
	if err != nil {
		result = "error"
	}
	m.syncs.WithLabelValues(string(k), scope, result).Inc()
}

// nodeCollector shows the nodes as they are when it is asked.
type nodeCollector struct{ m *Monitor }

var (
	upDesc = prometheus.NewDesc("vda_node_up", "1 when the node's agent and data plane answer, 0 when it is down.",
		[]string{"kind", "node"}, nil)
	freshDesc = prometheus.NewDesc("vda_monitor_ready", "1 when the monitor's picture of the cluster is fresh enough to act upon.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- upDesc
	ch <- freshDesc
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for _, n := range c.m.nodes {
		if up, down := n.state(); up || down {
			ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, gauge(up), string(n.kind), n.at.Name)
		}
	}
	ch <- prometheus.MustNewConstMetric(freshDesc, prometheus.GaugeValue, gauge(c.m.Ready()))
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
