package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/reason"
)

// Config of a Node.
type Config struct {
	Host        Host
	FileSystems FileSystems
	// Location of the node, "" for none.
	Location string
	// Ways returns the addresses of the controllers through which a node has a volume, for
	// Follow. nil: they are as they were when the volume was staged.
	Ways func(ctx context.Context, v volume.ID, exporter string) ([]string, error)
	// FollowEvery is the time between two looks of Follow. Default 10 s.
	FollowEvery time.Duration
	// DeviceTime is how long a call waits for a namespace, or its size. Default 30 s.
	DeviceTime time.Duration
	Log        *slog.Logger
}

// Node implements the Node service. Safe for concurrent use.
type Node struct {
	csi.UnimplementedNodeServer
	cfg Config

	mu   sync.Mutex
	busy map[string]bool // volumes with a call under way
	// unwell are the volumes with which something was wrong when Follow looked last, by the names
	// of their arrays, and the reasons.
	unwell map[string][]string
	// portals are those that the ids of volumes name which are here, by their arrays, as far as
	// calls have told since the plugin began.
	portals map[string]string
}

// New makes a Node.
func New(cfg Config) *Node {
	if cfg.FollowEvery == 0 {
		cfg.FollowEvery = 10 * time.Second
	}
	if cfg.DeviceTime == 0 {
		cfg.DeviceTime = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Node{cfg: cfg, busy: map[string]bool{}, portals: map[string]string{}}
}

func refuse(code codes.Code, format string, args ...any) error {
	return status.Errorf(code, format, args...)
}

// failed is an error of the machine, or of a request.
func failed(err error, what string, args ...any) error {
	code := codes.Internal
	switch vda.KindOf(err) {
	case vda.InvalidArgument:
		code = codes.InvalidArgument
	case vda.FailedPrecondition:
		code = codes.FailedPrecondition
	}
	return status.Error(code, fmt.Sprintf(what, args...)+": "+reason.Of(err))
}

// claim refuses a second call about a volume while one is under way. It goes by the volume's
// array, which is all that is known of a volume that is followed.
func (n *Node) claim(volumeID string) (release func(), err error) {
	if volumeID == "" {
		return nil, refuse(codes.InvalidArgument, "volume_id is missing")
	}
	key := volumeID
	if id, ok := volume.ParseID(volumeID); ok {
		key = id.Array
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[key] {
		return nil, refuse(codes.Aborted, "another call about volume %s is under way", volumeID)
	}
	n.busy[key] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.busy, key)
	}, nil
}

// learn notes which portals have a volume that is here.
func (n *Node) learn(volumeID string) {
	if v, ok := volume.ParseID(volumeID); ok {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.portals[v.Array] = v.Portals
	}
}

// forget is of a volume that is here no more.
func (n *Node) forget(volumeID string) {
	if v, ok := volume.ParseID(volumeID); ok {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.portals, v.Array)
	}
}

// learnt is the volume of an array. Until a call has named it, after the plugin has begun, the
// driver's own portals are taken to have it.
func (n *Node) learnt(array string) volume.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return volume.ID{Portals: n.portals[array], Array: array}
}

// nqn is the subsystem that a volume is to this host; false for a volume that is not the
// driver's.
func (n *Node) nqn(volumeID string) (string, bool) {
	id, ok := volume.ParseID(volumeID)
	return vda.ExpNQN(id.Array, volume.ExporterName(n.cfg.Host.NQN())), ok
}

// NodeGetInfo says who the node is.
func (n *Node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	reply := &csi.NodeGetInfoResponse{NodeId: n.cfg.Host.NQN()}
	if n.cfg.Location != "" {
		reply.AccessibleTopology = &csi.Topology{Segments: map[string]string{volume.LocationKey: n.cfg.Location}}
	}
	return reply, nil
}

// NodeGetCapabilities says what the service can do.
func (n *Node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	reply := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_GET_STORAGE_HEALTH,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		reply.Capabilities = append(reply.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{
			Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return reply, nil
}

// find is the device of a staged volume; NotFound when there is none.
func (n *Node) find(volumeID string) (Device, error) {
	nqn, ok := n.nqn(volumeID)
	if ok {
		d, there, err := n.cfg.Host.Find(nqn, "")
		if err != nil {
			return d, failed(err, "volume %s", volumeID)
		}
		if there {
			n.learn(volumeID)
			return d, nil
		}
	}
	return Device{}, refuse(codes.NotFound, "volume %s is not staged on this node", vda.Shorten(volumeID, 150))
}

// at is the mount at a path of a volume; NotFound when it is not there, or another's.
func (n *Node) at(volumeID, path string, d Device) (Mount, error) {
	m, there, err := n.cfg.FileSystems.At(path)
	switch {
	case err != nil:
		return m, failed(err, "what is mounted at %s", path)
	case !there || m.Device != d.Path:
		return m, refuse(codes.NotFound, "volume %s is not mounted at %s", volumeID, path)
	}
	return m, nil
}

var errLate = errors.New("it takes too long")

// within bounds what a call waits for.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errLate)
}
