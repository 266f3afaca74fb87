package vdatgt

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/daemon/httpd"
	"github.com/virtual-disk-array/vda/module/mirror"
)

// maxListed bounds the bdevs that /metrics lists, so that neither a scrape nor
// a Prometheus grows without bound. vda_bdevs counts all.
const maxListed = 1000

// desc describes a metric of the data plane.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	bdevsDesc = desc("vda_bdevs", "Block devices there are. Above 1000 only the first 1000 are listed in the metrics of single ones.")
	opsDesc   = desc("vda_bdev_operations_total", "Operations that succeeded, by bdev and operation (read, write, unmap ...).", "bdev", "op")
	bytesDesc = desc("vda_bdev_bytes_total", "Bytes of operations that succeeded, by bdev and operation.", "bdev", "op")
	timeDesc  = desc("vda_bdev_operation_seconds_total",
		"Sum of the time that operations took which succeeded, by bdev and operation.", "bdev", "op")
	errorsDesc = desc("vda_bdev_errors_total",
		"Operations that failed, by bdev and reason: medium (the disk cannot read or write), no_space, other (paths, invalid or refused).",
		"bdev", "reason")
	throttledDesc = desc("vda_bdev_throttled_seconds_total",
		"Seconds in which reads or writes waited for a limit of the bdev (bdev_set_qos_limit); only of bdevs that were throttled.", "bdev")

	subsystemsDesc  = desc("vda_nvmf_subsystems", "NVMe subsystems that are exported, that of discovery aside.")
	qpairsDesc      = desc("vda_nvmf_qpairs", "Connections of hosts that have sent their Connect, by kind of queue (admin, io).", "kind")
	connectsDesc    = desc("vda_nvmf_connects_total", "Connect commands that hosts got accepted, by kind of queue (admin, io).", "kind")
	completedDesc   = desc("vda_nvmf_commands_total", "I/O commands of hosts that were completed, also with an error.")
	pendingDesc     = desc("vda_nvmf_commands_pending", "I/O commands of hosts that are under way.")
	rejectedDesc    = desc("vda_nvmf_connections_rejected_total", "Connections that were refused, or ended by a fault of the host.")
	limitsDesc      = desc("vda_nvmf_limits_met_total", "Times that a limit of connections or open files was met.")
	panicsDesc      = desc("vda_nvmf_panics_total", "Connections that a fault of vda_tgt has ended.")
	rpcLimitsDesc   = desc("vda_rpc_limits_met_total", "Times that a client of the JSON-RPC socket met a limit.")
	bufferLimitDesc = desc("vda_buffer_memory_limit_bytes", "Memory that the data of I/O under way may take (--buffer-memory).")
	bufferFreeDesc  = desc("vda_buffer_memory_free_bytes", "Memory of that which is neither in use nor reserved.")

	mirrorLegsDesc = desc("vda_mirror_legs",
		"Legs of mirrors, by role (member, target, joining, absent), and those that I/O waits for (lost).", "role")
	mirrorLackDesc    = desc("vda_mirror_lack_bytes", "Bytes that targets of mirrors still lack.")
	mirrorRepairDesc  = desc("vda_mirror_repair_bytes", "Bytes in which members may differ after an unclean end, until they are repaired.")
	mirrorWaitingDesc = desc("vda_mirror_waiting", "Mirrors that serve no I/O: they wait for a lost leg, or for labels.")
	mirrorCopiedDesc  = desc("vda_mirror_copied_bytes_total", "Bytes that mirrors have copied, repaired or scrubbed.")
	mirrorDropsDesc   = desc("vda_mirror_drops_total",
		"Members that were dropped, by why they were lost (media, path, removed, rolled_back, other; asked: they were not).", "why")
	mirrorJoinsDesc  = desc("vda_mirror_joins_total", "Targets that have become members.")
	mirrorHeldDesc   = desc("vda_mirror_held_seconds_total", "Seconds in which I/O of hosts waited for a leg or for labels, of all mirrors.")
	mirrorIntentDesc = desc("vda_mirror_intent_writes_total", "Pages of write-intent maps that were written to legs.")
	mirrorScrubDesc  = desc("vda_mirror_scrub_mismatches_total", "Blocks of 4096 bytes that scrubs have found to differ between members.")

	allDescs = []*prometheus.Desc{bdevsDesc, opsDesc, bytesDesc, timeDesc, errorsDesc,
		throttledDesc, subsystemsDesc, qpairsDesc, connectsDesc, completedDesc, pendingDesc, rejectedDesc, limitsDesc, panicsDesc, rpcLimitsDesc,
		bufferLimitDesc, bufferFreeDesc, mirrorLegsDesc, mirrorLackDesc, mirrorRepairDesc, mirrorWaitingDesc, mirrorCopiedDesc,
		mirrorDropsDesc, mirrorJoinsDesc, mirrorHeldDesc, mirrorIntentDesc, mirrorScrubDesc}
)

// collector shows what the target's registries count, as they are when asked.
type collector struct{ t *Target }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	devices := c.t.reg.List()
	gauge(bdevsDesc, float64(len(devices)))
	for _, d := range devices[:min(len(devices), maxListed)] {
		name := d.Info().Name
		if s, err := c.t.reg.IOStat(name); err == nil { // else it went after it was listed
			bdevMetrics(ch, strings.ToValidUTF8(name, "�"), &s)
		}
	}
	s := c.t.nvmf.Stats()
	exported := 0
	for _, sub := range c.t.nvmf.Subsystems() {
		if !sub.IsDiscovery() {
			exported++
		}
	}
	gauge(subsystemsDesc, float64(exported))
	gauge(qpairsDesc, float64(s.CurrentAdminQpairs), "admin")
	gauge(qpairsDesc, float64(s.CurrentIOQpairs), "io")
	count(connectsDesc, s.AdminQpairs, "admin")
	count(connectsDesc, s.IOQpairs, "io")
	count(completedDesc, s.CompletedIO)
	gauge(pendingDesc, float64(s.PendingBdevIO))
	count(rejectedDesc, s.Rejected)
	count(limitsDesc, s.Refused)
	count(panicsDesc, s.Panics)
	count(rpcLimitsDesc, c.t.rpcLimitsMet())
	gauge(bufferLimitDesc, float64(c.t.reg.Buffers.Limit()))
	gauge(bufferFreeDesc, float64(c.t.reg.Buffers.Free()))
	m := c.t.mirrors.Stats()
	for role, n := range m.Legs {
		gauge(mirrorLegsDesc, float64(n), role)
	}
	gauge(mirrorLackDesc, float64(m.Lack))
	gauge(mirrorRepairDesc, float64(m.Repair))
	gauge(mirrorWaitingDesc, float64(m.Waiting))
	count(mirrorCopiedDesc, m.Copied)
	for _, why := range mirror.Reasons {
		count(mirrorDropsDesc, m.Drops[why], why)
	}
	count(mirrorJoinsDesc, m.Joins)
	ch <- prometheus.MustNewConstMetric(mirrorHeldDesc, prometheus.CounterValue, m.Held.Seconds())
	count(mirrorIntentDesc, m.IntentWrites)
	count(mirrorScrubDesc, m.Mismatches)
}

// bdevMetrics are those of one bdev: always of reads and writes, and of other
// operations once there were some.
func bdevMetrics(ch chan<- prometheus.Metric, name string, s *bdev.IOStat) {
	for i := range s.Op {
		op, o := bdev.Op(i), &s.Op[i]
		if o.Ops == 0 && op != bdev.OpRead && op != bdev.OpWrite {
			continue
		}
		for _, m := range []struct {
			desc  *prometheus.Desc
			value float64
		}{{opsDesc, float64(o.Ops)}, {bytesDesc, float64(o.Bytes)}, {timeDesc, float64(o.Nanos) / 1e9}} {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, m.value, name, op.String())
		}
	}
	if s.Throttled != 0 {
		ch <- prometheus.MustNewConstMetric(throttledDesc, prometheus.CounterValue, s.Throttled.Seconds(), name)
	}
	other := s.Fails - min(s.Fails, s.MediumErrors+s.NoSpace)
	for reason, n := range map[string]uint64{"medium": s.MediumErrors, "no_space": s.NoSpace, "other": other} {
		ch <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(n), name, reason)
	}
}

// errStartUp is why /healthz says no before the run-time state.
var errStartUp = errors.New("the data plane waits for framework_start_init")

// serveHTTP starts to serve /metrics and /healthz on lis, until ctx ends;
// running counts it. What goes wrong is logged: I/O does not depend on it.
func (t *Target) serveHTTP(ctx context.Context, lis net.Listener, running *sync.WaitGroup) {
	registry := httpd.NewRegistry("vda_tgt")
	registry.MustRegister(collector{t})
	running.Go(func() {
		err := httpd.Serve(ctx, lis, httpd.Config{Registry: registry, Log: t.log, Healthy: func() error {
			if !t.runtime.Load() {
				return errStartUp
			}
			return nil
		}})
		if err != nil {
			t.log.Error("/metrics and /healthz are not served any more", "err", err)
		}
	})
}
