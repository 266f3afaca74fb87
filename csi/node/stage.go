package node

import (
	"context"
	"os"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/csi/volume"
)

// NodeStageVolume connects the host to a volume, and mounts its file system at the
// staging path, which it makes on a volume that is blank.
func (n *Node) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	release, err := n.claim(req.VolumeId)
	if err != nil {
		return nil, err
	}
	defer release()
	switch {
	case req.StagingTargetPath == "":
		return nil, refuse(codes.InvalidArgument, "staging_target_path is missing")
	case req.VolumeCapability == nil:
		return nil, refuse(codes.InvalidArgument, "volume_capability is missing")
	}
	if err := volume.CheckCapability(req.VolumeCapability); err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	pub, err := volume.ParsePublication(req.PublishContext)
	if err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	mkfs, nvme, err := volume.ParseContext(req.VolumeContext)
	if err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	keys, err := nvme.Auth.Keys(req.Secrets, "node-stage-secret")
	if err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	if nqn, ok := n.nqn(req.VolumeId); !ok || nqn != pub.NQN {
		return nil, refuse(codes.InvalidArgument, "publish_context: nqn is %q; volume %s is %q to this node, whose host is %s",
			pub.NQN, req.VolumeId, nqn, n.cfg.Host.NQN())
	}
	d, err := n.connect(ctx, Target{NQN: pub.NQN, Addresses: pub.Addresses, Options: nvme, Keys: keys}, pub.UUID)
	if err != nil {
		return nil, err
	}
	n.learn(req.VolumeId)
	if req.VolumeCapability.GetMount() != nil {
		// What is looked at, formatted and mounted by name is to be one device.
		letGo, err := n.cfg.Host.Hold(d, pub.NQN, pub.UUID)
		if err != nil {
			return nil, refuse(codes.Unavailable, "volume %s: %s", req.VolumeId, message(err))
		}
		defer letGo()
		if err := n.mount(ctx, req, d, pub, mkfs); err != nil {
			return nil, err
		}
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// connect returns the device of a namespace, connected to by all controllers that can be
// reached now; Follow sees to the others.
func (n *Node) connect(ctx context.Context, t Target, uuid string) (Device, error) {
	if why := n.cfg.Host.Problem(); why != "" {
		return Device{}, refuse(codes.FailedPrecondition, "this node cannot use volumes: %s", why)
	}
	missing, err := n.cfg.Host.Connect(ctx, t)
	if err != nil {
		return Device{}, refuse(codes.Unavailable, "cannot connect to subsystem %s: %s", t.NQN, message(err))
	}
	for _, why := range missing {
		n.cfg.Log.Warn("a controller cannot be reached; it is tried again", "nqn", t.NQN, "err", why)
	}
	wait, cancel := within(ctx, n.cfg.DeviceTime)
	defer cancel()
	d, err := n.cfg.Host.Device(wait, t.NQN, uuid)
	if err != nil {
		return d, refuse(codes.Unavailable, "subsystem %s has no namespace with the UUID %s: %s", t.NQN, uuid, message(err))
	}
	return d, nil
}

// mount mounts a volume's file system at the staging path.
func (n *Node) mount(ctx context.Context, req *csi.NodeStageVolumeRequest, d Device, pub volume.Publication, mkfs []string) error {
	fs := volume.FSType(req.VolumeCapability)
	readonly := pub.Readonly || volume.Readonly(req.VolumeCapability.AccessMode.Mode)
	m, there, err := n.cfg.FileSystems.At(req.StagingTargetPath)
	switch {
	case err != nil:
		return failed(err, "what is mounted at %s", req.StagingTargetPath)
	case there && m.Device == d.Path && (readonly || m.Frozen):
		return nil
	case there && m.Device == d.Path: // by a call that may have ended right after the mount
		if err := n.grow(ctx, req, d, fs); err != nil {
			n.cfg.Log.Warn("a file system that is staged stays smaller than its volume", "err", err)
		}
		return nil
	case there:
		return refuse(codes.FailedPrecondition, "%s of another volume is mounted at the staging path %s: unstage that first", m.Device,
			req.StagingTargetPath)
	}
	content, err := n.cfg.FileSystems.Probe(ctx, d.Path, req.VolumeId)
	switch {
	case err != nil:
		return refuse(codes.FailedPrecondition, "volume %s is not touched: %s", req.VolumeId, message(err))
	case content.Blank && readonly:
		return refuse(codes.FailedPrecondition, "volume %s is blank, and cannot be formatted as it is published read-only", req.VolumeId)
	case content.Blank:
		n.cfg.Log.Info("formatting", "volume", req.VolumeId, "fs", fs, "device", d.Path)
		if err := n.cfg.FileSystems.Format(ctx, d.Path, req.VolumeId, fs, mkfs); err != nil {
			return failed(err, "format volume %s with %s", req.VolumeId, fs)
		}
	case content.FS != fs:
		return refuse(codes.FailedPrecondition, "volume %s has the file system %s, and fs_type is %s", req.VolumeId, content.FS, fs)
	case !readonly:
		if err := n.cfg.FileSystems.Check(ctx, d.Path, fs); err != nil {
			return failed(err, "check %s of volume %s", fs, req.VolumeId)
		}
	}
	if err := os.MkdirAll(req.StagingTargetPath, 0o750); err != nil {
		return failed(err, "make the staging path")
	}
	options := slices.Clone(req.VolumeCapability.GetMount().GetMountFlags())
	if readonly {
		options = append(options, "ro")
	}
	if err := n.cfg.FileSystems.Mount(d.Path, req.StagingTargetPath, fs, options); err != nil {
		return failed(err, "mount %s of volume %s at %s", fs, req.VolumeId, req.StagingTargetPath)
	}
	if readonly {
		return nil
	}
	return n.grow(ctx, req, d, fs)
}

// grow lets a staged file system take all of its device, of which Format leaves the end.
func (n *Node) grow(ctx context.Context, req *csi.NodeStageVolumeRequest, d Device, fs string) error {
	if err := n.cfg.FileSystems.Grow(ctx, d.Path, req.StagingTargetPath, fs); err != nil {
		return failed(err, "grow %s of volume %s", fs, req.VolumeId)
	}
	return nil
}

// NodeUnstageVolume unmounts a volume and disconnects the host. It fails until there is
// nothing left of it.
func (n *Node) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	release, err := n.claim(req.VolumeId)
	if err != nil {
		return nil, err
	}
	defer release()
	if req.StagingTargetPath == "" {
		return nil, refuse(codes.InvalidArgument, "staging_target_path is missing")
	}
	nqn, ok := n.nqn(req.VolumeId)
	if !ok {
		return &csi.NodeUnstageVolumeResponse{}, nil
	}
	d, there, err := n.cfg.Host.Find(nqn, "")
	if err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	if there {
		if err := n.letGo(req, d); err != nil {
			return nil, err
		}
	} else if m, mounted, err := n.cfg.FileSystems.At(req.StagingTargetPath); err != nil || mounted {
		if err != nil {
			return nil, failed(err, "what is mounted at %s", req.StagingTargetPath)
		}
		// Its device is gone, so that nothing can be written any more.
		if err := n.cfg.FileSystems.Unmount(m.Path); err != nil {
			return nil, failed(err, "unmount %s", m.Path)
		}
	}
	if err := n.cfg.Host.Disconnect(ctx, nqn); err != nil {
		return nil, failed(err, "disconnect from subsystem %s of volume %s", nqn, req.VolumeId)
	}
	n.forget(req.VolumeId)
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// letGo unmounts a volume at its staging path, where alone it may be mounted.
func (n *Node) letGo(req *csi.NodeUnstageVolumeRequest, d Device) error {
	mounts, err := n.cfg.FileSystems.Of(d.Path)
	if err != nil {
		return failed(err, "mounts of volume %s", req.VolumeId)
	}
	staged := 0
	for _, m := range mounts {
		if m.Path != req.StagingTargetPath {
			return refuse(codes.FailedPrecondition, "volume %s is still published at %s: unpublish it there first", req.VolumeId, m.Path)
		}
		staged++
	}
	for range staged {
		if err := n.cfg.FileSystems.Unmount(req.StagingTargetPath); err != nil {
			return failed(err, "unmount volume %s", req.VolumeId)
		}
	}
	if err := n.cfg.FileSystems.Flush(d.Path); err != nil {
		return failed(err, "write what is left of volume %s to it", req.VolumeId)
	}
	return nil
}

func message(err error) string {
	return vda.Shorten(reasonOf(err), 1000)
}
