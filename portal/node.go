package portal

import (
	"context"
	"slices"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// What is the same for dns and cns: requests and replies of both have their own
// types, and nothing else differs but what of arrays is on them.

// createNode adds a node and tells its agent.
func (s *Server) createNode(ctx context.Context, k vda.NodeKind, n *vda.Node, tags vda.Tags) (notes []string, err error) {
	err = s.update(ctx, func(tx store.Tx) (err error) {
		if n.ID, err = nodeID(tx, k, n.Name); err != nil { // locks the cluster: one takes an address at a time
			return err
		}
		old, err := tx.Unlocked().NodeByName(k, n.Name)
		if err := taken(err, func() error {
			return existsTagged(tx, old.ID, tags, string(k), n.Name, nodeParameters(old, n)...)
		}); err != nil {
			return err
		}
		if err := addressesFree(tx.Unlocked(), n); err != nil {
			return err
		}
		if err := agentFree(tx.Unlocked(), k, n.Agent(), ""); err != nil {
			return err
		}
		return setTags(tx, n.ID, tags, array.AddNode(tx, k, n))
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, []node{nodeOf(k, n)}), nil
}

// nodeParameters are what a repeated create of a node is compared by.
func nodeParameters(is, n *vda.Node) []parameter {
	return []parameter{{"agent's address", is.Agent(), n.Agent()}, {"listener conf", is.Listener.JSON(), n.Listener.JSON()},
		{"backend listener conf", backendJSON(is), backendJSON(n)}, {"location", is.Location, n.Location}, {"online", is.Online, n.Online}}
}

// deleteNode forgets a node that has nothing; with force one that is lost for
// good, together with what still waits for its confirmation.
func (s *Server) deleteNode(ctx context.Context, k vda.NodeKind, name string, force bool) error {
	return s.update(ctx, func(tx store.Tx) error {
		find := store.Reader(tx) // nothing comes to a node that is locked
		if force {
			find = tx.Unlocked() // arrays are locked before nodes
		}
		n, err := findNode(find, k, name)
		if err != nil {
			return err
		}
		if force {
			parts, forget := "vds of the das", array.ForgetDN
			if k == vda.ControllerNode {
				parts, forget = "controllers of the das", array.ForgetCN
			}
			das, err := forget(tx, n.ID)
			return usedBy(tx, string(k), n.Name, parts, das, err)
		}
		what, names, err := holds(tx.Unlocked(), k, n.ID)
		if err != nil {
			return err
		}
		if names != nil {
			return inUse(string(k), n.Name, what, names)
		}
		return tx.DeleteNode(k, n.ID)
	})
}

// holds names what keeps a node from being deleted: a dn's pds, a cn's
// controllers by their arrays.
func holds(tx store.Reader, k vda.NodeKind, id string) (what string, names []string, err error) {
	if k == vda.ControllerNode {
		what, names, err = partsOn(tx, k, id)
		return what + " of the das", names, err
	}
	pds, _, err := tx.DNObjects(id, 0)
	for i := range pds {
		names = append(names, tombstoned(pds[i].Name, pds[i].Deleted))
	}
	return "pds", names, err
}

// partsOn says what parts of arrays are on a node, and names the arrays.
func partsOn(tx store.Reader, k vda.NodeKind, id string) (what string, das []string, err error) {
	if k == vda.ControllerNode {
		cntlrs, err := tx.CntlrsOfCN(id)
		if err != nil {
			return "", nil, err
		}
		das, err = dasOfCntlrs(tx, cntlrs)
		return "controllers", das, err
	}
	_, vds, err := tx.DNObjects(id, 0)
	if err != nil {
		return "", nil, err
	}
	das, err = dasOfVDs(tx, vds)
	return "vds", das, err
}

// dasOfCntlrs names the arrays that controllers belong to. It locks none: the
// controllers' cn is locked already.
func dasOfCntlrs(tx store.Reader, cntlrs []vda.Cntlr) ([]string, error) {
	known, err := holders(tx, sortedIDs(cntlrs, func(c vda.Cntlr) string { return c.DAID }))
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range cntlrs {
		names = append(names, tombstoned(known[cntlrs[i].DAID], cntlrs[i].Deleted))
	}
	return names, nil
}

// usedBy refuses to delete what arrays need; nil when there are none.
func usedBy(tx store.Reader, kind, name, by string, das []string, err error) error {
	if err != nil || das == nil {
		return err
	}
	known, err := holders(tx, das)
	if err != nil {
		return err
	}
	var names []string
	for _, id := range das {
		if n := known[id]; !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return inUse(kind, name, by, names)
}

// tombstoned marks a name whose object its node still has to remove.
func tombstoned(name string, deleted bool) string {
	if deleted {
		return name + " (deleted, but its node has not confirmed it yet)"
	}
	return name
}

// nodeChange is what a request changes of a node; nil fields stay.
type nodeChange struct {
	addr, listenerConf, location *string
	backend                      *string // of a cn; "": none
	online                       *bool
	tags                         tagChange
}

// modifyNode changes a node, and tells its agent of another address. made gets it as
// the transaction leaves it.
func (s *Server) modifyNode(ctx context.Context, k vda.NodeKind, name string, c nodeChange,
	made func(tx store.Reader, n *vda.Node) error) (notes []string, err error) {
	addr, conf := "new_"+string(k)+"_addr", "new_"+string(k)+"_listener_conf"
	if c.addr == nil && c.listenerConf == nil && c.backend == nil && c.location == nil && c.online == nil && c.tags.none() {
		fields := addr + ", " + conf
		if k == vda.ControllerNode {
			fields += ", " + backendField
		}
		return nil, nothingToModify(fields + ", new_location, new_online, " + tagFields)
	}
	if err := c.tags.check(); err != nil {
		return nil, err
	}
	listener, err := newListener(conf, c.listenerConf)
	if err != nil {
		return nil, err
	}
	if c.backend != nil { // its form: what it must differ from is known later
		if err := new(vda.Node).SetBackend(backendField, *c.backend); err != nil {
			return nil, err
		}
	}
	if c.addr != nil {
		if err := vda.CheckAgentAddr(addr, *c.addr); err != nil {
			return nil, err
		}
	}
	if c.location != nil {
		if err := vda.CheckLocation("new_location", *c.location); err != nil {
			return nil, err
		}
	}
	stranger, err := s.strangerAt(ctx, k, name, c.addr)
	if err != nil {
		return nil, err
	}
	var changed []node
	err = s.update(ctx, func(tx store.Tx) error {
		changed = nil
		if listener != nil || c.backend != nil || c.addr != nil {
			if _, err := tx.ClusterID(); err != nil { // locks it: one takes an address at a time
				return err
			}
		}
		n, err := findNode(tx, k, name)
		if err != nil {
			return err
		}
		moved := listener != nil && *listener != n.Listener
		if moved {
			if err := mayMove(tx.Unlocked(), k, n, *listener); err != nil {
				return err
			}
			n.Listener = *listener
			changed = []node{nodeOf(k, n)}
		}
		if moved || c.backend != nil {
			want := backendJSON(n)
			if c.backend != nil {
				want = *c.backend
			}
			if err := setBackend(tx.Unlocked(), n, want); err != nil {
				return err
			}
			moved, changed = true, []node{nodeOf(k, n)}
		}
		if c.addr != nil && *c.addr != n.Agent() {
			if err := agentMayMove(tx.Unlocked(), k, n, *c.addr, stranger); err != nil {
				return err
			}
			n.SetAgent(*c.addr)
			changed = []node{nodeOf(k, n)}
		}
		setIf(&n.Location, c.location)
		setIf(&n.Online, c.online)
		if err := array.UpdateNode(tx, k, n, moved); err != nil {
			return err
		}
		if err := c.tags.apply(tx, n.ID); err != nil {
			return err
		}
		return made(tx, n)
	})
	if err != nil {
		return nil, err
	}
	var plans []array.Plan
	if c.backend != nil {
		if plans, err = s.retell(ctx, name); err != nil {
			return nil, err
		}
	}
	notes = s.syncSteps(ctx, changed)
	if notes == nil {
		notes = s.carry(ctx, plans...)
	}
	return notes, nil
}

const backendField = "new_cn_backend_listener_conf"

// setBackend has other controllers connect to a cn elsewhere.
func setBackend(tx store.Reader, n *vda.Node, conf string) error {
	if err := n.SetBackend(backendField, conf); err != nil || n.Backend == (vda.Listener{}) {
		return err
	}
	return addressFree(tx, n.Backend, n.ID)
}

// retell has the controllers of all arrays that are on a cn learn where they reach each
// other, array by array: what is cut off is finished when it is called again. It returns
// whom to tell.
func (s *Server) retell(ctx context.Context, cn string) (plans []array.Plan, err error) {
	var das []string
	err = s.view(ctx, func(tx store.Reader) error {
		n, err := findNode(tx, vda.ControllerNode, cn)
		if err != nil {
			return err
		}
		das, err = tx.DAsOnNode(vda.ControllerNode, n.ID)
		return err
	})
	for i := 0; err == nil && i < len(das); i++ {
		var plan array.Plan
		err = s.update(ctx, func(tx store.Tx) (err error) {
			plan, err = array.Retell(tx, das[i])
			return err
		})
		plans = append(plans, plan)
	}
	return plans, err
}

// mayMove refuses to move the address of a node whose parts of arrays are in
// use: those on a dn would be lost to their arrays, and hosts are connected to
// those on a cn.
func mayMove(tx store.Reader, k vda.NodeKind, n *vda.Node, to vda.Listener) error {
	what, das, err := partsOn(tx, k, n.ID)
	if err != nil {
		return err
	}
	if das != nil {
		return inUse(string(k), n.Name, what+" on its present address, of the das", das)
	}
	return addressFree(tx, to, n.ID)
}

// strangerAt says why what answers at addr does not count as the node's agent; nil when it
// is that, or when the node's address does not change.
func (s *Server) strangerAt(ctx context.Context, k vda.NodeKind, name string, addr *string) (stranger, err error) {
	if addr == nil {
		return nil, nil
	}
	var n *vda.Node
	err = s.view(ctx, func(tx store.Reader) (err error) {
		n, err = findNode(tx, k, name)
		return err
	})
	if err != nil || n.Agent() == *addr {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return s.cfg.Agents.Serves(ctx, n.ID, vda.At{Kind: string(k), Name: n.Name, Addr: *addr}), nil
}

// agentMayMove refuses an address where another node's agent is, and, for a node that
// has something, one where its own agent has not answered. A stranger there would be taken
// at its word about what it has never had, as that an old primary is fenced.
func agentMayMove(tx store.Reader, k vda.NodeKind, n *vda.Node, to string, stranger error) error {
	if err := agentFree(tx, k, to, n.ID); err != nil || stranger == nil {
		return err
	}
	what, names, err := holds(tx, k, n.ID)
	if err != nil || names == nil {
		return err
	}
	return refuse(codePrecondition, vda.FailedPrecondition, "%s has %s %s, so its agent has to answer at %s first (%s): start it there with "+
		"the --state-dir that it has had, and try again", k.Title(n.Name), what, firstNames(names), to, because(stranger))
}

func nothingToModify(fields string) error {
	return invalid("nothing to modify: give at least one of %s", fields)
}

func newListener(field string, text *string) (*vda.Listener, error) {
	if text == nil {
		return nil, nil
	}
	l, err := vda.ParseListener(field, *text)
	return &l, err
}

func setIf[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// nodeFilter checks what a list of nodes is asked for.
func nodeFilter(location *string, online, isError *bool, labels []string) (store.NodeFilter, error) {
	f := store.NodeFilter{Location: location, Online: online, Error: isError}
	var err error
	if f.Labels, err = vda.ParseLabelMatches(labels); err != nil || location == nil {
		return f, err
	}
	return f, vda.CheckLocation("location", *location)
}

// syncupNode brings a node to its desired state now, all of it.
func (s *Server) syncupNode(ctx context.Context, k vda.NodeKind, name string, empty bool) (notes []string, err error) {
	var n *vda.Node
	err = s.view(ctx, func(tx store.Reader) (err error) {
		n, err = findNode(tx, k, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.syncSteps(ctx, []node{nodeOf(k, n).whole(empty)}), nil
}
