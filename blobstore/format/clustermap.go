package format

import "sync/atomic"

// extent holds the clusters of one extent page's worth of a blob, 0 for a
// missing one. I/O reads it while metadata code writes it.
type extent [ExtentsPerPage]atomic.Uint32

// ClusterMap says where a blob's clusters are. Its length never changes: a
// resize makes a new one that shares the extents.
type ClusterMap struct {
	Clusters uint64
	Extents  []atomic.Pointer[extent] // nil: all missing
}

func NewClusterMap(clusters uint64) *ClusterMap {
	return &ClusterMap{Clusters: clusters, Extents: make([]atomic.Pointer[extent], ExtentTableLen(clusters))}
}

// At returns the cluster that holds cluster number i of the blob, 0 when it is
// missing or beyond the end.
func (m *ClusterMap) At(i uint64) uint32 {
	if i >= m.Clusters {
		return 0
	}
	e := m.Extents[i/ExtentsPerPage].Load()
	if e == nil {
		return 0
	}
	return e[i%ExtentsPerPage].Load()
}

// Set changes one entry.
func (m *ClusterMap) Set(i uint64, cluster uint32) {
	p := &m.Extents[i/ExtentsPerPage]
	e := p.Load()
	if e == nil {
		if cluster == 0 {
			return
		}
		e = new(extent)
		p.Store(e)
	}
	e[i%ExtentsPerPage].Store(cluster)
}

// Resized returns a map of another length with the same clusters up to the
// shorter of the two; it shares no extent that has entries of both.
func (m *ClusterMap) Resized(clusters uint64) *ClusterMap {
	n := NewClusterMap(clusters)
	keep := min(m.Clusters, clusters)
	whole := keep / ExtentsPerPage
	for i := range whole {
		n.Extents[i].Store(m.Extents[i].Load())
	}
	for i := whole * ExtentsPerPage; i < keep; i++ {
		n.Set(i, m.At(i))
	}
	return n
}

// Clone returns a copy that shares nothing.
func (m *ClusterMap) Clone() *ClusterMap {
	n := NewClusterMap(m.Clusters)
	m.Each(n.Set)
	return n
}

// Each calls f for every cluster that is there, in order.
func (m *ClusterMap) Each(f func(i uint64, cluster uint32)) {
	for x := range m.Extents {
		e := m.Extents[x].Load()
		if e == nil {
			continue
		}
		first := uint64(x) * ExtentsPerPage
		for k := range min(ExtentsPerPage, m.Clusters-first) {
			if c := e[k].Load(); c != 0 {
				f(first+k, c)
			}
		}
	}
}

// List writes the entries of extent x to dst and returns how many the blob
// has there.
func (m *ClusterMap) List(x uint64, dst *[ExtentsPerPage]uint32) int {
	first := x * ExtentsPerPage
	n := int(min(ExtentsPerPage, m.Clusters-first))
	e := m.Extents[x].Load()
	for k := range n {
		dst[k] = 0
		if e != nil {
			dst[k] = e[k].Load()
		}
	}
	return n
}

// Runs returns the map in run-length form.
func (m *ClusterMap) Runs() []Run {
	var out []Run
	add := func(c, length uint32) {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if (c == 0 && last.Cluster == 0) || (c != 0 && last.Cluster != 0 && c == last.Cluster+last.Length) {
				last.Length += length
				return
			}
		}
		out = append(out, Run{c, length})
	}
	for x := range m.Extents {
		n := min(ExtentsPerPage, m.Clusters-uint64(x)*ExtentsPerPage)
		e := m.Extents[x].Load()
		if e == nil {
			add(0, uint32(n))
			continue
		}
		for k := range n {
			add(e[k].Load(), 1)
		}
	}
	return out
}

func (e *extent) Copy() *extent {
	n := new(extent)
	for i := range e {
		n[i].Store(e[i].Load())
	}
	return n
}
