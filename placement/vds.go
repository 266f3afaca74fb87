package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// PD is a physical disk that may take vds: formatted, online, healthy, and on
// a dn that is online.
type PD struct {
	ID           string
	Name         string
	DNID         string
	DNName       string
	Location     string // of the dn; "" is a location of its own
	ClusterSize  uint64 // bytes
	FreeClusters uint64
}

// VD is one chosen place.
type VD struct {
	PDID     string
	DNID     string
	Clusters uint64 // of the pd
	Size     uint64 // bytes, Clusters × the pd's cluster size
}

// Column is a place in a group's stripe with the vds that hold its data: one in a
// striped array, the legs of a mirror in a mirrored one.
type Column struct {
	Data uint64 // bytes
	Legs []VD   // of at least Data, and vda.LegTail behind it in a mirrored array
}

// Columns makes columns of one vd each, which are in stripe order.
func Columns(data uint64, vds []VD) []Column {
	out := make([]Column, len(vds))
	for i := range vds {
		out[i] = Column{Data: data, Legs: vds[i : i+1 : i+1]}
	}
	return out
}

// Legs are the vds of all columns.
func Legs(columns []Column) (vds []VD) {
	for i := range columns {
		vds = append(vds, columns[i].Legs...)
	}
	return vds
}

// slot is a pd while a group is being placed.
type slot struct {
	pd       *PD
	location string
	need     uint64 // clusters a vd takes here
	free     uint64 // clusters left after the vds placed so far
	used     int    // vds placed here
}

// newSlots are the formatted pds, for vds of so many bytes. A fixed order makes
// equal candidates decide the same way every time.
func newSlots(pds []PD, size uint64) []slot {
	slots := make([]slot, 0, len(pds))
	for i := range pds {
		pd := &pds[i]
		if pd.ClusterSize == 0 {
			continue
		}
		need := (size-1)/pd.ClusterSize + 1
		slots = append(slots, slot{pd: pd, location: locationOf(pd.Location, pd.DNID), need: need, free: pd.FreeClusters})
	}
	slices.SortFunc(slots, func(a, b slot) int {
		if c := strings.Compare(a.pd.DNName, b.pd.DNName); c != 0 {
			return c
		}
		return strings.Compare(a.pd.Name, b.pd.Name)
	})
	return slots
}

// VDs places n vds of at least size bytes each. The strings are what could not
// be spread, one sentence each. The error is vda.ResourceExhausted.
func VDs(pds []PD, n int, size uint64, strict Strictness) ([]VD, []string, error) {
	slots := newSlots(pds, size)
	perLocation, perDN := map[string]int{}, map[string]int{}
	var out []VD
	for range n {
		var best *slot
		for i := range slots {
			s := &slots[i]
			if s.free >= s.need && (best == nil || preferred(s, best, perLocation, perDN)) {
				best = s
			}
		}
		if best == nil {
			return nil, nil, noRoom(slots, n, size, len(out))
		}
		best.free -= best.need
		best.used++
		perLocation[best.location]++
		perDN[best.pd.DNID]++
		out = append(out, VD{PDID: best.pd.ID, DNID: best.pd.DNID, Clusters: best.need, Size: best.need * best.pd.ClusterSize})
	}
	if len(perLocation) == n {
		return out, nil, nil
	}
	missing := fmt.Sprintf("the %d vds of a group lie in %s, on %s and %s: no other location has an online pd with %d bytes free",
		n, count(len(perLocation), "location"), count(len(perDN), "dn"), count(usedSlots(slots), "pd"), size)
	if strict {
		return nil, nil, vda.Errorf(vda.ResourceExhausted, "--strict asks for %d locations, but %s", n, missing)
	}
	return out, []string{missing}, nil
}

// preferred reports whether a is a better place for the next vd than b.
func preferred(a, b *slot, perLocation, perDN map[string]int) bool {
	if x, y := perLocation[a.location], perLocation[b.location]; x != y {
		return x < y
	}
	if x, y := perDN[a.pd.DNID], perDN[b.pd.DNID]; x != y {
		return x < y
	}
	if a.used != b.used {
		return a.used < b.used
	}
	return a.free*a.pd.ClusterSize > b.free*b.pd.ClusterSize
}

func usedSlots(slots []slot) int {
	n := 0
	for i := range slots {
		if slots[i].used > 0 {
			n++
		}
	}
	return n
}

func noRoom(slots []slot, n int, size uint64, placed int) error {
	if len(slots) == 0 {
		return vda.Errorf(vda.ResourceExhausted, "%s of %d bytes asked for, but the cluster has no pd that is online, healthy and formatted",
			count(n, "vd"), size)
	}
	var total uint64
	largest := &slots[0]
	for i := range slots {
		s := &slots[i]
		free := s.pd.FreeClusters * s.pd.ClusterSize
		total += free
		if free > largest.pd.FreeClusters*largest.pd.ClusterSize {
			largest = s
		}
	}
	return vda.Errorf(vda.ResourceExhausted,
		"%s of %d bytes asked for, but there is room for %d: %s with %d bytes free in all, at most %d on one (%s of %s)",
		count(n, "vd"), size, placed, count(len(slots), "online pd"), total,
		largest.pd.FreeClusters*largest.pd.ClusterSize, largest.pd.Name, largest.pd.DNName)
}

// count is "1 location", "2 locations".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
