package dn

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// Orphans returns pds that were once this node's, and the vds of this cluster
// on its media, as far as the desired set does not name them.
func (a *Agent) Orphans(ctx context.Context, req *apiv1.OrphansRequest) (*apiv1.OrphansReply, error) {
	if err := a.OwnRequest(req); err != nil {
		return nil, err
	}
	pds, err := a.State.Orphans("pd", func(id string) bool { return a.pd(id) != nil }, func() proto.Message { return &apiv1.PdSpec{} })
	if err != nil {
		return nil, err
	}
	kept, err := a.State.Orphans("vd", func(id string) bool { return a.vd(id) != nil }, func() proto.Message { return &apiv1.VdSpec{} })
	if err != nil {
		return nil, err
	}
	vds, err := a.vdsOnMedia(ctx)
	if err != nil {
		return nil, err
	}
	for id, m := range kept {
		was := m.(*apiv1.VdSpec)
		switch found := vds[id]; {
		case found != nil && found.PdId == was.PdId:
			was.Size = found.Size
			vds[id] = was
		case found == nil && a.pd(was.PdId) == nil:
			vds[id] = was // on a disk that is detached
		}
	}
	reply := &apiv1.OrphansReply{}
	for _, id := range slices.Sorted(maps.Keys(pds)) {
		reply.Pds = append(reply.Pds, pds[id].(*apiv1.PdSpec))
	}
	for _, id := range slices.Sorted(maps.Keys(vds)) {
		reply.Vds = append(reply.Vds, vds[id].WithoutKeys())
	}
	return reply, nil
}

// vdsOnMedia are the lvols of this cluster's vds that no set names.
func (a *Agent) vdsOnMedia(ctx context.Context) (map[string]*apiv1.VdSpec, error) {
	inv, err := a.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	stamps := a.stamp("")
	vds := map[string]*apiv1.VdSpec{}
	for alias, b := range inv.AllBdevs() {
		lvs, lvol, isLvol := strings.Cut(alias, "/")
		pd, ours := strings.CutPrefix(lvs, stamps)
		id, isVd := strings.CutPrefix(lvol, vdPrefix)
		id = strings.TrimSuffix(id, newSuffix)
		if isLvol && ours && isVd && a.vd(id) == nil {
			vds[id] = &apiv1.VdSpec{Id: id, PdId: pd, Size: b.Bytes()}
		}
	}
	return vds, nil
}
