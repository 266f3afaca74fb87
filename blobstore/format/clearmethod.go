package format

// ClearMethod says how clusters are cleared: when a store is created, the
// whole device; when a blob shrinks or is deleted, its clusters. The numbers
// are those on disk.
type ClearMethod uint8

// The clear methods. ClearDefault means unmap.
const (
	ClearDefault ClearMethod = iota
	ClearNone
	ClearUnmap
	ClearWriteZeroes
)
