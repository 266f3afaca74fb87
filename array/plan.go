package array

import (
	"cmp"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Node names a node.
type Node struct {
	Kind vda.NodeKind
	ID   string
}

// DN names a disk node.
func DN(id string) Node { return Node{vda.DiskNode, id} }

// CN names a controller node.
func CN(id string) Node { return Node{vda.ControllerNode, id} }

// compareNodes is the order in which nodes are locked.
func compareNodes(a, b Node) int {
	turn := func(n Node) int { return slices.Index(vda.NodeKinds[:], n.Kind) }
	return cmp.Or(cmp.Compare(turn(a), turn(b)), cmp.Compare(a.ID, b.ID))
}

// Role is the part that the nodes of a stage have in a change.
type Role uint8

// The roles.
const (
	// StandBy are cns whose secondaries close their paths for a planned move.
	StandBy Role = iota + 1
	// Retire are cns whose primary is asked to let go before it is fenced.
	Retire
	// Disks are the dns of an array: they make or delete its vds, and admit its
	// primary and nobody else.
	Disks
	// Primary are cns that become, are or were the array's primary.
	Primary
	// Secondaries are the cns of the other controllers.
	Secondaries
)

// Plan is which nodes have to learn of a change: one stage after the other,
// the nodes of a stage at once.
type Plan []Stage

// Stage is the nodes that have one role.
type Stage struct {
	Role  Role
	Nodes []Node
	// Arrays are the arrays concerned, by node; of StandBy only.
	Arrays map[Node][]string
}

// Of returns the nodes that have a role.
func (p Plan) Of(r Role) []Node {
	for _, s := range p {
		if s.Role == r {
			return s.Nodes
		}
	}
	return nil
}

// IDs returns the ids of a stage's nodes.
func (s *Stage) IDs() []string {
	ids := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		ids[i] = n.ID
	}
	return ids
}

// Join carries several plans of one transition out together: each stage of all of
// them before the next.
func Join(plans ...Plan) Plan {
	var all Plan
	for _, p := range plans {
		for _, s := range p {
			all.add(s.Role, s.Nodes...)
			for n, das := range s.Arrays {
				all.concerns(s.Role, n, das...)
			}
		}
	}
	return all
}

// Nodes returns all nodes of a plan, each once, in the order in which they are
// locked.
func (p Plan) Nodes() []Node {
	var all []Node
	for _, s := range p {
		all = append(all, s.Nodes...)
	}
	slices.SortFunc(all, compareNodes)
	return slices.Compact(all)
}

// add adds a node to the stage of a role, which it makes at the end when there
// is none.
func (p *Plan) add(r Role, nodes ...Node) {
	at := slices.IndexFunc(*p, func(s Stage) bool { return s.Role == r })
	if at < 0 {
		at = len(*p)
		*p = append(*p, Stage{Role: r})
	}
	s := &(*p)[at]
	for _, n := range nodes {
		if !slices.Contains(s.Nodes, n) {
			s.Nodes = append(s.Nodes, n)
		}
	}
}

// concerns notes the arrays for which a node is in a stage, which there is.
func (p Plan) concerns(r Role, n Node, daIDs ...string) {
	s := &p[slices.IndexFunc(p, func(s Stage) bool { return s.Role == r })]
	if s.Arrays == nil {
		s.Arrays = map[Node][]string{}
	}
	s.Arrays[n] = append(s.Arrays[n], daIDs...)
}

// stages makes a plan with empty stages in the order of roles.
func stages(roles ...Role) Plan {
	p := make(Plan, len(roles))
	for i, r := range roles {
		p[i].Role = r
	}
	return p
}

// addCntlr adds a controller's cn.
func (p *Plan) addCntlr(c *vda.Cntlr) {
	r := Secondaries
	if c.Primary {
		r = Primary
	}
	p.add(r, Node{vda.ControllerNode, c.CNID})
}

// addDisks adds the dns of vds, in the order of ids.
func (p *Plan) addDisks(vds []vda.VD) {
	var dns []Node
	for i := range vds {
		dns = append(dns, Node{vda.DiskNode, vds[i].DNID})
	}
	slices.SortFunc(dns, compareNodes)
	p.add(Disks, dns...)
}

// Members is the plan that brings everything of an array up to date, tombstones
// too.
func Members(tx store.Reader, daID string) (Plan, error) {
	return members(tx, daID, stages(Disks, Primary, Secondaries))
}

func members(tx store.Reader, daID string, p Plan) (Plan, error) {
	vds, err := tx.VDsOfDA(daID)
	if err != nil {
		return nil, err
	}
	p.addDisks(vds)
	cntlrs, err := tx.CntlrsOfDA(daID)
	if err != nil {
		return nil, err
	}
	for i := range cntlrs {
		p.addCntlr(&cntlrs[i])
	}
	return p, nil
}
