package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestExpand: a volume that grows gets the physical size that its class's ratio says, and not
// twice when the call is repeated.
func TestExpand(t *testing.T) {
	c := newCluster(t, 2)
	ctl := c.controller()
	block := rawBlock()
	for ratio, steps := range map[string][]struct{ size, physical uint64 }{ // MiB
		"100": {{16, 16}, {16, 16}},
		"200": {{12, 24}, {24, 48}, {24, 48}},
		"50":  {{16, 8}}, // thin
	} {
		var made *csi.CreateVolumeResponse
		try(t, func() (err error) {
			made, err = ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "pvc-" + ratio,
				VolumeCapabilities: []*csi.VolumeCapability{block}, CapacityRange: &csi.CapacityRange{RequiredBytes: 8 << 20},
				Parameters: map[string]string{"physicalRatio": ratio}})
			return err
		})
		for _, s := range steps {
			try(t, func() error { // a group may take its time
				r, err := ctl.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: made.Volume.VolumeId,
					VolumeCapability: block, CapacityRange: &csi.CapacityRange{RequiredBytes: int64(s.size << 20)}})
				if err == nil && r.CapacityBytes != int64(s.size<<20) {
					t.Errorf("ratio %s, to %d MiB: %d bytes", ratio, s.size, r.CapacityBytes)
				}
				return err
			})
			reply, err := c.portal.GetDa(t.Context(), &apiv1.GetDaRequest{DaName: "pvc-" + ratio})
			if err != nil {
				t.Fatal(err)
			}
			if da := reply.DaMsg; da.DaSize != s.size<<20 || da.PhysicalSize != s.physical<<20 {
				t.Errorf("ratio %s, to %d MiB: da_size %d, physical_size %d", ratio, s.size, da.DaSize, da.PhysicalSize)
			}
		}
	}
}

// try repeats a call until it succeeds, as orchestrators do: a node may be slow.
func try(t *testing.T, call func() error) {
	t.Helper()
	planetest.Eventually(t, func() string { return status.Convert(call()).Message() })
}
