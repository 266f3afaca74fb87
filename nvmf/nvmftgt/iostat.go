package nvmftgt

import "github.com/virtual-disk-array/vda/bdev"

// NamespaceIO is what hosts did with a namespace since the block device behind it was put there.
type NamespaceIO struct {
	NSID uint32
	Bdev string
	bdev.IOStat
}

// IO returns the counters of the namespaces that have a block device, by NSID.
func (s *Subsystem) IO() []NamespaceIO {
	var out []NamespaceIO
	for _, n := range *s.nss.Load() {
		if n == nil {
			continue
		}
		if h := n.handle.Load(); h != nil && !n.orphan.Load() {
			out = append(out, NamespaceIO{n.nsid, h.Info().Name, h.IOStat()})
		}
	}
	return out
}
