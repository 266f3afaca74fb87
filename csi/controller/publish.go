package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// ControllerPublishVolume makes an exporter for a node, or finds the one that an earlier
// call has made.
func (c *Controller) ControllerPublishVolume(ctx context.Context, req *csi.ControllerPublishVolumeRequest) (
	*csi.ControllerPublishVolumeResponse, error) {
	switch {
	case req.VolumeId == "":
		return nil, refuse(codes.InvalidArgument, "volume_id is missing")
	case req.NodeId == "":
		return nil, refuse(codes.InvalidArgument, "node_id is missing")
	case req.VolumeCapability == nil:
		return nil, refuse(codes.InvalidArgument, "volume_capability is missing")
	}
	if err := volume.CheckCapability(req.VolumeCapability); err != nil {
		return nil, statusOf(err)
	}
	if vda.CheckInitiator("node_id", req.NodeId) != nil {
		return nil, refuse(codes.NotFound, "there is no node %q: nodes are named by the NQN of their host", vda.Shorten(req.NodeId, 80))
	}
	_, nvme, err := volume.ParseContext(req.VolumeContext)
	if err != nil {
		return nil, statusOf(err)
	}
	keys, err := nvme.Auth.Keys(req.Secrets, "controller-publish-secret")
	if err != nil {
		return nil, statusOf(err)
	}
	a, err := c.find(ctx, req.VolumeId, req.Secrets)
	if err != nil {
		return nil, err
	}
	mode := req.VolumeCapability.AccessMode.Mode
	want := modeLabel(mode, req.Readonly)
	name := volume.ExporterName(req.NodeId)
	if err := onlyNode(ctx, a, name, mode); err != nil { // before anything is made
		return nil, err
	}
	made, err := a.portal.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: a.DaName, ExpName: name, InitiatorNqn: req.NodeId,
		DhchapKey: string(keys.Host), DhchapCtrlrKey: string(keys.Ctrlr), Label: []string{volume.ModeLabel + "=" + want}})
	there := vda.KindOf(err) == vda.AlreadyExists && err != nil
	if err != nil && !there {
		return nil, statusOf(err)
	}
	if err := onlyNode(ctx, a, name, mode); err != nil {
		if !there { // nobody has heard of it
			_, _ = a.portal.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: a.DaName, ExpName: name})
		}
		return nil, err
	}
	reply, err := a.portal.GetExp(ctx, &apiv1.GetExpRequest{DaName: a.DaName, ExpName: name, WithNsUuid: true})
	if err != nil {
		return nil, statusOf(err)
	}
	exp := reply.ExpMsg
	if has := label(exp.LabelList, volume.ModeLabel); has != want || exp.InitiatorNqn != req.NodeId {
		return nil, refuse(codes.AlreadyExists, "volume %s is published to %s as %s; unpublish it there before it can be published as %s",
			req.VolumeId, exp.InitiatorNqn, has, want)
	}
	switch authenticates := slices.Contains(exp.AuthInitiatorNqnList, req.NodeId); {
	case authenticates && keys.Host == "":
		return nil, refuse(codes.AlreadyExists, "volume %s is published to %s with a key; unpublish it there before it can be published "+
			"without", req.VolumeId, req.NodeId)
	case keys.Host != "" && there: // those of the secret may be others by now
		if _, err := a.portal.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: a.DaName, ExpName: name, DhchapHost: req.NodeId,
			DhchapKey: string(keys.Host), DhchapCtrlrKey: string(keys.Ctrlr)}); err != nil {
			return nil, statusOf(err)
		}
	}
	pub := volume.Publication{NQN: exp.ExpNqn, UUID: exp.NsUuid, Readonly: req.Readonly}
	why := ""
	for _, es := range exp.EsMsgList {
		l, err := vda.ParseListener("cn_listener_conf", es.CnListenerConf)
		if err != nil {
			return nil, statusOf(err)
		}
		pub.Addresses = append(pub.Addresses, l.String())
		if es.Error {
			why += fmt.Sprintf("; cn %s: %s", es.CnName, es.ErrorMsg)
		}
	}
	if note := client.Note(made); note != "" && made != nil {
		c.cfg.Log.Warn("published, but not everywhere yet", "volume", req.VolumeId, "node", req.NodeId, "note", note)
	}
	if len(pub.Addresses) == 0 {
		return nil, refuse(codes.Unavailable, "volume %s has no controller that a node could connect to%s", req.VolumeId, why)
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: pub.Context()}, nil
}

// modeLabel is how an exporter is labelled.
func modeLabel(m volume.Mode, readonly bool) string {
	if readonly {
		return m.String() + ".readonly"
	}
	return m.String()
}

// onlyNode refuses when another node has the volume, unless both may.
func onlyNode(ctx context.Context, a *array, own string, mode volume.Mode) error {
	for exp, err := range a.portal.Exps(ctx, &apiv1.ListExpRequest{DaName: &a.DaName}) {
		if err != nil {
			return statusOf(err)
		}
		if exp.ExpName == own || exp.SnapName != "" {
			continue
		}
		name, _, _ := strings.Cut(label(exp.LabelList, volume.ModeLabel), ".")
		theirs := volume.Mode(csi.VolumeCapability_AccessMode_Mode_value[name])
		if !volume.Shared(mode) || !volume.Shared(theirs) {
			return refuse(codes.FailedPrecondition,
				"volume %s is published to node %s, by exp %s, as %s; only when it is unpublished there it can be "+
					"published as %v elsewhere", a.id, exp.InitiatorNqn, exp.ExpName, name, mode)
		}
	}
	return nil
}

// ControllerUnpublishVolume takes the exporter of a node away, or all that the driver
// has made when no node is named. It succeeds when nothing that the node has sent can
// land any more.
func (c *Controller) ControllerUnpublishVolume(ctx context.Context, req *csi.ControllerUnpublishVolumeRequest) (
	*csi.ControllerUnpublishVolumeResponse, error) {
	a, err := c.named(ctx, req.VolumeId, req.Secrets) // a node may write to it, whatever its labels are
	if isNotFound(err) {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	} else if err != nil {
		return nil, err
	}
	names := []string{volume.ExporterName(req.NodeId)}
	if req.NodeId == "" {
		if names, err = ownExporters(ctx, a); err != nil {
			return nil, err
		}
		names = append(names, "") // those that a call before this has deleted, and that are not fenced yet
	}
	for _, name := range names {
		_, err := a.portal.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: a.DaName, ExpName: name, Fence: true})
		if err != nil && vda.KindOf(err) != vda.NotFound {
			return nil, statusOf(err)
		}
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// ownExporters are the names of those that the driver has made, also when they have lost its
// label.
func ownExporters(ctx context.Context, a *array) (names []string, err error) {
	for exp, err := range a.portal.Exps(ctx, &apiv1.ListExpRequest{DaName: &a.DaName}) {
		if err != nil {
			return nil, statusOf(err)
		}
		if exp.SnapName == "" && (label(exp.LabelList, volume.ModeLabel) != "" || exp.ExpName == volume.ExporterName(exp.InitiatorNqn)) {
			names = append(names, exp.ExpName)
		}
	}
	return names, nil
}
