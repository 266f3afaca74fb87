package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/csi/controller"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// TestUnpublishWithoutLabel: a volume that is published and loses the driver's label is
// not said to be unpublished before it is.
func TestUnpublishWithoutLabel(t *testing.T) {
	c := newCluster(t, 1)
	ctl, err := controller.New(controller.Config{Portals: []string{c.addr}, Log: planetest.Log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ctl.Close)
	const node = "nqn.2014-08.org.nvmexpress:uuid:6f1c2a3e-8f0b-4c6d-9e55-3c1d5a7b9e01"
	block := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
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
	_, err = c.portal.GetExp(t.Context(), &apiv1.GetExpRequest{DaName: "pvc-1", ExpName: volume.ExporterName(node)})
	if status.Code(err) != codes.NotFound {
		t.Errorf("the node still has the volume: %v", err)
	}
}
