package apiv1

import "github.com/virtual-disk-array/vda"

// NewVersionMarks makes marks for a request.
func NewVersionMarks(marks vda.VersionMarks) (all []*VersionMark) {
	for _, m := range marks {
		all = append(all, &VersionMark{Version: m.Version, Mark: m.Mark})
	}
	return all
}

// VersionMarks are those of a request.
func VersionMarks(marks []*VersionMark) (all vda.VersionMarks) {
	for _, m := range marks {
		all = append(all, vda.VersionMark{Version: m.GetVersion(), Mark: m.GetMark()})
	}
	return all
}
