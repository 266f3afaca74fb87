package vda

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// DA is a disk array.
type DA struct {
	ID           string
	Name         string
	Size         uint64 // bytes the host sees
	PhysicalSize uint64 // bytes of data clusters bought; below Size the array is thin
	CntlrCnt     uint32
	StripeCount  uint32
	StripeSizeKB uint32
	Conf         string // JSON as the user gave it
	ClusterSize  uint64 // bytes, of the array's own lvstore
	Redundancy   Redundancy
	MinLegs      uint32 // members that a column is never left with less of, by us
	Limits       Limits
	Space        Space
	Source       CloneSource
	AutoGrow     AutoGrow
	StaysThin    bool // it is thin, whatever it has bought since
	Reservations bool // hosts may make NVMe reservations, which hold by all its controllers

	Term uint64 // number of the primary's term; only grows
	// Moving is when the primary of Term was chosen, while it has not served yet; zero once
	// it has, and for the first.
	Moving  time.Time
	Created bool // raid, lvstore and volume have been made on media once
	Deleted bool
	// Purge is when an array that its user has deleted goes for good; zero for others.
	// Until then all of it works on, and no user finds it.
	Purge  time.Time
	Health Health
}

// AutoGrow is how a thin array gets more physical size by itself.
type AutoGrow struct {
	Limit      uint64 // bytes of physical size that it gets at most; 0: it gets none by itself
	LowPercent uint64 // of its bytes: it grows when fewer are free
}

// The share of its bytes below which an array grows by itself, in percent: when none is
// given, and at most.
const (
	autoGrowLow = 20
	maxGrowLow  = 50
)

// Fill sets what is not given.
func (a *AutoGrow) Fill() {
	if a.Limit > 0 && a.LowPercent == 0 {
		a.LowPercent = autoGrowLow
	}
}

// CheckAutoGrow refuses what an array cannot grow to by itself, as far as it tells.
func (d *DA) CheckAutoGrow() error {
	a := d.AutoGrow
	switch {
	case a.Limit == 0 && a.LowPercent == 0:
		return nil
	case a.Limit == 0:
		return invalid("auto_grow_below is %d, and auto_grow, the physical size up to which the array grows by itself, is 0 or missing; give "+
			"both", a.LowPercent)
	case a.LowPercent > maxGrowLow:
		return invalid("auto_grow_below is %d; it must be 1 to %d, the percentage of its bytes below which the array grows", a.LowPercent,
			maxGrowLow)
	}
	if err := CheckSize("auto_grow", a.Limit, d.ClusterSize); err != nil {
		return err
	}
	switch {
	case d.Source.Copying():
		return Errorf(FailedPrecondition, "auto_grow is %d: da %s is a clone, and is being copied; set it when it has all data (da get)", a.Limit,
			d.Name)
	case !d.Thin():
		return Errorf(FailedPrecondition, "auto_grow is %d: da %s is not thin, so that no write lacks room on it; give it physical_size when it "+
			"is to grow", a.Limit, d.Name)
	case a.Limit < d.PhysicalSize:
		return invalid("auto_grow is %d bytes, less than the physical size of da %s, %d; give more, or 0 so that it does not grow by itself",
			a.Limit, d.Name, d.PhysicalSize)
	}
	return nil
}

// CheckAutoGrowLimit refuses to have an array grow by itself beyond what it can get at
// most, bytes.
func (d *DA) CheckAutoGrowLimit(most uint64) error {
	if d.AutoGrow.Limit > most {
		return invalid("auto_grow is %d bytes, and the metadata of da %s suffice for a physical size of %d; give that at most, or make a new "+
			"array with a greater physical_size from the beginning", d.AutoGrow.Limit, d.Name, most)
	}
	return nil
}

// Space is how full the lvstore of an array is, as its primary said last.
type Space struct {
	Total uint64 // bytes for data; 0: not known yet
	Used  uint64 // bytes of these that the array and its snapshots have
}

// Free is how many bytes are left.
func (s Space) Free() uint64 { return s.Total - min(s.Used, s.Total) }

// The shares of an array's bytes from which on so many are in use that it is said.
const (
	DASpaceLow  = 0.8
	DASpaceFull = 0.95
)

// Alert is the alert that an array is running full, "" when it is not, or cannot: one
// that is not thin has room for all that its hosts may write.
func (s Space) Alert(thin bool) AlertCode {
	switch used := float64(s.Used) / float64(max(s.Total, 1)); {
	case !thin || s.Total == 0 || used < DASpaceLow:
		return ""
	case used < DASpaceFull:
		return AlertDASpaceLow
	}
	return AlertDASpaceFull
}

// Thin reports whether blocks of the array get room when they are first written: it
// promises more than it has bought, or did before it has bought more.
func (d *DA) Thin() bool { return d.StaysThin || d.Size > d.PhysicalSize }

// NeedsVDATgt reports that the array's controllers have to be on nodes that run vda_tgt, as
// only that has mirrors, copies a clone in parts, and adds disks to an array in use.
func (d *DA) NeedsVDATgt() bool {
	return d.Redundancy.Mirrored() || d.Source.Copying() || d.AutoGrow.Limit > 0
}

// Validate checks what a user has said of a new array; the fields of its error are
// those of CreateDaRequest. ClusterSize is that of ClusterSizeFor.
func (d *DA) Validate() error {
	if err := CheckName("da_name", d.Name); err != nil {
		return err
	}
	if d.CntlrCnt < 1 || d.CntlrCnt > MaxCntlrCount {
		return invalid("cntlr_cnt is %d; it must be 1 to %d, and at most the number of cns", d.CntlrCnt, MaxCntlrCount)
	}
	if d.MinLegs < 1 || d.MinLegs > uint32(d.Redundancy) {
		return invalid("min_legs is %d; with redundancy %s it must be 1 to %d", d.MinLegs, d.Redundancy, max(d.Redundancy, Striped))
	}
	if err := CheckSize("da_size", d.Size, d.ClusterSize); err != nil {
		return err
	}
	if err := CheckSize("physical_size", d.PhysicalSize, d.ClusterSize); err != nil {
		return err
	}
	if d.Size/d.PhysicalSize > MaxThin || d.Size/d.PhysicalSize == MaxThin && d.Size%d.PhysicalSize != 0 {
		least := ((d.Size-1)/MaxThin/d.ClusterSize + 1) * d.ClusterSize
		return invalid("physical_size is %d bytes, less than 1/%d of da_size; the smallest for this array is %d", d.PhysicalSize, MaxThin, least)
	}
	if err := d.CheckAutoGrow(); err != nil {
		return err
	}
	return CheckLimits(d.Limits)
}

// Grp is a group of vds of equal size joined by one raid bdev.
type Grp struct {
	ID   string
	DAID string
	Idx  uint32
	Size uint64 // bytes of all its vds; of a mirrored array's columns, without what legs have behind the data
	// Joining: it is to become part of an array that serves, and nothing is on it yet.
	Joining bool
	Adds    uint64 // bytes by which the array's PhysicalSize grows when it has joined
}

// MaxGrps is how many groups an array has at most.
const MaxGrps = 64

// Joined leaves out the vds of groups that are not part of their array yet: no data is
// on them.
func Joined(vds []VD, grps []Grp) []VD {
	if !slices.ContainsFunc(grps, func(g Grp) bool { return g.Joining }) {
		return vds
	}
	return slices.DeleteFunc(slices.Clone(vds), func(v VD) bool {
		return slices.ContainsFunc(grps, func(g Grp) bool { return g.Joining && g.DAID == v.DAID && g.Idx == v.GrpIdx })
	})
}

// The bounds of how long a deleted array may be kept.
const (
	minKeep = time.Minute
	maxKeep = 366 * 24 * time.Hour
)

// ParseKeep reads for how long a deleted array is kept: a number with a unit, which is
// d, h, m or s; 0 for "", which is not at all.
func ParseKeep(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(text)
	}
	if err != nil {
		return 0, invalid("%s %q is not a time like 90m, 24h or 7d", field, Shorten(text, 80))
	}
	if d < minKeep || d > maxKeep {
		return 0, invalid("%s %q must be 1m to 366d", field, Shorten(text, 80))
	}
	return d, nil
}
