package blobstore

import "sync/atomic"

// extent holds the clusters of one extent page's worth of a blob, 0 for a
// missing one. I/O reads it while metadata code writes it.
type extent [extentsPerPage]atomic.Uint32

// clusterMap says where a blob's clusters are. Its length never changes: a
// resize makes a new one that shares the extents.
type clusterMap struct {
	clusters uint64
	extents  []atomic.Pointer[extent] // nil: all missing
}

func newClusterMap(clusters uint64) *clusterMap {
	return &clusterMap{clusters: clusters, extents: make([]atomic.Pointer[extent], extentTableLen(clusters))}
}

// at returns the cluster that holds cluster number i of the blob, 0 when it is
// missing or beyond the end.
func (m *clusterMap) at(i uint64) uint32 {
	if i >= m.clusters {
		return 0
	}
	e := m.extents[i/extentsPerPage].Load()
	if e == nil {
		return 0
	}
	return e[i%extentsPerPage].Load()
}

// set changes one entry.
func (m *clusterMap) set(i uint64, cluster uint32) {
	p := &m.extents[i/extentsPerPage]
	e := p.Load()
	if e == nil {
		if cluster == 0 {
			return
		}
		e = new(extent)
		p.Store(e)
	}
	e[i%extentsPerPage].Store(cluster)
}

// resized returns a map of another length with the same clusters up to the
// shorter of the two; it shares no extent that has entries of both.
func (m *clusterMap) resized(clusters uint64) *clusterMap {
	n := newClusterMap(clusters)
	keep := min(m.clusters, clusters)
	whole := keep / extentsPerPage
	for i := range whole {
		n.extents[i].Store(m.extents[i].Load())
	}
	for i := whole * extentsPerPage; i < keep; i++ {
		n.set(i, m.at(i))
	}
	return n
}

// clone returns a copy that shares nothing.
func (m *clusterMap) clone() *clusterMap {
	n := newClusterMap(m.clusters)
	m.each(n.set)
	return n
}

// each calls f for every cluster that is there, in order.
func (m *clusterMap) each(f func(i uint64, cluster uint32)) {
	for x := range m.extents {
		e := m.extents[x].Load()
		if e == nil {
			continue
		}
		first := uint64(x) * extentsPerPage
		for k := range min(extentsPerPage, m.clusters-first) {
			if c := e[k].Load(); c != 0 {
				f(first+k, c)
			}
		}
	}
}

// list writes the entries of extent x to dst and returns how many the blob
// has there.
func (m *clusterMap) list(x uint64, dst *[extentsPerPage]uint32) int {
	first := x * extentsPerPage
	n := int(min(extentsPerPage, m.clusters-first))
	e := m.extents[x].Load()
	for k := range n {
		dst[k] = 0
		if e != nil {
			dst[k] = e[k].Load()
		}
	}
	return n
}

// runs returns the map in run-length form.
func (m *clusterMap) runs() []Run {
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
	for x := range m.extents {
		n := min(extentsPerPage, m.clusters-uint64(x)*extentsPerPage)
		e := m.extents[x].Load()
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
