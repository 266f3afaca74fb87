package portal

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// The lookups name the field and the value in what they refuse. What can be no
// name is refused as such and never reaches the database.

func findNode(tx store.Reader, k vda.NodeKind, name string) (*vda.Node, error) {
	if err := vda.CheckNodeName(string(k)+"_name", name); err != nil {
		return nil, err
	}
	n, err := tx.NodeByName(k, name)
	if isKind(err, vda.NotFound) {
		return nil, vda.Errorf(vda.NotFound, "there is no %s %q%s", k, vda.Shorten(name, 80), namesake(tx, k, name))
	}
	return n, err
}

// namesake says whose agent is at an address that was given as a name.
func namesake(tx store.Reader, k vda.NodeKind, addr string) string {
	other, err := agentAt(tx, k, addr, "")
	if err != nil || other == "" {
		return ""
	}
	return "; the agent there is that of " + k.Title(other)
}

// agentAt names the node whose agent is at an address, another than ownID; "" for none.
func agentAt(tx store.Reader, k vda.NodeKind, addr, ownID string) (name string, err error) {
	nodes, err := tx.NodesAt(k, addr)
	for i := range nodes {
		if nodes[i].ID != ownID {
			return nodes[i].Name, err
		}
	}
	return "", err
}

// agentFree refuses the address of another node's agent: an agent serves one node.
func agentFree(tx store.Reader, k vda.NodeKind, addr, ownID string) error {
	other, err := agentAt(tx, k, addr, ownID)
	if err != nil || other == "" {
		return err
	}
	return refuse(codeAddressTaken, vda.AlreadyExists, "the agent at %s is that of %s", addr, k.Title(other))
}

func findPD(tx store.Reader, dnName, name string) (*vda.Node, *vda.PD, error) {
	if err := vda.CheckName("pd_name", name); err != nil {
		return nil, nil, err
	}
	dn, err := findNode(tx, vda.DiskNode, dnName)
	if err != nil {
		return nil, nil, err
	}
	pd, err := tx.PDByName(dn.ID, name)
	if isKind(err, vda.NotFound) {
		return nil, nil, noPD(dn, name)
	}
	return dn, pd, err
}

func noPD(dn *vda.Node, name string) error {
	return vda.Errorf(vda.NotFound, "dn %s has no pd %q", dn.Name, vda.Shorten(name, 80))
}

// lockPD returns a pd as it is now that it is locked, which it was not when it was
// found. One that has been deleted meanwhile is not found, unless deleted says
// that it counts.
func lockPD(tx store.Tx, dn *vda.Node, found *vda.PD, deleted bool) (*vda.PD, error) {
	pd, err := tx.PD(found.ID)
	if isKind(err, vda.NotFound) || err == nil && pd.Deleted && !deleted {
		return nil, noPD(dn, found.Name)
	}
	return pd, err
}

func findDA(tx store.Reader, name string) (*vda.DA, error) {
	if err := vda.CheckName("da_name", name); err != nil {
		return nil, err
	}
	da, err := tx.DAByName(name)
	if isKind(err, vda.NotFound) {
		return nil, vda.Errorf(vda.NotFound, "there is no da %q", vda.Shorten(name, 80))
	}
	return da, err
}

func findSnap(tx store.Reader, daName, name string) (*vda.DA, *vda.Snap, error) {
	da, err := findDA(tx, daName)
	if err != nil {
		return nil, nil, err
	}
	snap, err := findSnapOf(tx, da, name)
	return da, snap, err
}

func findSnapOf(tx store.Reader, da *vda.DA, name string) (*vda.Snap, error) {
	if err := vda.CheckName("snap_name", name); err != nil {
		return nil, err
	}
	snap, err := tx.SnapByName(da.ID, name)
	if isKind(err, vda.NotFound) {
		return nil, vda.Errorf(vda.NotFound, "da %s has no snap %q", da.Name, vda.Shorten(name, 80))
	}
	return snap, err
}

func findExp(tx store.Reader, daName, name string) (*vda.DA, *vda.Exp, error) {
	if err := vda.CheckName("exp_name", name); err != nil {
		return nil, nil, err
	}
	da, err := findDA(tx, daName)
	if err != nil {
		return nil, nil, err
	}
	exp, err := tx.ExpByName(da.ID, name)
	if isKind(err, vda.NotFound) {
		return nil, nil, vda.Errorf(vda.NotFound, "da %s has no exp %q", da.Name, vda.Shorten(name, 80))
	}
	return da, exp, err
}

// taken turns the outcome of a look for a free name into nil (free), the
// caller's answer (taken), or the error of the database.
func taken(err error, answer func() error) error {
	switch {
	case err == nil:
		return answer()
	case isKind(err, vda.NotFound):
		return nil
	}
	return err
}

// nodeID follows from the cluster and the node's name: to its agent, a node
// that was deleted and is created again is the same node. An agent serves one.
func nodeID(tx store.Reader, k vda.NodeKind, name string) (string, error) {
	cluster, err := tx.ClusterID()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(cluster + " " + k.Title(name)))
	return hex.EncodeToString(sum[:16]), nil
}

// addressesFree is addressFree for all addresses of a node that is new.
func addressesFree(tx store.Reader, n *vda.Node) error {
	err := addressFree(tx, n.Listener, "")
	if err == nil && n.Backend != (vda.Listener{}) {
		err = addressFree(tx, n.Backend, "")
	}
	return err
}

// addressFree refuses a listener that another node has, for hosts or for other
// controllers: two targets cannot listen on one address, and a host would reach the
// wrong one.
func addressFree(tx store.Reader, l vda.Listener, ownID string) error {
	for _, k := range []vda.NodeKind{vda.DiskNode, vda.ControllerNode} {
		near, err := tx.NodesListening(k, l.TrAddr)
		if err != nil {
			return err
		}
		for i := range near {
			if n := &near[i]; n.ID != ownID && (n.Listener.Same(l) || n.Backend.Same(l)) {
				return addressTaken(l, k.Title(n.Name))
			}
		}
	}
	return nil
}

func addressTaken(l vda.Listener, by string) error {
	return refuse(codeAddressTaken, vda.AlreadyExists, "the listener address %s port %s is that of %s", l.TrAddr, l.TrSvcID, by)
}

func orTrue(b *bool) bool { return b == nil || *b }
