package array

import (
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
)

// CheckAutoGrow refuses what an array that is there cannot grow to by itself.
// vda.InvalidArgument and vda.FailedPrecondition say why. The array is locked.
func CheckAutoGrow(tx store.Reader, da *vda.DA) error {
	if err := da.CheckAutoGrow(); err != nil || da.AutoGrow.Limit == 0 {
		return err
	}
	if err := noSPDK(tx, da); err != nil {
		return err
	}
	grps, err := tx.GrpsOfDA(da.ID)
	if err != nil || len(grps) == 0 {
		return err
	}
	snaps, err := tx.SnapsOfDA(da.ID)
	if err != nil {
		return err
	}
	return da.CheckAutoGrowLimit(mostPhysical(da, grps, len(snaps)))
}

// RunsLow reports that a report is of the array as it is now, and that the array has
// too little left by it. A report from before its last growth is not.
func RunsLow(da *vda.DA, r SpaceReport) bool {
	return da.AutoGrow.Limit > 0 && da.Thin() && da.Created && !da.Deleted && da.Purge.IsZero() && !da.Source.Copying() &&
		da.ID == r.DAID && da.Term == r.Term && r.Space.Total >= da.PhysicalSize &&
		r.Space.Free() < percent(r.Space.Total, da.AutoGrow.LowPercent)
}

// percent is a share of n, of at most 16 PiB, rounded up.
func percent(n, share uint64) uint64 { return (n*share + 99) / 100 }

// AutoGrowth is by what an array grows by itself.
type AutoGrowth struct {
	seen    vda.DA
	report  SpaceReport
	size    uint64
	columns []placement.Column
}

// PlaceAutoGrowth chooses by how much an array that runs low grows, and places for that:
// a quarter of its physical size, or more when it takes more to have enough left, up to
// its limit; less when there is no room for that. nil while it grows already.
// vda.FailedPrecondition and vda.ResourceExhausted say why it cannot.
func PlaceAutoGrowth(tx store.Reader, da *vda.DA, r SpaceReport) (*AutoGrowth, error) {
	if !RunsLow(da, r) {
		return nil, nil
	}
	grps, err := tx.GrpsOfDA(da.ID)
	if err != nil || len(grps) == 0 || slices.ContainsFunc(grps, func(g vda.Grp) bool { return g.Joining }) {
		return nil, err
	}
	snaps, err := tx.SnapsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	has, limit := da.PhysicalSize, da.AutoGrow.Limit
	if has >= limit {
		return nil, vda.Errorf(vda.FailedPrecondition, "its physical size is %d bytes, and it grows to %d by itself (auto_grow)", has, limit)
	}
	if most := mostPhysical(da, grps, len(snaps)); most > has { // what is not is said by mayBuy
		limit = min(limit, most)
	}
	g := &AutoGrowth{seen: *da, report: r}
	for _, step := range autoSteps(has, r.Space, da.AutoGrow.LowPercent) {
		step = (step + da.ClusterSize - 1) / da.ClusterSize * da.ClusterSize
		g.size = min(has+step, limit)
		if g.columns, _, err = PlacePhysical(tx, da, g.size, placement.BestEffort); vda.KindOf(err) != vda.ResourceExhausted {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// autoSteps are by how many bytes an array of a physical size grows, the best first. As
// there are few groups, none is tiny.
func autoSteps(has uint64, s vda.Space, low uint64) []uint64 {
	lacks := (percent(s.Total, low)-s.Free())*100/(100-low) + 1
	return []uint64{max(lacks, has/4), max(lacks, has/16)}
}

// AutoGrow has an array grow as was placed. ErrStale when it is not as it was seen, or a
// place is gone.
func AutoGrow(tx store.Tx, g *AutoGrowth) (Plan, error) {
	da, err := tx.DA(g.seen.ID)
	if err != nil {
		return nil, stale(err)
	}
	if !RunsLow(da, g.report) || da.PhysicalSize != g.seen.PhysicalSize || da.AutoGrow != g.seen.AutoGrow {
		return nil, ErrStale
	}
	grps, err := tx.Unlocked().GrpsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(grps, func(g vda.Grp) bool { return g.Joining }) {
		return nil, ErrStale // it grows already
	}
	s := g.report.Space
	if err := tx.Record(daEvent(da, vda.EventDAGrows, "%d of its %d bytes are free, less than %d %%: its physical size grows from %d to "+
		"%d bytes by itself, %d at most", s.Free(), s.Total, da.AutoGrow.LowPercent, da.PhysicalSize, g.size, da.AutoGrow.Limit)); err != nil {
		return nil, err
	}
	return GrowPhysical(tx, da, g.size, g.columns)
}

// NoteNoGrowth records why an array that runs low does not grow.
func NoteNoGrowth(tx store.Tx, daID string, r SpaceReport, why string) error {
	da, err := tx.DA(daID)
	if err != nil || !RunsLow(da, r) {
		return vda.IgnoreNotFound(err)
	}
	return tx.Record(daEvent(da, vda.EventDACannotGrow, "%d of its %d bytes are free, less than %d %%, and it does not grow by itself: %s",
		r.Space.Free(), r.Space.Total, da.AutoGrow.LowPercent, why))
}
