package controller

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// tokenMark begins the tokens of pages. What follows is a portal's.
const tokenMark = "vda:"

// begin reads where a page begins, and how long it may be.
func begin(token string, most int32) (after string, limit uint32, err error) {
	if most < 0 {
		return "", 0, refuse(codes.InvalidArgument, "max_entries is %d; it must not be negative", most)
	}
	after, ok := strings.CutPrefix(token, tokenMark)
	if token != "" && !ok {
		return "", 0, refuse(codes.Aborted, "starting_token %q is not one that a list has answered with", vda.Shorten(token, 40))
	}
	return after, uint32(most), nil
}

// page runs over rows until there are as many as may be: more is the token of the next
// page. Rows of one request of the portal's are never split.
func page[M any](after string, limit uint32, get func(after string, limit uint32) ([]M, string, error)) (rows []M, more string, err error) {
	for {
		var some []M
		left := limit - uint32(len(rows))
		if some, after, err = get(after, left); err != nil {
			return nil, "", statusOf(err)
		}
		rows = append(rows, some...)
		if after == "" {
			return rows, "", nil
		}
		if limit > 0 && uint32(len(rows)) >= limit {
			return rows, tokenMark + after, nil
		}
	}
}

// ListVolumes lists the volumes at the driver's own portals, with the nodes that have
// them.
func (c *Controller) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	das, more, err := c.das(ctx, req.StartingToken, req.MaxEntries, nil)
	if err != nil {
		return nil, err
	}
	p, err := c.portals("", nil)
	if err != nil {
		return nil, err
	}
	nodes := map[string][]string{}
	for exp, err := range p.Exps(ctx, &apiv1.ListExpRequest{Label: []string{volume.ModeLabel}}) {
		if err != nil {
			return nil, statusOf(err)
		}
		nodes[exp.DaName] = append(nodes[exp.DaName], exp.InitiatorNqn)
	}
	reply := &csi.ListVolumesResponse{NextToken: more}
	for _, da := range das {
		reply.Entries = append(reply.Entries, &csi.ListVolumesResponse_Entry{
			Volume: &csi.Volume{VolumeId: da.DaName, CapacityBytes: int64(da.DaSize)},
			Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: nodes[da.DaName]}})
	}
	return reply, nil
}

func (c *Controller) das(ctx context.Context, token string, most int32, secrets map[string]string) ([]*apiv1.DaMsg, string, error) {
	after, limit, err := begin(token, most)
	if err != nil {
		return nil, "", err
	}
	p, err := c.portals("", secrets)
	if err != nil {
		return nil, "", err
	}
	return page(after, limit, func(after string, limit uint32) ([]*apiv1.DaMsg, string, error) {
		r, err := p.ListDa(ctx, &apiv1.ListDaRequest{Limit: limit, Token: after, Label: []string{volume.RequestLabel}})
		return r.GetDaMsgList(), r.GetNextToken(), err
	})
}

// ControllerGetVolume shows a volume, with the nodes that have it.
func (c *Controller) ControllerGetVolume(ctx context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse,
	error) {
	a, err := c.find(ctx, req.VolumeId, nil)
	if err != nil {
		return nil, err
	}
	s := &csi.ControllerGetVolumeResponse_VolumeStatus{}
	for exp, err := range a.portal.Exps(ctx, &apiv1.ListExpRequest{DaName: &a.DaName, Label: []string{volume.ModeLabel}}) {
		if err != nil {
			return nil, statusOf(err)
		}
		s.PublishedNodeIds = append(s.PublishedNodeIds, exp.InitiatorNqn)
	}
	return &csi.ControllerGetVolumeResponse{Volume: &csi.Volume{VolumeId: req.VolumeId, CapacityBytes: int64(a.DaSize)}, Status: s}, nil
}

// ControllerGetVolumeHealth says what is wrong with an array.
func (c *Controller) ControllerGetVolumeHealth(ctx context.Context, req *csi.ControllerGetVolumeHealthRequest) (
	*csi.ControllerGetVolumeHealthResponse, error) {
	a, err := c.find(ctx, req.VolumeId, req.Secrets)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: health(req.VolumeId, a.DaMsg)}, nil
}

// ControllerListVolumeHealth lists the arrays with which something is wrong.
func (c *Controller) ControllerListVolumeHealth(ctx context.Context, req *csi.ControllerListVolumeHealthRequest) (
	*csi.ControllerListVolumeHealthResponse, error) {
	das, more, err := c.das(ctx, req.StartingToken, req.MaxEntries, req.Secrets)
	if err != nil {
		return nil, err
	}
	reply := &csi.ControllerListVolumeHealthResponse{NextToken: more}
	for _, da := range das {
		if h := health(da.DaName, da); len(h.HealthStatuses) > 0 {
			reply.Entries = append(reply.Entries, h)
		}
	}
	return reply, nil
}

// health is what the cluster knows of an array.
func health(volumeID string, da *apiv1.DaMsg) *csi.VolumeHealth {
	h := &csi.VolumeHealth{VolumeId: volumeID}
	add := func(t csi.VolumeHealthErrorType, reason, message string) {
		h.HealthStatuses = append(h.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{Status: t, Reason: reason, Message: message})
	}
	switch {
	case da.Error:
		add(csi.VolumeHealthErrorType_INACCESSIBLE, "ArrayError", da.ErrorMsg)
	case da.RedundancyState != "" && da.RedundancyState != string(vda.RedundancyFull):
		add(csi.VolumeHealthErrorType_DEGRADED, "RedundancyReduced", "the array's redundancy is "+da.RedundancyState)
	}
	if !da.Error && da.WellPathCnt < da.PathCnt {
		add(csi.VolumeHealthErrorType_DEGRADED, "PathsDown", "controllers of the array do not serve it")
	}
	return h
}

// GetCapacity says how much can be made of new volumes of a StorageClass. A volume can be
// used from everywhere, so that topologies make no difference.
func (c *Controller) GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	class, err := volume.ParseClass(req.Parameters)
	if err != nil {
		return nil, statusOf(err)
	}
	p, err := c.portals(class.Portals, nil)
	if err != nil {
		return nil, err
	}
	reply, err := p.GetStatus(ctx, &apiv1.GetStatusRequest{})
	if err != nil {
		return nil, statusOf(err)
	}
	var usable uint64
	for _, l := range reply.StatusMsg.CapacityMsgList {
		usable += l.UsableSize
	}
	legs, err := vda.ParseRedundancy("redundancy", class.Redundancy)
	if err != nil {
		return nil, statusOf(err)
	}
	return &csi.GetCapacityResponse{AvailableCapacity: int64(usable / uint64(legs) * 100 / class.PhysicalRatio)}, nil
}
