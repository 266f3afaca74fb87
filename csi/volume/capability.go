package volume

import (
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/virtual-disk-array/vda"
)

// Mode is how a volume may be used.
type Mode = csi.VolumeCapability_AccessMode_Mode

// modes are all that there are; true for those of several nodes.
var modes = map[Mode]bool{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        false,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   false,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: false,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  false,
	csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:    true,
	csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER:  true,
	csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:   true,
}

// Shared reports a mode in which several nodes have the volume at a time.
func Shared(m Mode) bool { return modes[m] }

// Readonly reports a mode in which nobody writes.
func Readonly(m Mode) bool {
	return m == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY || m == csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
}

// FileSystems are those that volumes can have; the first is the default.
var FileSystems = []string{"ext4", "xfs"}

// CheckCapability refuses what a volume cannot be.
func CheckCapability(c *csi.VolumeCapability) error {
	mode := c.GetAccessMode().GetMode()
	if _, known := modes[mode]; !known {
		return vda.Errorf(vda.InvalidArgument, "volume_capability: access mode %v is not one that this driver has", mode)
	}
	switch t := c.GetAccessType().(type) {
	case *csi.VolumeCapability_Block:
		return nil
	case *csi.VolumeCapability_Mount:
		fs := t.Mount.GetFsType()
		if fs != "" && !slices.Contains(FileSystems, fs) {
			return vda.Errorf(vda.InvalidArgument, "volume_capability: fs_type is %q; it must be %s", vda.Shorten(fs, 40),
				strings.Join(FileSystems, " or "))
		}
		if Shared(mode) {
			return vda.Errorf(vda.InvalidArgument, "volume_capability: access mode %v with a file system, which would be mounted on several nodes "+
				"and break: several nodes can share a raw block volume (volumeMode: Block)", mode)
		}
		return nil
	}
	return vda.Errorf(vda.InvalidArgument, "volume_capability has neither block nor mount")
}

// CheckCapabilities refuses none, and those that CheckCapability refuses.
func CheckCapabilities(all []*csi.VolumeCapability) error {
	if len(all) == 0 {
		return vda.Errorf(vda.InvalidArgument, "volume_capabilities are missing")
	}
	for _, c := range all {
		if err := CheckCapability(c); err != nil {
			return err
		}
	}
	return nil
}

// FSType is the file system of a mount capability.
func FSType(c *csi.VolumeCapability) string {
	if fs := c.GetMount().GetFsType(); fs != "" {
		return fs
	}
	return FileSystems[0]
}
