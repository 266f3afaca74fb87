package csi

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestGroupSnapshot: snapshots of several volumes are taken together, once, whatever becomes
// of calls, and go together.
func TestGroupSnapshot(t *testing.T) {
	c := newCluster(t, 1)
	ctl := c.controller()
	block := rawBlock()
	for _, name := range []string{"log", "tables", "other"} {
		try(t, func() error {
			_, err := ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{block},
				CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"cntlrCnt": "1", "physicalRatio": "400"}})
			return err
		})
	}
	create := func(ctx context.Context, ids ...string) (*csi.VolumeGroupSnapshot, error) {
		r, err := ctl.CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: ids,
			Parameters: map[string]string{"csi.storage.k8s.io/volumegroupsnapshot/name": "daily"}})
		return r.GetGroupSnapshot(), err
	}
	refused := func(what string, err error, code codes.Code, says string) {
		t.Helper()
		if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}

	_, err := create(t.Context(), "log", "tables", "log")
	refused("one volume twice", err, codes.InvalidArgument, "log twice")
	_, err = create(t.Context(), "log", "absent")
	refused("a volume that is not there", err, codes.NotFound, "absent")
	_, err = create(t.Context())
	refused("no volume", err, codes.InvalidArgument, "source_volume_ids")
	_, err = ctl.CreateVolumeGroupSnapshot(t.Context(), &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{"log"},
		Parameters: map[string]string{"color": "red"}})
	refused("a parameter", err, codes.InvalidArgument, `VolumeGroupSnapshotClass parameter color ("red")`)

	for i := range 4 { // calls that end early, and may be carried out all the same
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Millisecond)
		_, _ = create(ctx, "tables", "log")
		cancel()
	}
	var g *csi.VolumeGroupSnapshot
	try(t, func() (err error) {
		g, err = create(t.Context(), "tables", "log")
		return err
	})
	if g.GroupSnapshotId != "*@g" || !g.ReadyToUse || g.CreationTime.AsTime().Before(time.Now().Add(-time.Hour)) || len(g.Snapshots) != 2 {
		t.Fatalf("%v", g)
	}
	var ids []string
	var together []string
	for _, s := range g.Snapshots {
		ids = append(ids, s.SnapshotId)
		if s.GroupSnapshotId != g.GroupSnapshotId || !s.ReadyToUse || s.SourceVolumeId+"@g" != s.SnapshotId || s.SizeBytes != 4<<20 {
			t.Errorf("%v", s)
		}
		one, err := ctl.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: s.SnapshotId})
		if err != nil || one.Snapshot.GroupSnapshotId != g.GroupSnapshotId {
			t.Errorf("%v, %v", one, err)
		}
		row, err := c.portal.GetSnap(t.Context(), &apiv1.GetSnapRequest{DaName: s.SourceVolumeId, SnapName: "g"})
		if err != nil {
			t.Fatal(err)
		}
		together = append(together, row.SnapMsg.TogetherId)
		_, err = ctl.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
		refused("a member goes alone", err, codes.InvalidArgument, "is part of the group snapshot *@g")
	}
	if !slices.Equal(ids, []string{"log@g", "tables@g"}) || together[0] == "" || together[0] != together[1] {
		t.Errorf("%v of instants %v", ids, together)
	}
	list, err := ctl.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{})
	if err != nil || len(list.Entries) != 2 || list.Entries[0].Snapshot.GroupSnapshotId != g.GroupSnapshotId {
		t.Errorf("%v, %v", list, err)
	}
	again, err := create(t.Context(), "log", "tables")
	if err != nil || again.Snapshots[0].CreationTime.AsTime() != g.Snapshots[0].CreationTime.AsTime() {
		t.Errorf("again: %v, %v", again, err)
	}
	_, err = create(t.Context(), "log", "other")
	refused("other volumes", err, codes.AlreadyExists, "of other volumes")
	_, err = ctl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "g", SourceVolumeId: "log"})
	refused("a snapshot of a member's name", err, codes.AlreadyExists, "snap g of da log")

	get := func(ids ...string) error {
		r, err := ctl.GetVolumeGroupSnapshot(t.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: "*@g", SnapshotIds: ids})
		if err == nil && len(r.GroupSnapshot.Snapshots) != 2 {
			t.Errorf("%v", r)
		}
		return err
	}
	remove := func(ids ...string) error {
		_, err := ctl.DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: "*@g", SnapshotIds: ids})
		return err
	}
	for what, call := range map[string]func(...string) error{"get": get, "delete": remove} {
		refused(what+" without a member", call("log@g"), codes.InvalidArgument, "tables@g is missing")
		refused(what+" with another's", call("log@g", "tables@g", "other@h"), codes.InvalidArgument, `"other@h"`)
	}
	if err := get(ids...); err != nil {
		t.Error(err)
	}

	// One that a host is shown stays, and so do the others.
	c.must(c.portal.CreateExp(t.Context(), &apiv1.CreateExpRequest{DaName: "tables", ExpName: "look", SnapName: "g",
		InitiatorNqn: "nqn.2016-06.io.spdk:reader"}))
	refused("a member is used", remove(ids...), codes.FailedPrecondition, "look")
	if err := get(ids...); err != nil {
		t.Errorf("after a deletion that was refused: %v", err)
	}
	c.must(c.portal.DeleteExp(t.Context(), &apiv1.DeleteExpRequest{DaName: "tables", ExpName: "look"}))

	// What is gone halfway is not taken for whole, and goes.
	c.must(c.portal.DeleteSnap(t.Context(), &apiv1.DeleteSnapRequest{DaName: "log", SnapName: "g"}))
	_, err = create(t.Context(), "log", "tables")
	refused("created while it is deleted", err, codes.Aborted, "of tables there are snapshots still")
	for range 2 {
		try(t, func() error { return remove(ids...) })
	}
	refused("get of what is gone", get(ids...), codes.NotFound, "*@g")
	try(t, func() (err error) { // of one volume
		g, err = create(t.Context(), "other")
		return err
	})
	if len(g.Snapshots) != 1 || g.Snapshots[0].SnapshotId != "other@g" || !g.ReadyToUse {
		t.Errorf("%v", g)
	}
	if err := remove("other@g"); err != nil {
		t.Error(err)
	}
}
