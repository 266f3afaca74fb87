package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
)

// orphanPrefix starts the names of notes of orphans: objects that a full set
// did not name any more, without a tombstone. They keep what they have on media,
// and what they were stays known here, so that they can be adopted or deleted.
const orphanPrefix = "orphan-"

func orphanName(kind, id string) string { return orphanPrefix + kind + "-" + id }

// KeepOrphan remembers what an object was. kind is "pd", "vd" or "cntlr".
func (s *State) KeepOrphan(kind, id string, spec proto.Message) error {
	raw, err := protojson.Marshal(spec)
	if err != nil {
		return fmt.Errorf("orphan %s does not encode: %w", id, err)
	}
	return s.Keep(orphanName(kind, id), json.RawMessage(raw))
}

// ForgetOrphan is for one that was deleted.
func (s *State) ForgetOrphan(kind, id string) error { return s.Forget(orphanName(kind, id)) }

// Orphans returns what was kept of one kind, but for objects that are held, by
// id. make makes an empty spec.
func (s *State) Orphans(kind string, held func(id string) bool, make func() proto.Message) (map[string]proto.Message, error) {
	entries, err := os.ReadDir(filepath.Join(filepath.Dir(s.path), notesDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	all := map[string]proto.Message{}
	for _, e := range entries {
		id, is := strings.CutPrefix(e.Name(), orphanName(kind, ""))
		if !is || held(id) || !ValidID(id) {
			continue
		}
		var raw json.RawMessage
		m := make()
		if known, err := s.Kept(e.Name(), &raw); err != nil {
			return nil, err
		} else if known && (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, m) == nil {
			all[id] = m
		}
	}
	return all, nil
}

// OwnRequest refuses a request that is not for this node of its cluster.
func (n *Node) OwnRequest(req interface {
	GetClusterId() string
	GetNodeId() string
}) error {
	cluster, node, _ := n.State.Identity()
	if cluster == "" || req.GetClusterId() != cluster || req.GetNodeId() != node {
		return Status(vda.Errorf(vda.FailedPrecondition, "this agent is node %q of cluster %q; the request is for node %q of cluster %q",
			node, cluster, req.GetNodeId(), req.GetClusterId()))
	}
	return nil
}
