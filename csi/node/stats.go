package node

import (
	"context"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// NodeGetVolumeStats counts bytes and inodes of a volume.
func (n *Node) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	d, m, err := n.published(req.VolumeId, req.VolumePath)
	if err != nil {
		return nil, err
	}
	bytes := &csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: int64(d.Bytes)}
	if m.FS == "" {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{bytes}}, nil
	}
	u, err := n.cfg.FileSystems.Usage(req.VolumePath)
	if err != nil {
		return nil, failed(err, "volume %s at %s", req.VolumeId, req.VolumePath)
	}
	bytes.Total, bytes.Available = u.Bytes, u.FreeBytes
	bytes.Used = u.Bytes - u.FreeBytes
	inodes := &csi.VolumeUsage{Unit: csi.VolumeUsage_INODES, Total: u.Inodes, Available: u.FreeInodes, Used: u.Inodes - u.FreeInodes}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{bytes, inodes}}, nil
}

// published is a volume at a path at which it is mounted.
func (n *Node) published(volumeID, path string) (Device, Mount, error) {
	switch {
	case volumeID == "":
		return Device{}, Mount{}, refuse(codes.InvalidArgument, "volume_id is missing")
	case path == "":
		return Device{}, Mount{}, refuse(codes.InvalidArgument, "volume_path is missing")
	}
	d, err := n.find(volumeID)
	if err != nil {
		return d, Mount{}, err
	}
	m, err := n.at(volumeID, path, d)
	return d, m, err
}

// NodeExpandVolume lets a file system take all of its volume, once the host sees its
// size.
func (n *Node) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	d, m, err := n.published(req.VolumeId, req.VolumePath)
	if err != nil {
		return nil, err
	}
	release, err := n.claim(req.VolumeId)
	if err != nil {
		return nil, err
	}
	defer release()
	if d, err = n.sized(ctx, req.VolumeId, d, req.CapacityRange.GetRequiredBytes()); err != nil {
		return nil, err
	}
	if m.FS != "" {
		if err := n.cfg.FileSystems.Grow(ctx, d.Path, req.VolumePath, m.FS); err != nil {
			return nil, failed(err, "grow %s of volume %s", m.FS, req.VolumeId)
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: int64(d.Bytes)}, nil
}

// sized waits until a device has a size.
func (n *Node) sized(ctx context.Context, volumeID string, d Device, bytes int64) (Device, error) {
	nqn, _ := n.nqn(volumeID)
	ctx, cancel := within(ctx, n.cfg.DeviceTime)
	defer cancel()
	for asked := false; int64(d.Bytes) < bytes; {
		if !asked {
			asked = true
			if err := n.cfg.Host.Rescan(nqn); err != nil {
				n.cfg.Log.Warn("the host does not look for new sizes", "volume", volumeID, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return d, refuse(codes.Unavailable, "volume %s has %d bytes on this node, and not %d yet: expand it by its controller first", volumeID,
				d.Bytes, bytes)
		case <-time.After(50 * time.Millisecond):
		}
		var err error
		if d, err = n.find(volumeID); err != nil {
			return d, err
		}
	}
	return d, nil
}

// NodeGetStorageHealth says what keeps this node from using volumes.
func (n *Node) NodeGetStorageHealth(context.Context, *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	reply := &csi.NodeGetStorageHealthResponse{}
	if why := n.cfg.Host.Problem(); why != "" {
		reply.BackendHealth = append(reply.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{
			Status: csi.StorageHealthErrorType_STORAGE_UNREACHABLE, Reason: "NoMultipath", Message: why})
	}
	return reply, nil
}
