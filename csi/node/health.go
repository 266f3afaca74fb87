package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// What may be wrong with a volume on a node.
const (
	fileSystemReadOnly = "FileSystemReadOnly"
	noPath             = "NoPath"
	pathsDown          = "PathsDown"
)

// Ailments are the reasons that volume health has on a node.
var Ailments = []string{fileSystemReadOnly, noPath, pathsDown}

// NodeGetVolumeHealth says what is wrong with a volume on this node.
func (n *Node) NodeGetVolumeHealth(_ context.Context, req *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if req.VolumeId == "" {
		return nil, refuse(codes.InvalidArgument, "volume_id is missing")
	}
	d, err := n.find(req.VolumeId)
	if err != nil {
		return nil, err
	}
	nqn, _ := n.nqn(req.VolumeId)
	ailing, err := n.health(nqn, d)
	if err != nil {
		return nil, failed(err, "volume %s", req.VolumeId)
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: req.VolumeId, HealthStatuses: ailing}}, nil
}

// health is what is wrong with a subsystem's volume on this node.
func (n *Node) health(nqn string, d Device) (ailing []*csi.VolumeHealth_VolumeHealthEntry, err error) {
	add := func(t csi.VolumeHealthErrorType, reason, format string, args ...any) {
		ailing = append(ailing, &csi.VolumeHealth_VolumeHealthEntry{Status: t, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	mounts, err := n.cfg.FileSystems.Of(d.Path)
	if err != nil {
		return nil, fmt.Errorf("its mounts: %w", err)
	}
	for _, m := range mounts {
		if m.Frozen && !m.Readonly {
			add(csi.VolumeHealthErrorType_INACCESSIBLE, fileSystemReadOnly,
				"%s at %s is read-only since an error; see the node's kernel log, then restart the pod on the node after an fsck", m.FS, m.Path)
			break
		}
	}
	controllers, err := n.cfg.Host.Controllers(nqn)
	if err != nil {
		return nil, err
	}
	live := 0
	for _, c := range controllers {
		if c.Live {
			live++
		}
	}
	switch {
	case live == 0:
		add(csi.VolumeHealthErrorType_INACCESSIBLE, noPath, "none of the %d controllers can be reached from this node; I/O waits",
			len(controllers))
	case live < len(controllers):
		add(csi.VolumeHealthErrorType_DEGRADED, pathsDown, "%d of %d controllers can be reached from this node", live, len(controllers))
	}
	return ailing, nil
}

// watchHealth says in the log what has become wrong with a volume, and what no longer is.
// Orchestrators ask for it when they like; a database's owner wants to know since when.
func (n *Node) watchHealth(subsystems map[string]string) {
	now := map[string][]string{}
	for nqn, array := range subsystems {
		d, there, err := n.cfg.Host.Find(nqn, "")
		if err != nil || !there { // it is just being staged or unstaged
			continue
		}
		ailing, err := n.health(nqn, d)
		if err != nil {
			n.cfg.Log.Warn("the health of a volume cannot be told", "volume", array, "err", reasonOf(err))
			continue
		}
		for _, a := range ailing {
			now[array] = append(now[array], a.Reason)
			if !slices.Contains(n.ailing(array), a.Reason) {
				n.cfg.Log.Warn("a volume is not well on this node", "volume", array, "reason", a.Reason, "what", a.Message)
			}
		}
	}
	n.mu.Lock()
	before := n.unwell
	n.unwell = now
	n.mu.Unlock()
	for _, array := range slices.Sorted(maps.Keys(before)) {
		gone := slices.DeleteFunc(slices.Clone(before[array]), func(r string) bool { return slices.Contains(now[array], r) })
		if len(gone) > 0 {
			n.cfg.Log.Info("with a volume it is over on this node", "volume", array, "reason", strings.Join(gone, ","))
		}
	}
}

func (n *Node) ailing(array string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unwell[array]
}

// Unwell counts the volumes of this node that have one of Ailments, as Follow saw them last.
func (n *Node) Unwell(reason string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, reasons := range n.unwell {
		if slices.Contains(reasons, reason) {
			count++
		}
	}
	return count
}
