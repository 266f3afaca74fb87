package csi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/daemon/httpd"
)

// Metrics count the calls that a driver has answered, under the names by which the
// sidecars count the calls that they make.
type Metrics struct {
	Registry *prometheus.Registry
	calls    *prometheus.HistogramVec
}

// NewMetrics makes the registry of a driver.
func NewMetrics() *Metrics {
	m := &Metrics{Registry: httpd.NewRegistry("csi"), calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "csi_plugin_operations_seconds",
		Help:    "How long calls took that the driver has answered, by method and gRPC code.",
		Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600},
	}, []string{"driver_name", "method_name", "grpc_status_code"})}
	m.Registry.MustRegister(m.calls)
	return m
}

// ofNode adds how many volumes of a node are not well, by what is wrong with them.
func (m *Metrics) ofNode(n *node.Node) {
	for _, reason := range node.Ailments {
		m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "csi_plugin_unwell_volumes",
			Help:        "Volumes of this node with which something is wrong, by the reason that volume health has.",
			ConstLabels: prometheus.Labels{"driver_name": volume.Driver, "reason": reason},
		}, func() float64 { return float64(n.Unwell(reason)) }))
	}
}

func (m *Metrics) count(method string, code codes.Code, took time.Duration) {
	m.calls.WithLabelValues(volume.Driver, method, code.String()).Observe(took.Seconds())
}
