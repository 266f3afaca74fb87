package controller

import (
	"context"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// CreateSnapshot takes a snapshot of an array, or finds the one that an earlier call has
// taken. Names are unique in the whole cluster.
func (c *Controller) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	switch {
	case req.Name == "":
		return nil, refuse(codes.InvalidArgument, "name is missing")
	case req.SourceVolumeId == "":
		return nil, refuse(codes.InvalidArgument, "source_volume_id is missing")
	}
	if err := noParameters("VolumeSnapshotClass", req.Parameters); err != nil {
		return nil, err
	}
	a, err := c.find(ctx, req.SourceVolumeId, req.Secrets)
	if err != nil {
		return nil, err
	}
	id := volume.SnapshotID{Volume: a.id, Snap: volume.ObjectName(req.Name)}
	request := volume.Hash(req.Name)
	for s, err := range a.portal.Snaps(ctx, &apiv1.ListSnapRequest{Label: []string{volume.RequestLabel + "=" + request}}) {
		if err != nil {
			return nil, statusOf(err)
		}
		if s.DaName != a.DaName {
			return nil, refuse(codes.AlreadyExists, "there is a snapshot %s of another volume, %s", req.Name, s.DaName)
		}
	}
	made, err := a.portal.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: a.DaName, SnapName: id.Snap,
		Label: []string{volume.RequestLabel + "=" + request}, Description: "snapshot " + vda.Shorten(req.Name, 200)})
	s := made.GetSnapMsg()
	if err != nil {
		if vda.KindOf(err) != vda.AlreadyExists {
			return nil, statusOf(err)
		}
		found, err := a.portal.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: a.DaName, SnapName: id.Snap})
		if err != nil {
			return nil, statusOf(err)
		}
		if s = found.SnapMsg; label(s.LabelList, volume.RequestLabel) != request {
			return nil, refuse(codes.AlreadyExists, "there is a snap %s of da %s that was not made by this driver", id.Snap, a.DaName)
		}
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(id, s)}, nil
}

// sidecars begin keys of the snapshotter's own.
const sidecars = "csi.storage.k8s.io/"

// noParameters refuses parameters of a class that has none.
func noParameters(class string, parameters map[string]string) error {
	for name, value := range parameters {
		if !strings.HasPrefix(name, sidecars) {
			return refuse(codes.InvalidArgument, "%s parameter %s (%q) is not known; there are none", class, vda.Shorten(name, 80),
				vda.Shorten(value, 40))
		}
	}
	return nil
}

// snapshot is a snap as orchestrators see it.
func snapshot(id volume.SnapshotID, s *apiv1.SnapMsg) *csi.Snapshot {
	at := s.TakenTime
	if at == "" {
		at = s.AskedTime
	}
	when, _ := time.Parse(time.RFC3339Nano, at)
	msg := &csi.Snapshot{SnapshotId: id.String(), SourceVolumeId: id.Volume.String(), SizeBytes: int64(s.DaSize),
		CreationTime: timestamppb.New(when), ReadyToUse: s.State == vda.SnapTaken.String()}
	if label(s.LabelList, volume.GroupLabel) != "" {
		msg.GroupSnapshotId = volume.GroupID{Portals: id.Volume.Portals, Snap: id.Snap}.String()
	}
	return msg
}

// DeleteSnapshot deletes a snapshot.
func (c *Controller) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if req.SnapshotId == "" {
		return nil, refuse(codes.InvalidArgument, "snapshot_id is missing")
	}
	a, s, err := c.findSnap(ctx, req.SnapshotId, req.Secrets)
	if isNotFound(err) {
		return &csi.DeleteSnapshotResponse{}, nil
	} else if err != nil {
		return nil, err
	}
	id, _ := volume.ParseSnapshotID(req.SnapshotId)
	if group := snapshot(id, s).GroupSnapshotId; group != "" {
		return nil, refuse(codes.InvalidArgument, "snapshot %s is part of the group snapshot %s; it is deleted with that", req.SnapshotId, group)
	}
	if err := deleteSnap(ctx, a.portal, a.DaName, id.Snap); err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// findSnap returns a snapshot and its array; NotFound for one that the driver has not
// made.
func (c *Controller) findSnap(ctx context.Context, snapshotID string, secrets map[string]string) (*array, *apiv1.SnapMsg, error) {
	id, ok := volume.ParseSnapshotID(snapshotID)
	if !ok {
		return nil, nil, refuse(codes.NotFound, "there is no snapshot %q", vda.Shorten(snapshotID, 150))
	}
	a, err := c.find(ctx, id.Volume.String(), secrets)
	if err != nil {
		return nil, nil, err
	}
	reply, err := a.portal.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: a.DaName, SnapName: id.Snap})
	if err != nil {
		return nil, nil, statusOf(err)
	}
	if label(reply.SnapMsg.LabelList, volume.RequestLabel) == "" {
		return nil, nil, refuse(codes.NotFound, "there is no snapshot %q: the snap of that name was not made by this driver", snapshotID)
	}
	return a, reply.SnapMsg, nil
}

// GetSnapshot shows a snapshot.
func (c *Controller) GetSnapshot(ctx context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	if req.SnapshotId == "" {
		return nil, refuse(codes.InvalidArgument, "snapshot_id is missing")
	}
	a, s, err := c.findSnap(ctx, req.SnapshotId, req.Secrets)
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: snapshot(volume.SnapshotID{Volume: a.id, Snap: s.SnapName}, s)}, nil
}

// ListSnapshots lists snapshots: one, those of a volume, or those at the driver's own
// portals.
func (c *Controller) ListSnapshots(ctx context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	after, limit, err := begin(req.StartingToken, req.MaxEntries)
	if err != nil {
		return nil, err
	}
	reply := &csi.ListSnapshotsResponse{}
	add := func(portals string, s *apiv1.SnapMsg) {
		id := volume.SnapshotID{Volume: volume.ID{Portals: portals, Array: s.DaName}, Snap: s.SnapName}
		reply.Entries = append(reply.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot(id, s)})
	}
	if req.SnapshotId != "" {
		a, s, err := c.findSnap(ctx, req.SnapshotId, req.Secrets)
		switch {
		case isNotFound(err):
			return reply, nil
		case err != nil:
			return nil, err
		case req.SourceVolumeId == "" || req.SourceVolumeId == a.id.String():
			add(a.id.Portals, s)
		}
		return reply, nil
	}
	var id volume.ID
	list := &apiv1.ListSnapRequest{Label: []string{volume.RequestLabel}}
	if req.SourceVolumeId != "" {
		a, err := c.find(ctx, req.SourceVolumeId, req.Secrets)
		if isNotFound(err) {
			return reply, nil
		} else if err != nil {
			return nil, err
		}
		id, list.DaName = a.id, &a.DaName
	}
	p, err := c.portals(id.Portals, req.Secrets)
	if err != nil {
		return nil, err
	}
	snaps, more, err := page(after, limit, func(after string, limit uint32) ([]*apiv1.SnapMsg, string, error) {
		list.Token, list.Limit = after, limit
		r, err := p.ListSnap(ctx, list)
		return r.GetSnapMsgList(), r.GetNextToken(), err
	})
	if err != nil {
		return nil, err
	}
	for _, s := range snaps {
		add(id.Portals, s)
	}
	reply.NextToken = more
	return reply, nil
}
