package portal_test

import (
	"fmt"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// TestArraysAreChangedInTheLockOrder: what a portal does with arrays and
// exporters, beside the transitions themselves, keeps to their lock order.
func TestArraysAreChangedInTheLockOrder(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	c.Populate(c.Client(), 3, 3)
	client := c.Client(func(cfg *portal.Config) { cfg.Store = storetest.Ordered(t, c.Store) })
	for i := range 3 {
		da := fmt.Sprint("da", i)
		must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx,
			&apiv1.CreateDaRequest{DaName: da, DaSize: 4 << 20, CntlrCnt: 3, DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}))
		must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx,
			&apiv1.CreateExpRequest{DaName: da, ExpName: "e", InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
		to := "nqn.2016-06.io.spdk:h2"
		must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: da, ExpName: "e", NewInitiatorNqn: &to}))
		must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: da}))
		must[*apiv1.SyncupDaReply](t)(client.SyncupDa(ctx, &apiv1.SyncupDaRequest{DaName: da}))
		must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: da, ExpName: "e"}))
		name := da + "-renamed"
		must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: da, NewDaName: &name}))
		must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: name}))
	}
}
