package httpd

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/program"
)

// NewRegistry returns a program's registry with what all programs have: the
// build, Go's and the process's own metrics, and the log lines that were lost.
func NewRegistry(component string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vda_build_info",
		Help:        "1, with the program and its version as labels.",
		ConstLabels: prometheus.Labels{"component": component, "version": program.Version()}})
	build.Set(1)
	lines := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "vda_log_lines_dropped_total",
		Help: "Log lines that standard error did not take."}, func() float64 { return float64(daemon.DroppedLines()) })
	r.MustRegister(build, lines, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
