package csi

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// TestVolumeOfASource: volumes are made of a snapshot and of a volume, as large as that or
// larger, and hold what it held; the call is repeated when the source is gone; and the errors
// are those that orchestrators act on.
func TestVolumeOfASource(t *testing.T) {
	c := newCluster(t, 2)
	ctl := c.controller()
	m := newMachine(t, "node0")
	n := node.New(node.Config{Host: m, FileSystems: m, Log: planetest.Log()})
	block := rawBlock()
	order := func(name string, mib, limit int64, from *csi.VolumeContentSource) *csi.CreateVolumeRequest {
		return &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{block}, VolumeContentSource: from,
			CapacityRange: &csi.CapacityRange{RequiredBytes: mib << 20, LimitBytes: limit << 20},
			Parameters:    map[string]string{"physicalRatio": "400"}}
	}
	create := func(name string, mib int64, from *csi.VolumeContentSource) *csi.Volume {
		t.Helper()
		var made *csi.CreateVolumeResponse
		try(t, func() (err error) {
			made, err = ctl.CreateVolume(t.Context(), order(name, mib, 0, from))
			return err
		})
		if got := made.Volume.ContentSource; (got == nil) != (from == nil) {
			t.Errorf("%s: the reply's source is %v", name, got)
		}
		return made.Volume
	}
	// io writes a block of letters to a volume, or reads one.
	io := func(id, letter string) (got string) {
		t.Helper()
		var pub *csi.ControllerPublishVolumeResponse
		try(t, func() (err error) {
			pub, err = ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: m.nqn,
				VolumeCapability: block})
			return err
		})
		staging := t.TempDir()
		try(t, func() error {
			_, err := n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging,
				PublishContext: pub.PublishContext, VolumeCapability: block})
			return err
		})
		array, _ := volume.ParseID(id)
		d, there, err := m.Find(pub.PublishContext["nqn"], "")
		if err != nil || !there {
			t.Fatalf("%s is not there: %v", array.Array, err)
		}
		b := bytes.Repeat([]byte(letter+" "), 4096)[:4096]
		if err := m.io(d.Path, func(ctx context.Context, ns *host.Namespace) error {
			if letter != "" {
				return ns.WriteAt(ctx, b, 2<<20)
			}
			return ns.ReadAt(ctx, b, 2<<20)
		}); err != nil {
			t.Fatal(err)
		}
		try(t, func() error {
			_, err := n.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
			return err
		})
		try(t, func() error {
			_, err := ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: m.nqn})
			return err
		})
		return string(b[:1])
	}
	remove := func(id string) {
		t.Helper()
		try(t, func() error {
			_, err := ctl.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		})
	}

	source := create("source", 4, nil)
	io(source.VolumeId, "a")
	var taken *csi.CreateSnapshotResponse
	try(t, func() (err error) {
		taken, err = ctl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: source.VolumeId})
		return err
	})
	io(source.VolumeId, "b")
	ofSnap := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{
		SnapshotId: taken.Snapshot.SnapshotId}}}
	ofVolume := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{
		VolumeId: source.VolumeId}}}

	for _, x := range []struct {
		what string
		req  *csi.CreateVolumeRequest
		code codes.Code
		says string
	}{
		{"smaller than its source", order("x", 1, 2, ofSnap), codes.OutOfRange, "limit_bytes is 2097152, and source@snap has 4194304 bytes"},
		{"of no snapshot", order("x", 4, 0, &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: "source@other"}}}), codes.NotFound, `da source has no snap "other"`},
		{"of a snapshot without an id", order("x", 4, 0, &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{}}),
			codes.InvalidArgument, "snapshot_id is missing"},
		{"of neither", order("x", 4, 0, &csi.VolumeContentSource{}), codes.InvalidArgument, "neither a volume nor a snapshot"},
	} {
		_, err := ctl.CreateVolume(t.Context(), x.req)
		if status.Code(err) != x.code || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", x.what, err)
		}
	}

	restored := create("restored", 1, ofSnap)
	if restored.CapacityBytes != 4<<20 {
		t.Errorf("the restored volume has %d bytes", restored.CapacityBytes)
	}
	copied := create("copied", 12, ofVolume)
	if copied.CapacityBytes != 12<<20 {
		t.Errorf("the copied volume has %d bytes", copied.CapacityBytes)
	}
	if got := io(restored.VolumeId, ""); got != "a" {
		t.Errorf("the restored volume holds %q", got)
	}
	io(source.VolumeId, "c")
	if got := io(copied.VolumeId, ""); got != "b" {
		t.Errorf("the copied volume holds %q", got)
	}
	for _, x := range []struct {
		what string
		req  *csi.CreateVolumeRequest
	}{
		{"of the volume instead of its snapshot", order("restored", 1, 0, ofVolume)},
		{"of nothing", order("restored", 1, 0, nil)},
		{"larger", order("restored", 8, 0, ofSnap)},
	} {
		if _, err := ctl.CreateVolume(t.Context(), x.req); status.Code(err) != codes.AlreadyExists {
			t.Errorf("the same name, %s: %v", x.what, err)
		}
	}

	// Once all is copied the source goes, and a call that is repeated still finds its volume.
	try(t, func() error {
		_, err := ctl.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: taken.Snapshot.SnapshotId})
		if err != nil && status.Code(err) != codes.FailedPrecondition {
			t.Fatal(err)
		}
		return err
	})
	remove(source.VolumeId)
	if again := create("restored", 1, ofSnap); again.VolumeId != restored.VolumeId {
		t.Errorf("repeated, it is %v", again)
	}
	if again := create("copied", 12, ofVolume); again.VolumeId != copied.VolumeId {
		t.Errorf("repeated, it is %v", again)
	}
	if _, err := ctl.CreateVolume(t.Context(), order("late", 4, 0, ofVolume)); status.Code(err) != codes.NotFound {
		t.Errorf("of a volume that is gone: %v", err)
	}
	if got := io(restored.VolumeId, ""); got != "a" {
		t.Errorf("without its source the restored volume holds %q", got)
	}
	remove(restored.VolumeId)
	remove(copied.VolumeId)
}
