package csi

import (
	"net"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// TestUnpublishWithoutLabel: a volume that is published and loses the driver's label is
// not said to be unpublished before it is.
func TestUnpublishWithoutLabel(t *testing.T) {
	c := newCluster(t, 1)
	ctl := c.controller()
	const node = "nqn.2014-08.org.nvmexpress:uuid:6f1c2a3e-8f0b-4c6d-9e55-3c1d5a7b9e01"
	block := rawBlock()
	try(t, func() error {
		_, err := ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{block},
			CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"cntlrCnt": "1"}})
		return err
	})
	try(t, func() error {
		_, err := ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: "pvc-1", NodeId: node,
			VolumeCapability: block})
		return err
	})
	c.must(c.portal.ModifyDa(t.Context(), &apiv1.ModifyDaRequest{DaName: "pvc-1", Label: []string{volume.RequestLabel + "-"}}))
	try(t, func() error {
		_, err := ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: "pvc-1", NodeId: node})
		return err
	})
	_, err := c.portal.GetExp(t.Context(), &apiv1.GetExpRequest{DaName: "pvc-1", ExpName: volume.ExporterName(node)})
	if status.Code(err) != codes.NotFound {
		t.Errorf("the node still has the volume: %v", err)
	}
}

// TestUnpublishEverywhere: a volume is taken away from all nodes, without saying from which.
// The call does not succeed before nothing of them can land, though what it has deleted in
// the first place is not listed any more.
func TestUnpublishEverywhere(t *testing.T) {
	c := newCluster(t, 1)
	ctl := c.controller()
	const node = "nqn.2014-08.org.nvmexpress:uuid:6f1c2a3e-8f0b-4c6d-9e55-3c1d5a7b9e02"
	block := rawBlock()
	try(t, func() error {
		_, err := ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{block},
			CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"cntlrCnt": "1"}})
		return err
	})
	try(t, func() error {
		_, err := ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: "pvc-1", NodeId: node,
			VolumeCapability: block})
		return err
	})
	exp := volume.ExporterName(node)
	c.must(c.portal.ModifyExp(t.Context(), &apiv1.ModifyExpRequest{DaName: "pvc-1", ExpName: exp, Label: []string{volume.ModeLabel + "-"}}))
	unpublish := func() error {
		_, err := ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: "pvc-1"})
		return err
	}
	c.cns[0].stopAgent()
	for range 3 {
		if err := unpublish(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("while the primary cannot be asked: %v", err)
		}
	}
	if _, err := c.portal.GetExp(t.Context(), &apiv1.GetExpRequest{DaName: "pvc-1", ExpName: exp}); status.Code(err) != codes.NotFound {
		t.Errorf("the node still has the volume: %v", err)
	}
	lis, err := net.Listen("tcp", c.cns[0].name)
	if err != nil {
		t.Fatal(err)
	}
	c.cns[0].startAgent(lis)
	try(t, unpublish)
}
