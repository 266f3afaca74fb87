package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// CreateVolume makes an array, or finds the one that an earlier call has made.
func (c *Controller) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if req.Name == "" {
		return nil, refuse(codes.InvalidArgument, "name is missing")
	}
	if err := volume.CheckCapabilities(req.VolumeCapabilities); err != nil {
		return nil, statusOf(err)
	}
	class, err := volume.ParseClass(req.Parameters)
	if err != nil {
		return nil, statusOf(err)
	}
	if class.Limits, _, err = volume.ParseMutable(req.MutableParameters, class.Limits); err != nil {
		return nil, statusOf(err)
	}
	from, err := c.sourceOf(ctx, req)
	if err != nil {
		return nil, err
	}
	p, err := c.portals(class.Portals, req.Secrets)
	if err != nil {
		return nil, err
	}
	v := volume.ID{Portals: class.Portals, Array: volume.ObjectName(req.Name)}
	request := class.Request(req.Name, from.id)
	da, err := c.made(ctx, p, from, v.Array, request, req.CapacityRange)
	if err != nil {
		return nil, err
	}
	if da == nil {
		order, err := newOrder(ctx, req, class, from, p)
		if err != nil {
			return nil, err
		}
		order.DaName, order.Label = v.Array, []string{volume.RequestLabel + "=" + request, volume.RatioLabel + "=" + class.Ratio()}
		made, err := p.CreateDa(ctx, order)
		switch {
		case err == nil:
			da = made.DaMsg
		case vda.KindOf(err) != vda.AlreadyExists:
			return nil, statusOf(err)
		default:
			if da, err = c.same(ctx, p, v.Array, request, order.DaSize, req.CapacityRange); err != nil {
				return nil, err
			}
		}
	}
	if da.Error {
		return nil, refuse(codes.Unavailable, "da %s is made, but not usable yet: %s", v.Array, da.ErrorMsg)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: v.String(), CapacityBytes: int64(da.DaSize),
		VolumeContext: class.Context(), ContentSource: req.VolumeContentSource}}, nil
}

// made returns the array of a copy that an earlier call has made, whatever has become of its
// source since; nil when there is none yet.
func (c *Controller) made(ctx context.Context, p apiv1.PortalClient, from source, name, request string, r *csi.CapacityRange) (
	*apiv1.DaMsg, error) {
	if from.id == "" {
		return nil, nil
	}
	da, err := c.same(ctx, p, name, request, uint64(max(r.GetRequiredBytes(), 0)), r)
	if isNotFound(err) {
		return nil, from.absent
	}
	return da, err
}

// newOrder is what a portal is asked for, but for the name and the label.
func newOrder(ctx context.Context, req *csi.CreateVolumeRequest, class volume.Class, from source, p apiv1.PortalClient) (
	*apiv1.CreateDaRequest, error) {
	want, err := from.capacity(req.CapacityRange)
	if err != nil {
		return nil, err
	}
	size, outside, err := volume.Size(want)
	if outside {
		return nil, refuse(codes.OutOfRange, "%s", statusMessage(err))
	} else if err != nil {
		return nil, statusOf(err)
	}
	if err := from.at(ctx, class.Portals, p); err != nil {
		return nil, err
	}
	physical := class.Physical(size)
	order := &apiv1.CreateDaRequest{CntlrCnt: class.CntlrCnt, DaSize: size, PhysicalSize: &physical,
		DaConf: class.DAConf(), Strict: class.Strict, Redundancy: class.Redundancy,
		RwIosPerSec: class.Limits.RWIOs, RwMbytesPerSec: class.Limits.RWMB, RMbytesPerSec: class.Limits.RMB, WMbytesPerSec: class.Limits.WMB,
		Description: describe(req)}
	from.into(order)
	return order, nil
}

// same returns the array of a volume's name if it is what was asked for.
func (c *Controller) same(ctx context.Context, p apiv1.PortalClient, name, request string, size uint64,
	r *csi.CapacityRange) (*apiv1.DaMsg, error) {
	reply, err := p.GetDa(ctx, &apiv1.GetDaRequest{DaName: name})
	if err != nil {
		return nil, statusOf(err)
	}
	da := reply.DaMsg
	switch has := label(da.LabelList, volume.RequestLabel); {
	case has == "":
		return nil, refuse(codes.AlreadyExists, "there is a da %s that was not made by this driver: it has no label %s", name,
			volume.RequestLabel)
	case has != request:
		return nil, refuse(codes.AlreadyExists, "there is a volume %s, with other parameters or of another source", name)
	case da.DaSize < size || r.GetLimitBytes() > 0 && da.DaSize > uint64(r.GetLimitBytes()):
		return nil, refuse(codes.AlreadyExists, "there is a volume %s of %d bytes; capacity_range: required_bytes is %d and limit_bytes is %d",
			name, da.DaSize, r.GetRequiredBytes(), r.GetLimitBytes())
	}
	return da, nil
}

// describe says for whom a volume is, as far as the orchestrator tells.
func describe(req *csi.CreateVolumeRequest) string {
	text := "volume " + vda.Shorten(req.Name, 200)
	if pvc := req.Parameters["csi.storage.k8s.io/pvc/name"]; pvc != "" {
		text += " of the claim " + req.Parameters["csi.storage.k8s.io/pvc/namespace"] + "/" + pvc
	}
	return text
}

// DeleteVolume deletes an array; what nodes have of it goes when they can be reached.
func (c *Controller) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	a, err := c.find(ctx, req.VolumeId, req.Secrets)
	if isNotFound(err) {
		return &csi.DeleteVolumeResponse{}, nil
	} else if err != nil {
		return nil, err
	}
	err = deleted(ctx, func(ctx context.Context) error {
		_, err := a.portal.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: a.DaName})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ControllerExpandVolume lets an array grow while it serves. Nodes see its size at once;
// a file system grows by NodeExpandVolume.
func (c *Controller) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (
	*csi.ControllerExpandVolumeResponse, error) {
	if req.VolumeId == "" {
		return nil, refuse(codes.InvalidArgument, "volume_id is missing")
	}
	if req.CapacityRange == nil {
		return nil, refuse(codes.InvalidArgument, "capacity_range is missing")
	}
	size, outside, err := volume.Size(req.CapacityRange)
	if outside {
		return nil, refuse(codes.OutOfRange, "%s", statusMessage(err))
	} else if err != nil {
		return nil, statusOf(err)
	}
	a, err := c.find(ctx, req.VolumeId, req.Secrets)
	if err != nil {
		return nil, err
	}
	// Without a capability a node may have a file system to grow.
	node := req.VolumeCapability.GetBlock() == nil
	if a.DaSize < size {
		if err := a.buy(ctx, size); err != nil {
			return nil, err
		}
		reply, err := a.portal.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: a.DaName, DaSize: &size})
		if err != nil {
			return nil, statusOf(err)
		}
		a.DaMsg = reply.DaMsg
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: int64(a.DaSize), NodeExpansionRequired: node}, nil
}

// buy gives an array the physical size to grow to size bytes: what its class's physicalRatio
// says, and for one that is not thin at least its size and what its snapshots hold. An array
// that was made before its ratio was written down gets as much more in proportion as its size
// becomes when it is short of that, and nothing when it is thin. A repeated call buys nothing twice.
func (a *array) buy(ctx context.Context, size uint64) error {
	later := func() error {
		for _, g := range a.GrpMsgList {
			if g.Joining {
				return refuse(codes.Unavailable, "da %s is getting more physical size, and has %d bytes of it yet; it grows when all is there",
					a.DaName, a.PhysicalSize)
			}
		}
		return nil
	}
	least := size + a.SnapSize
	if a.Thin {
		least = 0
	}
	physical, known := volume.PhysicalBy(label(a.LabelList, volume.RatioLabel), size)
	if physical = max(physical, least); a.PhysicalSize >= physical {
		return nil
	}
	if err := later(); err != nil {
		return err
	}
	if !known {
		const mib = 1 << 20 // sizes are multiples of it; the product of two in it has 64 bits
		physical = max(a.PhysicalSize/mib*(size/mib)/(a.DaSize/mib)*mib, least)
	}
	cluster := vda.ClusterSizeFor(size)
	physical = (physical + cluster - 1) / cluster * cluster
	reply, err := a.portal.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: a.DaName, PhysicalSize: &physical})
	if err != nil {
		return statusOf(err)
	}
	a.DaMsg = reply.DaMsg
	return later()
}

// ControllerModifyVolume changes the limits of an array while it serves.
func (c *Controller) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (
	*csi.ControllerModifyVolumeResponse, error) {
	a, err := c.find(ctx, req.VolumeId, req.Secrets)
	if err != nil {
		return nil, err
	}
	before := vda.Limits{RWIOs: a.RwIosPerSec, RWMB: a.RwMbytesPerSec, RMB: a.RMbytesPerSec, WMB: a.WMbytesPerSec}
	now, given, err := volume.ParseMutable(req.MutableParameters, before)
	if err != nil {
		return nil, statusOf(err)
	}
	if now == before || len(given) == 0 {
		return &csi.ControllerModifyVolumeResponse{}, nil
	}
	if _, err := a.portal.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: a.DaName, RwIosPerSec: &now.RWIOs, RwMbytesPerSec: &now.RWMB,
		RMbytesPerSec: &now.RMB, WMbytesPerSec: &now.WMB}); err != nil {
		return nil, statusOf(err)
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}

// ValidateVolumeCapabilities confirms what a volume can be.
func (c *Controller) ValidateVolumeCapabilities(ctx context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (
	*csi.ValidateVolumeCapabilitiesResponse, error) {
	if req.VolumeId == "" || len(req.VolumeCapabilities) == 0 {
		return nil, refuse(codes.InvalidArgument, "volume_id or volume_capabilities are missing")
	}
	if _, err := c.find(ctx, req.VolumeId, req.Secrets); err != nil {
		return nil, err
	}
	reply := &csi.ValidateVolumeCapabilitiesResponse{}
	if err := volume.CheckCapabilities(req.VolumeCapabilities); err != nil {
		reply.Message = statusMessage(err)
		return reply, nil
	}
	if _, err := volume.ParseClass(req.Parameters); err != nil {
		reply.Message = statusMessage(err)
		return reply, nil
	}
	reply.Confirmed = &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeContext: req.VolumeContext,
		VolumeCapabilities: req.VolumeCapabilities, Parameters: req.Parameters, MutableParameters: req.MutableParameters}
	return reply, nil
}
