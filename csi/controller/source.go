package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// source is what a new volume begins with: nothing, what another volume holds now, or a
// snapshot.
type source struct {
	id     string // of the volume or snapshot, "" for nothing
	array  *array
	snap   string
	size   uint64 // bytes
	absent error  // why it is not there
}

// sourceOf looks for what a request says a volume is to begin with. One that is not there
// any more is not an error yet: the volume may have been made before it went.
func (c *Controller) sourceOf(ctx context.Context, req *csi.CreateVolumeRequest) (s source, err error) {
	switch from := req.VolumeContentSource.GetType().(type) {
	case nil:
		if req.VolumeContentSource != nil {
			return s, refuse(codes.InvalidArgument, "volume_content_source names neither a volume nor a snapshot")
		}
		return s, nil
	case *csi.VolumeContentSource_Snapshot:
		if s.id = from.Snapshot.GetSnapshotId(); s.id == "" {
			return s, refuse(codes.InvalidArgument, "volume_content_source: snapshot_id is missing")
		}
		var snap *apiv1.SnapMsg
		if s.array, snap, err = c.findSnap(ctx, s.id, req.Secrets); err == nil {
			s.snap, s.size = snap.SnapName, snap.DaSize
		}
	case *csi.VolumeContentSource_Volume:
		if s.id = from.Volume.GetVolumeId(); s.id == "" {
			return s, refuse(codes.InvalidArgument, "volume_content_source: volume_id is missing")
		}
		if s.array, err = c.find(ctx, s.id, req.Secrets); err == nil {
			s.size = s.array.DaSize
		}
	}
	if isNotFound(err) {
		s.absent, err = err, nil
	}
	return s, err
}

// at refuses a source that is not in the cluster in which the volume is to be made.
func (s *source) at(ctx context.Context, portals string, p apiv1.PortalClient) error {
	if s.array == nil || s.array.id.Portals == portals {
		return nil
	}
	there, err := p.GetDa(ctx, &apiv1.GetDaRequest{DaName: s.array.DaName})
	if err != nil && vda.KindOf(err) != vda.NotFound {
		return statusOf(err)
	}
	if err != nil || there.DaMsg.DaId != s.array.DaId {
		return refuse(codes.InvalidArgument, "volume_content_source: %s is not in the cluster of the StorageClass's portals, %s; "+
			"a copy is in the cluster of its source", s.id, portals)
	}
	return nil
}

// capacity is a request's range of sizes, from that of the source on.
func (s *source) capacity(r *csi.CapacityRange) (*csi.CapacityRange, error) {
	limit := r.GetLimitBytes()
	if limit > 0 && s.size > uint64(limit) {
		return nil, refuse(codes.OutOfRange, "capacity_range: limit_bytes is %d, and %s has %d bytes; a copy has as many, or more",
			limit, s.id, s.size)
	}
	if s.size == 0 || r.GetRequiredBytes() < 0 {
		return r, nil
	}
	return &csi.CapacityRange{RequiredBytes: max(r.GetRequiredBytes(), int64(s.size)), LimitBytes: limit}, nil
}

// into has the array that is ordered be a copy.
func (s *source) into(order *apiv1.CreateDaRequest) {
	switch {
	case s.snap != "":
		order.FromSnap = s.array.DaName + "/" + s.snap
	case s.array != nil:
		order.FromDa = s.array.DaName
	}
}
