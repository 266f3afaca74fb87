package rpc

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count a server's calls. The labels are bounded: methods are those
// that the server has.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	healthy prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vda_server_calls_total",
			Help: "Calls that ended, by method (package.Service/Method) and gRPC status code (OK, NotFound ...)."}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vda_server_call_duration_seconds",
			Help: "Time calls took, streams aside, by method.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"method"}),
		healthy: prometheus.NewGauge(prometheus.GaugeOpts{Name: "vda_server_healthy",
			Help: "1 while the services of the program can do their work, as its health service says; 0 otherwise."}),
	}
	for _, c := range []prometheus.Collector{m.calls, m.seconds, m.healthy} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
