package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestWritableSnapshotIsNotTheDrivers: a writable snapshot that a user has made of a snapshot of the
// driver's is none that orchestrators see, copy or delete; the snapshot and the volume stay while it is there.
func TestWritableSnapshotIsNotTheDrivers(t *testing.T) {
	c := newCluster(t, 1)
	ctl := c.controller()
	block := rawBlock()
	order := func(name string, from *csi.VolumeContentSource) *csi.CreateVolumeRequest {
		return &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{block}, VolumeContentSource: from,
			CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"cntlrCnt": "1", "physicalRatio": "400"}}
	}
	try(t, func() error {
		_, err := ctl.CreateVolume(t.Context(), order("v", nil))
		return err
	})
	var s *csi.Snapshot
	try(t, func() error {
		made, err := ctl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "v"})
		s = made.GetSnapshot()
		return err
	})
	try(t, func() error {
		_, err := c.portal.CreateSnap(t.Context(), &apiv1.CreateSnapRequest{DaName: "v", SnapName: "w", FromSnap: "s"})
		return err
	})
	const id = "v@w"
	if s.SnapshotId != "v@s" {
		t.Fatalf("the id of a snapshot is %s", s.SnapshotId)
	}

	for what, req := range map[string]*csi.ListSnapshotsRequest{"all": {}, "those of the volume": {SourceVolumeId: "v"}} {
		r, err := ctl.ListSnapshots(t.Context(), req)
		if err != nil || len(r.Entries) != 1 || r.Entries[0].Snapshot.SnapshotId != s.SnapshotId {
			t.Errorf("%s: %v, %v", what, r, err)
		}
	}
	if r, err := ctl.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: id}); err != nil || len(r.Entries) != 0 {
		t.Errorf("itself: %v, %v", r, err)
	}
	refused := func(what string, err error, code codes.Code, says string) {
		t.Helper()
		if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := ctl.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: id})
	refused("get", err, codes.NotFound, "was not made by this driver")
	_, err = ctl.CreateVolume(t.Context(), order("copy", &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}))
	refused("a volume of it", err, codes.NotFound, "was not made by this driver")
	_, err = ctl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "w", SourceVolumeId: "v"})
	refused("a snapshot of its name", err, codes.AlreadyExists, "a snap w of da v that was not made by this driver")

	// What is not the driver's is not there, and so is deleted without harm.
	if _, err := ctl.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id}); err != nil {
		t.Error(err)
	}
	got, err := c.portal.GetSnap(t.Context(), &apiv1.GetSnapRequest{DaName: "v", SnapName: "w"})
	if err != nil || got.SnapMsg.State != "taken" {
		t.Errorf("afterwards it is %v, %v", got, err)
	}
	_, err = ctl.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
	refused("the snapshot that it was made of", err, codes.FailedPrecondition, "still has writable snaps that were made of it: w")
	_, err = ctl.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "v"})
	refused("its volume", err, codes.FailedPrecondition, "still has snaps: s, w")

	try(t, func() error {
		_, err := c.portal.DeleteSnap(t.Context(), &apiv1.DeleteSnapRequest{DaName: "v", SnapName: "w"})
		return err
	})
	try(t, func() error {
		_, err := ctl.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
		return err
	})
	try(t, func() error {
		_, err := ctl.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "v"})
		return err
	})
	list, err := c.portal.ListSnap(t.Context(), &apiv1.ListSnapRequest{})
	if err != nil || len(list.SnapMsgList) != 0 {
		t.Errorf("left are %v, %v", list, err)
	}
}
