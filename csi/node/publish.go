package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/reason"
)

func reasonOf(err error) string { return reason.Of(err) }

// NodePublishVolume shows a staged volume to a workload: its file system as a folder, or
// the device itself as a file.
func (n *Node) NodePublishVolume(_ context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	release, err := n.claim(req.VolumeId)
	if err != nil {
		return nil, err
	}
	defer release()
	switch {
	case req.TargetPath == "":
		return nil, refuse(codes.InvalidArgument, "target_path is missing")
	case req.VolumeCapability == nil:
		return nil, refuse(codes.InvalidArgument, "volume_capability is missing")
	case req.StagingTargetPath == "":
		return nil, refuse(codes.FailedPrecondition, "staging_target_path is missing: volumes are staged before they are published")
	}
	if err := volume.CheckCapability(req.VolumeCapability); err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	d, err := n.find(req.VolumeId)
	if err != nil {
		return nil, err
	}
	mode := req.VolumeCapability.AccessMode.Mode
	readonly := req.Readonly || volume.Readonly(mode) || req.PublishContext["readonly"] == "true"
	from := d.Path
	if req.VolumeCapability.GetMount() != nil {
		from = req.StagingTargetPath
		if m, err := n.at(req.VolumeId, from, d); err != nil {
			return nil, err
		} else if m.Frozen && !m.Readonly && !readonly {
			return nil, refuse(codes.FailedPrecondition, "the file system of volume %s is read-only since an error; see the node's kernel log",
				req.VolumeId)
		}
	} else { // what is mounted holds its device; one that is not is found by its name
		nqn, _ := n.nqn(req.VolumeId)
		letGo, err := n.cfg.Host.Hold(d, nqn, "")
		if err != nil {
			return nil, refuse(codes.Unavailable, "volume %s: %s", req.VolumeId, message(err))
		}
		defer letGo()
	}
	mounts, err := n.cfg.FileSystems.Of(d.Path)
	if err != nil {
		return nil, failed(err, "mounts of volume %s", req.VolumeId)
	}
	for _, m := range mounts {
		switch {
		case m.Path == req.TargetPath && m.Readonly == readonly:
			return &csi.NodePublishVolumeResponse{}, nil
		case m.Path == req.TargetPath:
			return nil, refuse(codes.AlreadyExists, "volume %s is published at %s already, and readonly was %v there", req.VolumeId, m.Path,
				m.Readonly)
		case m.Path != req.StagingTargetPath && mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
			return nil, refuse(codes.FailedPrecondition, "volume %s has the access mode %v and is published at %s already", req.VolumeId, mode,
				m.Path)
		}
	}
	if m, there, err := n.cfg.FileSystems.At(req.TargetPath); err != nil {
		return nil, failed(err, "what is mounted at %s", req.TargetPath)
	} else if there {
		return nil, refuse(codes.FailedPrecondition, "%s is mounted at the target path %s already", m.Device, req.TargetPath)
	}
	if err := makeTarget(req.TargetPath, req.VolumeCapability.GetBlock() != nil); err != nil {
		return nil, failed(err, "make the target path")
	}
	if err := n.cfg.FileSystems.Bind(from, req.TargetPath, readonly); err != nil {
		return nil, failed(err, "publish volume %s at %s", req.VolumeId, req.TargetPath)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// makeTarget makes what a mount covers: a folder, or a file for a device.
func makeTarget(path string, block bool) error {
	if !block {
		return os.MkdirAll(path, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

// NodeUnpublishVolume takes a volume away from a workload.
func (n *Node) NodeUnpublishVolume(_ context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	release, err := n.claim(req.VolumeId)
	if err != nil {
		return nil, err
	}
	defer release()
	if req.TargetPath == "" {
		return nil, refuse(codes.InvalidArgument, "target_path is missing")
	}
	for {
		_, there, err := n.cfg.FileSystems.At(req.TargetPath)
		if err != nil {
			return nil, failed(err, "what is mounted at %s", req.TargetPath)
		}
		if !there {
			break
		}
		if err := n.cfg.FileSystems.Unmount(req.TargetPath); err != nil {
			return nil, failed(err, "unmount volume %s at %s", req.VolumeId, req.TargetPath)
		}
	}
	// The folder is empty, or the file: anything else was never ours.
	if err := os.Remove(req.TargetPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failed(err, "remove the target path")
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}
