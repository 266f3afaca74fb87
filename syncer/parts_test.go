package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
)

// slowStore lets a transaction read that many vds and controllers before its time is up. It
// refuses all transactions after left of them, unless left is negative.
type slowStore struct {
	store.Store
	most int
	left int
}

type slowTx struct {
	store.Tx
	most int
}

var errSlow = errors.New("does not answer in time")

func (s *slowStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.left == 0 {
		return errSlow
	}
	s.left--
	return s.Store.Update(ctx, func(tx store.Tx) error { return fn(&slowTx{tx, s.most}) })
}

func (t *slowTx) spend(n int) error {
	if t.most -= n; t.most < 0 {
		return errSlow
	}
	return nil
}

func (t *slowTx) VDsByID(ids []string) ([]vda.VD, error) {
	if err := t.spend(len(ids)); err != nil {
		return nil, err
	}
	return t.Tx.VDsByID(ids)
}

func (t *slowTx) CntlrsByID(ids []string) ([]vda.Cntlr, error) {
	if err := t.spend(len(ids)); err != nil {
		return nil, err
	}
	return t.Tx.CntlrsByID(ids)
}

// TestAnswersInParts: what a node says of hundreds of objects is recorded though no
// transaction has the time for all of them. When that ends half way, the node counts as
// behind, and the next Sync records the rest.
func TestAnswersInParts(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	const n = 250
	f.update(func(tx store.Tx) error {
		vdAt, err := tx.BumpNode(vda.DiskNode, f.dn[0].ID)
		cntlrAt, err2 := tx.BumpNode(vda.ControllerNode, f.cn[1].ID)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		for i := range n {
			da := &vda.DA{ID: store.NewID(), Name: fmt.Sprint("many", i), Size: 1 << 20, PhysicalSize: 1 << 20, CntlrCnt: 1, StripeCount: 1,
				StripeSizeKB: 64, ClusterSize: 1 << 20, Term: 1, Created: true}
			bad := vda.Health{Error: true, Msg: "nobody has made it yet"}
			vd := &vda.VD{ID: store.NewID(), DAID: da.ID, PDID: f.pd[0].ID, DNID: f.dn[0].ID, Clusters: 1, Size: 1 << 20,
				MirrorID: store.NewID(), Version: vdAt, Health: bad}
			c := &vda.Cntlr{ID: store.NewID(), DAID: da.ID, CNID: f.cn[1].ID, Version: cntlrAt, Health: bad}
			if err := errors.Join(tx.InsertDA(da), tx.InsertGrp(&vda.Grp{ID: store.NewID(), DAID: da.ID, Size: 1 << 20}),
				tx.InsertVD(vd), tx.InsertCntlr(c)); err != nil {
				return err
			}
		}
		return nil
	})
	// ill counts the objects of which no answer is recorded.
	ill := func(at array.Node) (ill int) {
		f.view(func(tx store.Reader) error {
			ill = 0
			_, vds, err := tx.DNObjects(at.ID, 0)
			for i := range vds {
				ill += count(vds[i].Health.Error)
			}
			cntlrs, err2 := tx.CNObjects(at.ID, 0)
			for i := range cntlrs {
				ill += count(cntlrs[i].Health.Error)
			}
			return errors.Join(err, err2)
		})
		return ill
	}
	for i, at := range []array.Node{array.DN(f.dn[0].ID), array.CN(f.cn[1].ID)} {
		slow := &slowStore{Store: storetest.Ordered(t, f.store), most: 100, left: 2}
		s, err := syncer.New(syncer.Config{Store: slow, Dial: f.agents, Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
		f.ok(err)
		if err := s.Sync(t.Context(), at, syncer.Changes); !errors.Is(err, errSlow) {
			t.Errorf("%v: a Sync whose third transaction fails: %v", at, err)
		}
		f.equal("of which nothing is recorded after two parts", ill(at), n-200)
		f.equal("nodes behind", len(f.behind()), 2-i)
		slow.left = -1
		if err := s.Sync(t.Context(), at, syncer.Changes); err != nil {
			t.Errorf("%v: %v", at, err)
		}
		f.equal("of which nothing is recorded", ill(at), 0)
		f.equal("nodes behind", len(f.behind()), 1-i)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
