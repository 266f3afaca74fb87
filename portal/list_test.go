package portal_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// rowCounter counts the questions of views that are about one object.
type rowCounter struct {
	store.Store
	asked *atomic.Int64
}

func (s rowCounter) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.Store.View(ctx, func(tx store.Reader) error { return fn(rowTx{tx, s.asked}) })
}

type rowTx struct {
	store.Reader
	asked *atomic.Int64
}

func (t rowTx) DA(id string) (*vda.DA, error) { t.asked.Add(1); return t.Reader.DA(id) }
func (t rowTx) CN(id string) (*vda.CN, error) { t.asked.Add(1); return t.Reader.CN(id) }
func (t rowTx) ESsOfExp(id string) ([]vda.ES, error) {
	t.asked.Add(1)
	return t.Reader.ESsOfExp(id)
}
func (t rowTx) CntlrsOfDA(id string) ([]vda.Cntlr, error) {
	t.asked.Add(1)
	return t.Reader.CntlrsOfDA(id)
}

// TestListExpAsksOnce: a page of exporters costs as many questions as one, and
// shows what get shows.
func TestListExpAsksOnce(t *testing.T) {
	c := portaltest.New(t)
	var asked atomic.Int64
	client := c.Client(func(cfg *portal.Config) { cfg.Store = rowCounter{cfg.Store, &asked} })
	c.Populate(client, 1, 3)
	for i := range 6 {
		da := fmt.Sprintf("da%d", i)
		must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: da, DaSize: 1 << 20, CntlrCnt: 2}))
		must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: da, ExpName: "e",
			InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	}
	asked.Store(0)
	l := must[*apiv1.ListExpReply](t)(client.ListExp(ctx, &apiv1.ListExpRequest{})).ExpMsgList
	if n := asked.Load(); n != 0 || len(l) != 6 {
		t.Errorf("%d exporters took %d questions about one object", len(l), n)
	}
	for _, e := range l {
		one := must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: e.DaName, ExpName: e.ExpName})).ExpMsg
		if one.String() != e.String() || len(e.EsMsgList) != 2 || e.EsMsgList[0].CntlrIdx != 0 ||
			!strings.HasPrefix(e.EsMsgList[1].CnName, "cn") {
			t.Errorf("listed as %v, shown as %v", e, one)
		}
	}
}
