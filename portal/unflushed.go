package portal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// fileOnSPDK is said of a new pd that is not safe from a power cut, and whose user has not said that he knows; of
// other disks than files the dn says so itself, and does not format them.
const fileOnSPDK = "a power cut at its dn may lose writes to it that hosts flushed (write_cache is \"not flushed\"): it is a file, and " +
	"the dn's data plane, SPDK, passes no flush on; run vda_tgt there, or take a block device that has no volatile write cache"

// unflushed warns where a power cut may lose writes to an array that its hosts have flushed, since SPDK passes no flush
// on: neither the dns' to their disks, nor the cns' to the dns.
func unflushed(tx store.Reader, daID string) (warnings []string, err error) {
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return nil, err
	}
	volatile, lost, seen := []string{}, []string{}, map[string]bool{}
	names := newNames(tx)
	for i := range vds {
		if vds[i].Deleted || seen[vds[i].PDID] {
			continue
		}
		seen[vds[i].PDID] = true
		pd, err := tx.PD(vds[i].PDID)
		if err != nil {
			return nil, err
		}
		dn, err := names.dn(pd.DNID)
		if err != nil {
			return nil, err
		}
		if pd.WriteCache == vda.CacheNotFlushed {
			lost = append(lost, dn.Name+"/"+pd.Name)
		}
		if pd.WriteCache.Volatile() {
			volatile = append(volatile, dn.Name+"/"+pd.Name)
		}
	}
	const may = "a power cut may lose writes that hosts flushed: "
	if len(lost) > 0 {
		warnings = append(warnings, may+"pds with volatile write caches are on dns whose data plane, SPDK, passes no flush on: "+list(lost))
	}
	if len(volatile) == 0 {
		return warnings, nil
	}
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return nil, err
	}
	var cns []string
	for i := range cntlrs {
		cn, err := tx.CN(cntlrs[i].CNID)
		if err != nil {
			return nil, err
		}
		if !cntlrs[i].Deleted && cn.OnSPDK() {
			cns = append(cns, cn.Name)
		}
	}
	if len(cns) > 0 {
		warnings = append(warnings, may+fmt.Sprintf("controllers are on cns that run SPDK, which passes no flush on (%s), and pds have "+
			"volatile write caches: %s", list(cns), list(volatile)))
	}
	return warnings, nil
}

// list names the first few.
func list(names []string) string {
	slices.Sort(names)
	const most = 8
	if n := len(names) - most; n > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}
