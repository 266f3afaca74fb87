package portal_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// TestReservations: an array gets reservations when it is made or later, where they hold by all of its
// cns; all controllers are told, also after a move; what is in the way is said; they end, and an array that
// is adopted has them still.
func TestReservations(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 3)
	yes, no := true, false
	create := func(name string, cntlrs uint32, on bool) error {
		_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, DaSize: 8 << 20, CntlrCnt: cntlrs, Reservations: on,
			DaConf: `{"stripe_count":2,"stripe_size_kb":64}`})
		return err
	}
	modify := func(on *bool) error {
		_, err := client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", Reservations: on})
		return err
	}
	can := func(names ...string) {
		t.Helper()
		c.Change(func(tx store.Tx) error {
			cns, _, err := tx.ListCN(store.NodeFilter{}, store.Page{})
			for i := range cns {
				able := false
				for _, name := range names {
					able = able || cns[i].Name == name
				}
				err = errors.Join(err, tx.SetCNReserves(cns[i].ID, able))
			}
			return err
		})
	}
	told := func(what string, want bool) {
		t.Helper()
		da := getDa(t, client)
		if da.Reservations != want {
			t.Errorf("%s: the array shows reservations %v", what, da.Reservations)
		}
		for _, m := range da.CntlrMsgList {
			if spec := lastCntlr(c, m.CnName); what == "refused" && spec != nil || what != "refused" && spec.GetReservations() != want {
				t.Errorf("%s: %s was told %v", what, m.CnName, spec)
			}
		}
	}
	refusal(t, create("da0", 2, true), codes.ResourceExhausted, 10, "with reservations", "cn0:9820 (vda_monitor has not heard yet")
	c.CanMirror()
	if err := create("da0", 2, false); err != nil {
		t.Fatal(err)
	}
	told("made without", false)
	on := getDa(t, client).CntlrMsgList
	first, second := on[0].CnName, on[1].CnName
	third := ""
	for _, name := range []string{"cn0:9820", "cn1:9820", "cn2:9820"} {
		if name != first && name != second {
			third = name
		}
	}
	can(first, third)
	refusal(t, modify(&yes), codes.FailedPrecondition, 8, "reservations is true", "cn "+second)
	told("refused", false)
	refusal(t, create("other", 3, true), codes.ResourceExhausted, 10, "with reservations", second)
	if err := create("other", 2, true); err != nil {
		t.Error(err)
	}
	other := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "other"})).DaMsg
	for _, m := range other.CntlrMsgList {
		if m.CnName == second || !other.Reservations {
			t.Errorf("an array with reservations, %v, has a controller on %s", other.Reservations, m.CnName)
		}
	}
	refusal(t, create("other", 2, false), codes.AlreadyExists, 4, "reservations", "true", "false")
	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "other"}))

	can(first, second)
	if err := modify(&yes); err != nil {
		t.Fatal(err)
	}
	told("turned on", true)
	must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0"}))
	told("after a move", true)
	can(second)
	_, err := client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0", ToCn: first})
	refusal(t, err, codes.FailedPrecondition, 8, "reservations would not hold by cn "+first)
	can(first, second)

	before := getDa(t, client)
	forget(t, c, client, "da0")
	must[*apiv1.AdoptOrphanReply](t)(client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: before.DaId}))
	told("adopted", true)
	if err := modify(&no); err != nil {
		t.Fatal(err)
	}
	told("ended", false)
}
