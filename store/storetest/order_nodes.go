package storetest

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func levelOf(k vda.NodeKind) int {
	if k == vda.ControllerNode {
		return levelCN
	}
	return levelDN
}

func (r *Recorder) Node(k vda.NodeKind, id string) (*vda.Node, error) {
	r.take(levelOf(k), id)
	return r.Tx.Node(k, id)
}
func (r *Recorder) NodeByName(k vda.NodeKind, name string) (*vda.Node, error) {
	n, err := r.Tx.NodeByName(k, name)
	if err == nil {
		r.take(levelOf(k), n.ID)
	}
	return n, err
}
func (r *Recorder) CN(id string) (*vda.CN, error) { r.take(levelCN, id); return r.Tx.CN(id) }
func (r *Recorder) DN(id string) (*vda.DN, error) { r.take(levelDN, id); return r.Tx.DN(id) }
func (r *Recorder) ListCN(f store.NodeFilter, p store.Page) ([]vda.CN, string, error) {
	rows, next, err := r.Tx.ListCN(f, p)
	r.take(levelCN, ids(rows, idOfCN)...)
	return rows, next, err
}
func (r *Recorder) ListDN(f store.NodeFilter, p store.Page) ([]vda.DN, string, error) {
	rows, next, err := r.Tx.ListDN(f, p)
	r.take(levelDN, ids(rows, idOfDN)...)
	return rows, next, err
}
func (r *Recorder) InsertNode(k vda.NodeKind, n *vda.Node) error {
	r.fresh(levelOf(k), n.ID)
	return r.Tx.InsertNode(k, n)
}
func (r *Recorder) UpdateNode(k vda.NodeKind, n *vda.Node) error {
	r.take(levelOf(k), n.ID)
	return r.Tx.UpdateNode(k, n)
}
func (r *Recorder) DeleteNode(k vda.NodeKind, id string) error {
	r.take(levelOf(k), id)
	return r.Tx.DeleteNode(k, id)
}
func (r *Recorder) BumpNode(k vda.NodeKind, id string) (uint64, error) {
	r.take(levelOf(k), id)
	return r.Tx.BumpNode(k, id)
}
func (r *Recorder) RaiseNode(k vda.NodeKind, id string, n uint64) error {
	r.take(levelOf(k), id)
	return r.Tx.RaiseNode(k, id, n)
}
func (r *Recorder) SetNodeApplied(k vda.NodeKind, id string, n uint64) error {
	r.take(levelOf(k), id)
	return r.Tx.SetNodeApplied(k, id, n)
}

func (r *Recorder) SetCNAuth(id string, auth bool) error {
	r.take(levelOf(vda.ControllerNode), id)
	return r.Tx.SetCNAuth(id, auth)
}

func (r *Recorder) SetCNReserves(id string, reserves bool) error {
	r.take(levelOf(vda.ControllerNode), id)
	return r.Tx.SetCNReserves(id, reserves)
}

func (r *Recorder) SetCNMirrors(id string, mirrors bool) error {
	r.take(levelOf(vda.ControllerNode), id)
	return r.Tx.SetCNMirrors(id, mirrors)
}

func (r *Recorder) SetDNDrain(id string, drain bool) error {
	r.take(levelOf(vda.DiskNode), id)
	return r.Tx.SetDNDrain(id, drain)
}

func (r *Recorder) SetCNDrain(id string, drain vda.CNDrain) error {
	r.take(levelOf(vda.ControllerNode), id)
	return r.Tx.SetCNDrain(id, drain)
}

func (r *Recorder) SetHealth(o store.Object, id string, h vda.Health) error {
	r.takeOf(o, id)
	return r.Tx.SetHealth(o, id, h)
}

func (r *Recorder) SetHealths(o store.Object, ids []string, h vda.Health) error {
	for _, id := range ids {
		r.takeOf(o, id)
	}
	return r.Tx.SetHealths(o, ids, h)
}

func (r *Recorder) takeOf(o store.Object, id string) {
	switch o {
	case store.ObjDA:
		r.take(levelDA, id)
	case store.ObjPD:
		r.take(levelPD, id)
	case store.ObjCN:
		r.take(levelCN, id)
	case store.ObjDN:
		r.take(levelDN, id)
	}
}
