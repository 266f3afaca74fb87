package store

import (
	"cmp"
	"fmt"
	"math/rand/v2"

	"github.com/virtual-disk-array/vda"
)

// A place is looked for among some disks and nodes, not all: what a new array costs must
// not grow with the cluster. Their rows have a random column with an index, and some are
// those that follow a random value.

// spreadOf is that column: the end of an id, of which NewID makes random bits. The
// migration that made the column takes the same.
func spreadOf(id string) string {
	if len(id) < 32 {
		return ""
	}
	return id[24:32]
}

// someRows returns n rows at random, or all there are.
func someRows[T any](t *sqlReader, tb *table[T], where string, n int) ([]T, error) {
	from := fmt.Sprintf("%08x", rand.Uint32())
	rows, err := listRows(t, tb, fmt.Sprintf("%s AND spread >= ? ORDER BY spread, id LIMIT %d", where, n), from)
	if err != nil || len(rows) == n {
		return rows, err
	}
	rest, err := listRows(t, tb, fmt.Sprintf("%s AND spread < ? ORDER BY spread, id LIMIT %d", where, n-len(rows)), from)
	return append(rows, rest...), err
}

func (t *sqlReader) SomePDs(n int) ([]vda.PD, error) {
	return someRows(t.unlocked(), &pdTable, "deleted = FALSE", n)
}

func (t *sqlReader) SomeCNs(n int) ([]vda.CN, error) {
	return someRows(t.unlocked(), &countedCN, "TRUE", n)
}

func (t *sqlReader) DNsByID(ids []string) ([]vda.DN, error) { return byID(t, &drainedDN, ids) }

func (t *sqlReader) CNsByID(ids []string) ([]vda.CN, error) { return byID(t, &countedCN, ids) }

func byID[T any](t *sqlReader, tb *table[T], ids []string) ([]T, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return listRows(t.unlocked(), tb, "id IN ("+marks(len(ids))+")", anys(ids)...)
}

// NodeState is what a monitor has to know of every node, again and again.
type NodeState struct {
	ID, Name         string
	Addr             string // as vda.Node's
	Online           bool
	Version, Applied uint64
	Error            bool // with Msg
	Msg              string
}

// At is where the agent of a node of kind k is, and whose agent it is.
func (n *NodeState) At(k vda.NodeKind) vda.At {
	return vda.At{Kind: string(k), Name: n.Name, Addr: cmp.Or(n.Addr, n.Name)}
}

var nodeStateTables = map[vda.NodeKind]*table[NodeState]{vda.DiskNode: nodeStateTable(vda.DiskNode),
	vda.ControllerNode: nodeStateTable(vda.ControllerNode)}

func nodeStateTable(k vda.NodeKind) *table[NodeState] {
	return &table[NodeState]{
		name: "vda_" + string(k), noun: string(k),
		cols: []string{"id", "name", "addr", "online", "version", "applied", "h_error", "h_msg"},
		dest: func(v *NodeState) []any {
			return []any{&v.ID, &v.Name, &v.Addr, &v.Online, &v.Version, &v.Applied, &v.Error, &v.Msg}
		},
	}
}

func (t *sqlReader) NodeStates(k vda.NodeKind) ([]NodeState, error) {
	return listRows(t.unlocked(), nodeStateTables[k], "TRUE")
}

func (t *sqlReader) NodesAt(k vda.NodeKind, addr string) ([]NodeState, error) {
	return listRows(t.unlocked(), nodeStateTables[k], "addr = ? OR addr = '' AND name = ?", addr, addr)
}
