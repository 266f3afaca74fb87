package bdev

// Work is what went through a handle, as far as its counters reach: they
// begin when it is opened, or when they were last reset.
type Work struct {
	Reads, Writes           uint64 // requests; compares count as reads
	BytesRead, BytesWritten uint64
}

// Work sums the handle's counters.
func (h *Handle) Work() (w Work) {
	for i := range h.shards {
		c := &h.shards[i].stats
		r, cmp, wr := &c.op[OpRead], &c.op[OpCompare], &c.op[OpWrite]
		w.Reads += c.ops(OpRead) + c.ops(OpCompare)
		w.Writes += c.ops(OpWrite)
		w.BytesRead += r.bytes.Load() + cmp.bytes.Load()
		w.BytesWritten += wr.bytes.Load()
	}
	return w
}
