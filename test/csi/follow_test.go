package csi

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// TestFollowAsksTheVolumesPortals: a volume whose StorageClass names portals is followed with
// them, also by a plugin that has begun since, once a call has told it.
func TestFollowAsksTheVolumesPortals(t *testing.T) {
	c := newCluster(t, 2)
	ctl, m, block := c.controller(), newMachine(t, "node0"), rawBlock()
	asked := make(chan volume.ID)
	plugin := func() (n *node.Node, end func()) {
		n = node.New(node.Config{Host: m, FileSystems: m, FollowEvery: 5 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
			Ways: func(ctx context.Context, v volume.ID, _ string) ([]string, error) {
				select {
				case asked <- v:
				case <-ctx.Done():
				}
				return nil, ctx.Err()
			}})
		return n, c.run(func(ctx context.Context) error {
			n.Follow(ctx)
			return nil
		})
	}
	var made *csi.CreateVolumeResponse
	try(t, func() (err error) {
		made, err = ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "v", VolumeCapabilities: []*csi.VolumeCapability{block},
			CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"portals": c.addr}})
		return err
	})
	id, staging := made.Volume.VolumeId, t.TempDir()
	want := volume.ID{Portals: c.addr, Array: "v"}
	var pub *csi.ControllerPublishVolumeResponse
	try(t, func() (err error) {
		pub, err = ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: m.nqn,
			VolumeCapability: block})
		return err
	})
	n, end := plugin()
	try(t, func() error {
		_, err := n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging,
			PublishContext: pub.PublishContext, VolumeCapability: block})
		return err
	})
	<-asked // perhaps before the call had ended
	if got := <-asked; got != want {
		t.Errorf("it is followed as %+v, want %+v", got, want)
	}
	end()

	n, _ = plugin()
	if got := <-asked; got.Array != "v" {
		t.Errorf("a plugin that has begun since follows %+v", got)
	}
	if _, err := n.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	<-asked
	if got := <-asked; got != want {
		t.Errorf("after a call it is followed as %+v, want %+v", got, want)
	}
	go func() { // a look that is under way keeps no call waiting for long
		for range asked {
		}
	}()
	try(t, func() error {
		_, err := n.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
		return err
	})
}
