package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// Driver is the name of the driver, under which orchestrators know it.
const Driver = "csi.virtual-disk-array.io"

// Labels of what the driver has made.
const (
	// RequestLabel of an array or snap: a hash of what it was asked to be.
	RequestLabel = Driver + "/request"
	// RatioLabel of an array: the StorageClass's physicalRatio, by which it gets more when it grows.
	RatioLabel = Driver + "/physical-ratio"
	// GroupLabel of a snap that was taken together with others: its group.
	GroupLabel = Driver + "/group"
	// ModeLabel of an exporter: how the node may use it.
	ModeLabel = Driver + "/mode"
	// LocationKey is the segment of topologies.
	LocationKey = Driver + "/location"
)

// ID names a volume.
type ID struct {
	Portals string // host:port, several with commas; "" for the driver's own
	Array   string
}

func (v ID) String() string {
	if v.Portals == "" {
		return v.Array
	}
	return v.Portals + "/" + v.Array
}

// ParseID takes a volume's id apart; false for one that the driver has not made.
func ParseID(id string) (ID, bool) {
	v := ID{Array: id}
	if at := strings.LastIndexByte(id, '/'); at >= 0 {
		v.Portals, v.Array = id[:at], id[at+1:]
		if v.Portals == "" {
			return ID{}, false
		}
	}
	return v, vda.CheckName("da_name", v.Array) == nil
}

// SnapshotID names a snapshot.
type SnapshotID struct {
	Volume ID
	Snap   string
}

func (s SnapshotID) String() string { return s.Volume.String() + "@" + s.Snap }

// ParseSnapshotID takes a snapshot's id apart; false for one that the driver has not
// made.
func ParseSnapshotID(id string) (SnapshotID, bool) {
	at := strings.LastIndexByte(id, '@')
	if at < 0 {
		return SnapshotID{}, false
	}
	v, ok := ParseID(id[:at])
	s := SnapshotID{Volume: v, Snap: id[at+1:]}
	return s, ok && vda.CheckName("snap_name", s.Snap) == nil
}

// GroupID names snapshots that were taken of several volumes at one instant.
type GroupID struct {
	Portals string // of all volumes
	Snap    string // name of all snaps
}

// everyVolume stands in a group's id where a snapshot's id has its volume. No array has the
// name.
const everyVolume = "*"

func (g GroupID) String() string { return ID{g.Portals, everyVolume}.String() + "@" + g.Snap }

// ParseGroupID takes a group's id apart; false for one that the driver has not made.
func ParseGroupID(id string) (GroupID, bool) {
	at := strings.LastIndexByte(id, '@')
	if at < 0 {
		return GroupID{}, false
	}
	g := GroupID{Snap: id[at+1:]}
	if id[:at] != everyVolume {
		portals, ok := strings.CutSuffix(id[:at], "/"+everyVolume)
		if g.Portals = portals; !ok || portals == "" {
			return GroupID{}, false
		}
	}
	return g, vda.CheckName("snap_name", g.Snap) == nil
}

// Label is the value of GroupLabel.
func (g GroupID) Label() string { return Hash(g.Snap) }

// Member names the group's snapshot of an array.
func (g GroupID) Member(array string) SnapshotID {
	return SnapshotID{Volume: ID{Portals: g.Portals, Array: array}, Snap: g.Snap}
}

// GroupRequest is the value of RequestLabel of the snaps of a group, which says of what
// arrays it was to be; they are sorted. A snapshot of one volume never has it.
func GroupRequest(name string, arrays []string) string {
	return Hash(append([]string{name, "of"}, arrays...)...)
}

// ObjectName is what an array or snap is called of which the orchestrator says name.
func ObjectName(name string) string {
	if vda.CheckName("name", name) == nil {
		return name
	}
	return "csi-" + Hash(name)
}

// ExporterName is what the exporter is called through which a node uses an array.
func ExporterName(nodeNQN string) string { return "csi-" + Hash(nodeNQN)[:20] }

// ArrayOf finds the array in the NQN of an exporter that the driver has made; false for
// any other NQN.
func ArrayOf(nqn, nodeNQN string) (array string, ok bool) {
	rest, ok := strings.CutPrefix(nqn, vda.ExpNQNPrefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "-"+ExporterName(nodeNQN))
}

// Hash is 40 hexadecimal digits that follow from texts.
func Hash(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		h.Write([]byte(t))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}
