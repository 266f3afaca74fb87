package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/virtual-disk-array/vda/agent/plane"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Measured is something whose I/O /metrics shows: what goes through a bdev, or through the
// subsystem of an exporter.
type Measured struct {
	Kind   MeasuredKind
	Bdev   string // or an alias
	NQN    string // instead of a bdev
	Labels []string

	Hosts []string // of an exporter: who may connect
	State string   // of an exporter: its path's ANA state, "" when unknown
}

// MeasuredKind says what it is, which its labels follow from.
type MeasuredKind int

// The kinds: the volume of an array (da), an exporter's path on this node (da, exp), and a
// disk (pd).
const (
	MeasuredDA MeasuredKind = iota
	MeasuredPath
	MeasuredPD
	measuredKinds
)

const (
	// maxMeasured bounds the objects of a kind that /metrics lists.
	maxMeasured = 1000
	// measureTime is how long a scrape waits for the data plane.
	measureTime = 4 * time.Second
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// ioDescs are the metrics of one kind; durations are of vda_tgt alone.
type ioDescs struct {
	reads, writes, readBytes, writtenBytes, readTime, writeTime, durations, errors, throttled *prometheus.Desc
}

var (
	countedDesc  = desc("vda_agent_data_plane_counted", "1 when the data plane has given its counters for this scrape; else 0.")
	unlistedDesc = desc("vda_agent_unlisted", "Arrays, paths or pds above the 1000 of each whose I/O is shown.")
	stateDesc    = desc("vda_path_state", "1 for the ANA state that an exporter's path on this node was last set to: optimized, "+
		"non_optimized or inaccessible.", "da", "exp", "state")
	hostsDesc = desc("vda_host_connections", "NVMe controllers that a host has connected to an exporter on this node; 0 when its path here "+
		"is not connected.", "da", "exp", "host")

	ioMetrics = [measuredKinds]ioDescs{
		MeasuredDA: {
			desc("vda_da_reads_completed_total", "Reads of an array that succeeded, at its primary.", "da"),
			desc("vda_da_writes_completed_total", "Writes of an array that succeeded, at its primary.", "da"),
			desc("vda_da_read_bytes_total", "Bytes read from an array.", "da"),
			desc("vda_da_written_bytes_total", "Bytes written to an array.", "da"),
			desc("vda_da_read_seconds_total", "Sum of the time that reads of an array took, inside its primary.", "da"),
			desc("vda_da_write_seconds_total", "Sum of the time that writes of an array took, inside its primary.", "da"),
			desc("vda_da_io_duration_seconds", "Time that reads and writes of an array took, inside its primary; vda_tgt only.", "da", "op"),
			desc("vda_da_errors_total", "Requests of an array that failed, at its primary.", "da"),
			desc("vda_da_qos_throttled_seconds_total", "Seconds in which requests waited for a limit of the array (da modify); vda_tgt only.",
				"da"),
		},
		MeasuredPath: {
			desc("vda_path_reads_completed_total", "Reads through an exporter's path on this node that succeeded.", "da", "exp"),
			desc("vda_path_writes_completed_total", "Writes through an exporter's path on this node that succeeded.", "da", "exp"),
			desc("vda_path_read_bytes_total", "Bytes read through an exporter's path on this node.", "da", "exp"),
			desc("vda_path_written_bytes_total", "Bytes written through an exporter's path on this node.", "da", "exp"),
			desc("vda_path_read_seconds_total", "Sum of the time that reads through an exporter's path took on this node and behind it.", "da",
				"exp"),
			desc("vda_path_write_seconds_total", "Sum of the time that writes through an exporter's path took on this node and behind it.", "da",
				"exp"),
			desc("vda_path_io_duration_seconds", "Time that reads and writes through an exporter's path took on this node and behind it; "+
				"vda_tgt only.", "da", "exp", "op"),
			desc("vda_path_errors_total", "Requests through an exporter's path on this node that failed.", "da", "exp"),
			nil, // a limit is the array's
		},
		MeasuredPD: {
			desc("vda_pd_reads_completed_total", "Reads of a pd's disk that succeeded, those of VDA's own among them.", "pd"),
			desc("vda_pd_writes_completed_total", "Writes of a pd's disk that succeeded, those of VDA's own among them.", "pd"),
			desc("vda_pd_read_bytes_total", "Bytes read from a pd's disk.", "pd"),
			desc("vda_pd_written_bytes_total", "Bytes written to a pd's disk.", "pd"),
			desc("vda_pd_read_seconds_total", "Sum of the time that reads of a pd's disk took.", "pd"),
			desc("vda_pd_write_seconds_total", "Sum of the time that writes of a pd's disk took.", "pd"),
			desc("vda_pd_io_duration_seconds", "Time that reads and writes of a pd's disk took; vda_tgt only.", "pd", "op"),
			desc("vda_pd_errors_total", "Requests to a pd's disk that failed.", "pd"),
			nil,
		},
	}
)

// Meter tells the I/O of what a node has. It is a prometheus.Collector. Safe for concurrent use.
type Meter struct {
	plane *Plane
	what  func() []Measured
	kinds []MeasuredKind
	born  time.Time

	mu     sync.Mutex
	flight *counting // under way
}

type counting struct {
	done   chan struct{}
	what   []Measured
	counts *plane.Counts // nil: there was an error
	at     time.Duration // when, since the meter was made
	run    string        // of the data plane
}

// NewMeter shows the I/O of what an agent ("dn" or "cn") has, as its data plane counts it when
// it is scraped.
func NewMeter(kind string, p *Plane, what func() []Measured) *Meter {
	m := &Meter{plane: p, what: what, born: time.Now(), kinds: []MeasuredKind{MeasuredDA, MeasuredPath}}
	if kind == "dn" {
		m.kinds = []MeasuredKind{MeasuredPD}
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Meter) Describe(ch chan<- *prometheus.Desc) {
	ch <- countedDesc
	ch <- unlistedDesc
	for _, k := range m.kinds {
		d := &ioMetrics[k]
		for _, d := range []*prometheus.Desc{d.reads, d.writes, d.readBytes, d.writtenBytes, d.readTime, d.writeTime, d.durations, d.errors,
			d.throttled} {
			if d != nil {
				ch <- d
			}
		}
		if k == MeasuredPath {
			ch <- stateDesc
			ch <- hostsDesc
		}
	}
}

// count asks the data plane, once for all scrapes that wait. A data plane that hangs keeps
// one question, and scrapes go on without its answer.
func (m *Meter) count() *counting {
	m.mu.Lock()
	f := m.flight
	if f == nil {
		f = &counting{done: make(chan struct{})}
		m.flight = f
		m.plane.beyond.Go(func() { m.fly(f) })
	}
	m.mu.Unlock()
	late := time.NewTimer(measureTime + time.Second)
	defer late.Stop()
	select {
	case <-f.done:
		return f
	case <-late.C:
		return &counting{what: m.measured()}
	}
}

// measured is what there is, in order, each name once: a second series of a name would cost
// the whole scrape.
func (m *Meter) measured() []Measured {
	what := m.what()
	slices.SortStableFunc(what, func(a, b Measured) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), slices.Compare(a.Labels, b.Labels))
	})
	return slices.CompactFunc(what, func(a, b Measured) bool { return a.Kind == b.Kind && slices.Equal(a.Labels, b.Labels) })
}

func (m *Meter) fly(f *counting) {
	defer func() {
		m.mu.Lock()
		m.flight = nil
		m.mu.Unlock()
		close(f.done)
	}()
	f.what = m.measured()
	if m.plane.Ready() != nil {
		return
	}
	var bdevs, nqns []string
	for _, w := range f.what {
		if w.NQN != "" {
			nqns = append(nqns, w.NQN)
		} else {
			bdevs = append(bdevs, w.Bdev)
		}
	}
	run := m.plane.Status().StartID
	ctx, cancel := context.WithTimeout(context.Background(), measureTime)
	defer cancel()
	if c, err := m.plane.Driver().Counts(ctx, bdevs, nqns); err == nil {
		f.counts, f.at, f.run = c, time.Since(m.born), run
	} else {
		m.plane.log.Debug("a scrape has no counters of the data plane", "err", err)
	}
}

// Collect implements prometheus.Collector.
func (m *Meter) Collect(ch chan<- prometheus.Metric) {
	f := m.count()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var listed [measuredKinds]int
	unlisted := 0
	for i := range f.what {
		w := &f.what[i]
		if listed[w.Kind]++; listed[w.Kind] > maxMeasured {
			unlisted++
			continue
		}
		if w.Kind == MeasuredPath && w.State != "" {
			gauge(stateDesc, 1, append(slices.Clone(w.Labels), w.State)...)
		}
		if f.counts != nil {
			m.show(ch, w, f.counts)
		}
	}
	gauge(unlistedDesc, float64(unlisted))
	if f.counts == nil {
		gauge(countedDesc, 0)
	} else {
		gauge(countedDesc, 1)
	}
}

// show shows one object's I/O, if the data plane has it.
func (m *Meter) show(ch chan<- prometheus.Metric, w *Measured, c *plane.Counts) {
	io, ok := c.Bdevs[w.Bdev]
	if w.NQN != "" {
		var p plane.PathCounts
		p, ok = c.Paths[w.NQN]
		io = p.IOCounts
		for i, h := range w.Hosts {
			if p.Hosts != nil && !slices.Contains(w.Hosts[:i], h) {
				ch <- prometheus.MustNewConstMetric(hostsDesc, prometheus.GaugeValue, float64(p.Hosts[h]), append(slices.Clone(w.Labels), h)...)
			}
		}
	}
	if !ok {
		return
	}
	d := &ioMetrics[w.Kind]
	count := func(d *prometheus.Desc, v float64) {
		if d != nil {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, w.Labels...)
		}
	}
	count(d.reads, float64(io.Reads))
	count(d.writes, float64(io.Writes))
	count(d.readBytes, float64(io.ReadBytes))
	count(d.writtenBytes, float64(io.WrittenBytes))
	count(d.readTime, float64(io.ReadNanos)/1e9)
	count(d.writeTime, float64(io.WriteNanos)/1e9)
	count(d.errors, float64(io.Errors))
	if c.Bounds == nil {
		return
	}
	count(d.throttled, float64(io.Throttled)/1e9)
	for op, of := range map[string][]uint64{"read": io.ReadLatencies, "write": io.WriteLatencies} {
		nanos := io.ReadNanos
		if op == "write" {
			nanos = io.WriteNanos
		}
		if h := histogram(d.durations, c.Bounds, of, nanos, append(slices.Clone(w.Labels), op)); h != nil {
			ch <- h
		}
	}
}

// counted are the names that calls have for what is measured.
var counted = [measuredKinds]string{MeasuredDA: "da", MeasuredPath: "exp", MeasuredPD: "pd"}

// Counters is rpc.Config's: what the data plane has counted by now, of all there is.
func (m *Meter) Counters(context.Context) *apiv1.CountersReply {
	f := m.count()
	reply := &apiv1.CountersReply{Counted: f.counts != nil, StampNsec: uint64(f.at), StartId: f.run}
	if f.counts == nil {
		return reply
	}
	for i := range f.what {
		w := &f.what[i]
		io, ok := f.counts.Bdevs[w.Bdev]
		if w.NQN != "" {
			var p plane.PathCounts
			p, ok = f.counts.Paths[w.NQN]
			io = p.IOCounts
		}
		if !ok {
			continue
		}
		c := &apiv1.Counters{Kind: counted[w.Kind], Name: w.Labels[0], Reads: io.Reads, Writes: io.Writes, ReadBytes: io.ReadBytes,
			WrittenBytes: io.WrittenBytes, ReadNsec: io.ReadNanos, WriteNsec: io.WriteNanos, Errors: io.Errors, ThrottledNsec: io.Throttled}
		if w.Kind == MeasuredPath {
			c.ExpName = w.Labels[1]
		}
		reply.CountersList = append(reply.CountersList, c)
	}
	return reply
}

// histogram is one of counts by bounds; nil when they do not fit together.
func histogram(d *prometheus.Desc, bounds, counts []uint64, nanos uint64, labels []string) prometheus.Metric {
	if len(counts) != len(bounds)+1 {
		return nil
	}
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, b := range bounds {
		n += counts[i]
		buckets[float64(b)/1e9] = n
	}
	return prometheus.MustNewConstHistogram(d, n+counts[len(bounds)], float64(nanos)/1e9, buckets, labels...)
}
