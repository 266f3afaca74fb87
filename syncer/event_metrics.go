package syncer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/virtual-disk-array/vda"
)

// EventMetrics count the events that a program has recorded, and how long what they end
// took. Each event is counted by one program, so the sum over all portals and monitors is
// the cluster's. It is a prometheus.Collector; safe for concurrent use.
type EventMetrics struct {
	events    *prometheus.CounterVec
	failovers prometheus.Histogram
	rebuilds  prometheus.Histogram
}

// NewEventMetrics makes them; Count is for store.OnEvent.
func NewEventMetrics() *EventMetrics {
	m := &EventMetrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vda_events_total",
			Help: "Events that this program has recorded, by kind; docs/events.md has the kinds."}, []string{"kind"}),
		failovers: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vda_failover_duration_seconds",
			Help:    "Time from the decision that an array gets another primary until that served, of failovers that this program saw end.",
			Buckets: []float64{.05, .1, .2, .5, 1, 2, 3, 5, 10, 20, 30, 60, 300}}),
		rebuilds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vda_rebuild_duration_seconds",
			Help:    "Time from when a leg of a mirror was let in until it had all data, of those that this program saw end.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 9)}),
	}
	for _, k := range vda.EventKinds { // a rate begins at 0, not at the first event
		m.events.WithLabelValues(string(k.Kind))
	}
	return m
}

// Count counts an event that has been recorded.
func (m *EventMetrics) Count(e vda.Event) {
	m.events.WithLabelValues(string(e.Kind)).Inc()
	switch e.Kind {
	case vda.EventFailoverEnd:
		m.failovers.Observe(e.Took.Seconds())
	case vda.EventRebuildEnd:
		m.rebuilds.Observe(e.Took.Seconds())
	}
}

// Describe implements prometheus.Collector.
func (m *EventMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.events, m.failovers, m.rebuilds} {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *EventMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.events, m.failovers, m.rebuilds} {
		c.Collect(ch)
	}
}
