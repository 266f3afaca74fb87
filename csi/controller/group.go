package controller

import (
	"context"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// GroupControllerGetCapabilities says what the service of groups can do.
func (c *Controller) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (
	*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{
		{Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT}}}}}, nil
}

// CreateVolumeGroupSnapshot takes snapshots of several arrays at one instant, or finds those
// that an earlier call has taken. All are taken, or none.
func (c *Controller) CreateVolumeGroupSnapshot(ctx context.Context, req *csi.CreateVolumeGroupSnapshotRequest) (
	*csi.CreateVolumeGroupSnapshotResponse, error) {
	switch {
	case req.Name == "":
		return nil, refuse(codes.InvalidArgument, "name is missing")
	case len(req.SourceVolumeIds) == 0:
		return nil, refuse(codes.InvalidArgument, "source_volume_ids is missing")
	}
	if err := noParameters("VolumeGroupSnapshotClass", req.Parameters); err != nil {
		return nil, err
	}
	g, das, err := c.sources(ctx, req)
	if err != nil {
		return nil, err
	}
	p, err := c.portals(g.Portals, req.Secrets)
	if err != nil {
		return nil, err
	}
	request := volume.GroupRequest(req.Name, das)
	for again := false; ; again = true {
		members, err := membersOf(ctx, p, g)
		if err != nil {
			return nil, err
		}
		if len(members) > 0 {
			if err := sameGroup(g, members, das, request); err != nil {
				return nil, err
			}
			return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: groupSnapshot(g, members)}, nil
		}
		_, err = p.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: strings.Join(das, ","), SnapName: g.Snap,
			Label:       []string{volume.RequestLabel + "=" + request, volume.GroupLabel + "=" + g.Label()},
			Description: "group snapshot " + vda.Shorten(req.Name, 200)})
		if err != nil && (again || vda.KindOf(err) != vda.AlreadyExists) {
			return nil, statusOf(err)
		} // else look at them: another call may have taken them meanwhile
		if again {
			return nil, refuse(codes.Unavailable, "group snapshot %s is taken, and its snaps are not to be seen yet", g)
		}
	}
}

// sources are the arrays of which a group of snapshots is to be taken, by name.
func (c *Controller) sources(ctx context.Context, req *csi.CreateVolumeGroupSnapshotRequest) (g volume.GroupID, das []string, err error) {
	g.Snap = volume.ObjectName(req.Name)
	for i, id := range req.SourceVolumeIds {
		if id == "" {
			return g, nil, refuse(codes.InvalidArgument, "source_volume_ids has an empty id")
		}
		a, err := c.find(ctx, id, req.Secrets)
		if err != nil {
			return g, nil, err
		}
		if slices.Contains(das, a.DaName) {
			return g, nil, refuse(codes.InvalidArgument, "source_volume_ids has %s twice", id)
		}
		if i > 0 && a.id.Portals != g.Portals {
			return g, nil, refuse(codes.FailedPrecondition, "source_volume_ids: %s and %s are of StorageClasses with other portals; volumes "+
				"that are snapshotted at one instant have the same", req.SourceVolumeIds[0], id)
		}
		g.Portals, das = a.id.Portals, append(das, a.DaName)
	}
	slices.Sort(das)
	return g, das, nil
}

// sameGroup refuses members that are not those which are asked for now.
func sameGroup(g volume.GroupID, members []*apiv1.SnapMsg, das []string, request string) error {
	var has []string
	for _, s := range members {
		has = append(has, s.DaName)
		if label(s.LabelList, volume.RequestLabel) != request {
			return refuse(codes.AlreadyExists, "there is a group snapshot %s of other volumes: one of them is %s", g, s.DaName)
		}
	}
	switch {
	case !slices.Equal(has, das):
		return refuse(codes.Aborted, "group snapshot %s is being deleted: of %s there are snapshots still", g, strings.Join(has, ", "))
	case !taken(members):
		return refuse(codes.Aborted, "group snapshot %s is being taken by another call", g)
	}
	return nil
}

// taken reports that members are on media: all are, or none.
func taken(members []*apiv1.SnapMsg) bool {
	return !slices.ContainsFunc(members, func(s *apiv1.SnapMsg) bool { return s.State != vda.SnapTaken.String() })
}

// membersOf are the snapshots of a group, by their arrays' names; nil when there is none.
func membersOf(ctx context.Context, p *client.Client, g volume.GroupID) (members []*apiv1.SnapMsg, err error) {
	for s, err := range p.Snaps(ctx, &apiv1.ListSnapRequest{Label: []string{volume.RequestLabel, volume.GroupLabel + "=" + g.Label()}}) {
		if err != nil {
			return nil, statusOf(err)
		}
		members = append(members, s)
	}
	slices.SortFunc(members, func(a, b *apiv1.SnapMsg) int { return strings.Compare(a.DaName, b.DaName) })
	return members, nil
}

// groupSnapshot is a group as orchestrators see it.
func groupSnapshot(g volume.GroupID, members []*apiv1.SnapMsg) *csi.VolumeGroupSnapshot {
	reply := &csi.VolumeGroupSnapshot{GroupSnapshotId: g.String(), ReadyToUse: true}
	var at *timestamppb.Timestamp
	for _, m := range members {
		s := snapshot(g.Member(m.DaName), m)
		reply.Snapshots = append(reply.Snapshots, s)
		reply.ReadyToUse = reply.ReadyToUse && s.ReadyToUse
		if at == nil || s.CreationTime.AsTime().Before(at.AsTime()) {
			at = s.CreationTime
		}
	}
	reply.CreationTime = at
	return reply
}

// GetVolumeGroupSnapshot shows a group of snapshots.
func (c *Controller) GetVolumeGroupSnapshot(ctx context.Context, req *csi.GetVolumeGroupSnapshotRequest) (
	*csi.GetVolumeGroupSnapshotResponse, error) {
	g, _, members, err := c.group(ctx, req.GroupSnapshotId, req.SnapshotIds, req.Secrets)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, refuse(codes.NotFound, "there is no group snapshot %q", vda.Shorten(req.GroupSnapshotId, 150))
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: groupSnapshot(g, members)}, nil
}

// group finds a group of snapshots, of which none is left when members is nil. It refuses
// ids of snapshots that are not the group's; without any, those that the group has are meant.
func (c *Controller) group(ctx context.Context, groupID string, ids []string, secrets map[string]string) (g volume.GroupID,
	p *client.Client, members []*apiv1.SnapMsg, err error) {
	if groupID == "" {
		return g, nil, nil, refuse(codes.InvalidArgument, "group_snapshot_id is missing")
	}
	g, ok := volume.ParseGroupID(groupID)
	if !ok { // it is not the driver's
		return g, nil, nil, nil
	}
	if p, err = c.portals(g.Portals, secrets); err != nil {
		return g, nil, nil, err
	}
	for _, id := range ids {
		s, ok := volume.ParseSnapshotID(id)
		if !ok || g.Member(s.Volume.Array) != s {
			return g, nil, nil, refuse(codes.InvalidArgument, "snapshot_ids: %q is not of the group snapshot %s", vda.Shorten(id, 150), groupID)
		}
	}
	if members, err = membersOf(ctx, p, g); err != nil {
		return g, nil, nil, err
	}
	for _, m := range members {
		if id := g.Member(m.DaName).String(); len(ids) > 0 && !slices.Contains(ids, id) {
			return g, nil, nil, refuse(codes.InvalidArgument, "snapshot_ids: %s is missing, which is of the group snapshot %s", id, groupID)
		}
	}
	return g, p, members, nil
}

// DeleteVolumeGroupSnapshot deletes a group of snapshots with all its members. A call that
// fails halfway is finished by the next.
func (c *Controller) DeleteVolumeGroupSnapshot(ctx context.Context, req *csi.DeleteVolumeGroupSnapshotRequest) (
	*csi.DeleteVolumeGroupSnapshotResponse, error) {
	g, p, members, err := c.group(ctx, req.GroupSnapshotId, req.SnapshotIds, req.Secrets)
	if err != nil {
		return nil, err
	}
	if len(members) > 0 && !taken(members) {
		return nil, refuse(codes.Aborted, "group snapshot %s is being taken", g)
	}
	if err := shownFirst(ctx, p, members); err != nil {
		return nil, err
	}
	for _, m := range members {
		if err := deleteSnap(ctx, p, m.DaName, m.SnapName); err != nil {
			return nil, err
		}
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

// shownFirst sorts members so that one which cannot be deleted, as it is shown to a host or
// copied from, is refused while all the others are there.
func shownFirst(ctx context.Context, p *client.Client, members []*apiv1.SnapMsg) error {
	for i, m := range members {
		reply, err := p.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: m.DaName, SnapName: m.SnapName})
		if err != nil && vda.KindOf(err) != vda.NotFound {
			return statusOf(err)
		}
		if len(reply.GetSnapMsg().GetExpNameList()) > 0 {
			members[0], members[i] = members[i], members[0]
		}
	}
	return nil
}
