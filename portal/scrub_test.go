package portal_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// TestScrubDa: a scrub is ordered from the primary, and what it finds makes the array
// in error until it is repaired.
func TestScrubDa(t *testing.T) {
	c, client := mirroredCluster(t, 3)
	primary := ""
	for _, v := range getDa(t, client).CntlrMsgList {
		if v.Primary {
			primary = v.CnName
		}
	}
	scrub := func(change func(*apiv1.ScrubDaRequest)) (*apiv1.DaMsg, error) {
		r := &apiv1.ScrubDaRequest{DaName: "da0"}
		change(r)
		reply, err := client.ScrubDa(ctx, r)
		return reply.GetDaMsg(), err
	}
	all := func(*apiv1.ScrubDaRequest) {}
	stop := func(r *apiv1.ScrubDaRequest) { r.Stop = true }
	from := func(vd string) func(*apiv1.ScrubDaRequest) {
		return func(r *apiv1.ScrubDaRequest) { r.RepairFrom = &vd }
	}
	_, err := scrub(stop)
	refusal(t, err, codes.FailedPrecondition, 8, "no scrub of it is running")
	_, err = scrub(from("x"))
	refusal(t, err, codes.NotFound, 3, `no vd "x"`)
	_, err = scrub(from(""))
	refusal(t, err, codes.InvalidArgument, 2, "repair_from")
	_, err = scrub(func(r *apiv1.ScrubDaRequest) { from("x")(r); stop(r) })
	refusal(t, err, codes.InvalidArgument, 2, "repair_from", "stop")
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "plain", DaSize: 1 << 20}))
	_, err = scrub(func(r *apiv1.ScrubDaRequest) { r.DaName = "plain" })
	refusal(t, err, codes.FailedPrecondition, 8, "redundancy none")

	if da := getDa(t, client); da.ScrubMsgList != nil {
		t.Errorf("before: %v", da.ScrubMsgList)
	}
	da := must[*apiv1.DaMsg](t)(scrub(all))
	var size uint64
	for _, g := range da.GrpMsgList {
		size += g.Size
	}
	if m := da.ScrubMsgList[0]; m.State != "running" || m.DoneBytes != 0 || m.TotalBytes != size || m.Mismatches != 0 {
		t.Errorf("begun: %v of %d bytes", m, size)
	}
	orders := c.Agent(primary).Scrubs()
	if len(orders) != 1 || orders[0].DaId != da.DaId || orders[0].Term != da.Term || orders[0].ScrubId == "" || orders[0].Stop {
		t.Fatalf("the primary got %v", orders)
	}
	// says has the primary say what is found in the first column; the other is done.
	says := func(id string, term uint64, first vda.Scrub) {
		t.Helper()
		err := c.Store.Update(ctx, func(tx store.Tx) error {
			mirrors, err := tx.MirrorsOfDA(da.DaId)
			if err != nil {
				return err
			}
			r := &array.LegsReport{DAID: da.DaId, Term: term}
			first.ID = id
			for i, m := range mirrors {
				s := vda.Scrub{ID: id, State: vda.ScrubDone, Done: m.Size}
				if i == 0 {
					s = first
				}
				r.Mirrors = append(r.Mirrors, array.MirrorReport{ID: m.ID, Gen: m.Gen, Scrub: s})
			}
			return array.NoteScrub(tx, r)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(state string, mismatches, repaired uint64, isError bool) {
		t.Helper()
		now := getDa(t, client)
		m := now.ScrubMsgList[0]
		if m.State != state || m.Mismatches != mismatches || m.Repaired != repaired || now.Error != isError ||
			(len(m.MismatchList) > 0) != isError {
			t.Errorf("want %s, %d, %d, error %v: %v, error %v %q", state, mismatches, repaired, isError, m, now.Error, now.ErrorMsg)
		}
		listed := must[*apiv1.ListDaReply](t)(client.ListDa(ctx, &apiv1.ListDaRequest{Error: &isError})).DaMsgList
		if len(listed) == 0 || listed[0].DaName != "da0" {
			t.Errorf("listed with error %v: %v", isError, listed)
		}
		if isError && !strings.Contains(now.ErrorMsg, "column 0 of group 0: its legs differ in") {
			t.Errorf("error %q", now.ErrorMsg)
		}
	}
	id := orders[0].ScrubId
	says("another", da.Term, vda.Scrub{State: vda.ScrubDone, Done: 9, Mismatches: 9})
	says(id, da.Term+1, vda.Scrub{State: vda.ScrubDone, Done: 9, Mismatches: 9})
	is("running", 0, 0, false)
	says(id, da.Term, vda.Scrub{State: vda.ScrubRunning, Done: 1 << 20, Mismatches: 2, First: 8192})
	is("running", 2, 0, true)
	says(id, da.Term, vda.Scrub{State: vda.ScrubDone, Done: 4 << 20, Mismatches: 3, Repaired: 1, First: 8192})
	is("done", 3, 1, true)
	_, err = scrub(stop)
	refusal(t, err, codes.FailedPrecondition, 8, "no scrub of it is running")

	// What it found stays until another one has come to the same place.
	vd := ""
	for _, v := range da.GrpMsgList[0].VdMsgList {
		if v.VdIdx == 0 {
			vd = v.VdId
		}
	}
	da = must[*apiv1.DaMsg](t)(scrub(from(vd)))
	is("running", 3, 1, true)
	orders = c.Agent(primary).Scrubs()
	id = orders[1].ScrubId
	if orders[1].RepairFrom != vd {
		t.Errorf("the primary got %v", orders[1])
	}
	if m := da.ScrubMsgList[0]; m.TotalBytes != size/2 {
		t.Errorf("one column of %d bytes: %v", size, m)
	}
	says(id, da.Term, vda.Scrub{State: vda.ScrubRunning, Done: 1 << 20})
	is("running", 3, 1, true)
	says(id, da.Term, vda.Scrub{State: vda.ScrubDone, Done: 4 << 20, Mismatches: 3, Repaired: 3, First: 8192})
	is("done", 3, 3, false)

	da = must[*apiv1.DaMsg](t)(scrub(all))
	must[*apiv1.DaMsg](t)(scrub(stop))
	if orders = c.Agent(primary).Scrubs(); len(orders) != 4 || !orders[3].Stop || orders[3].ScrubId != orders[2].ScrubId {
		t.Errorf("the primary got %v", orders)
	}
	says(orders[2].ScrubId, da.Term, vda.Scrub{State: vda.ScrubStopped, Done: 4096})
	is("stopped", 3, 3, false)

	// A primary that refuses, that has moved, that does not answer.
	c.Agent(primary).FailScrubs("mirror x: there is nothing to compare")
	_, err = scrub(all)
	refusal(t, err, codes.FailedPrecondition, 8, "there is nothing to compare")
	is("stopped", 3, 3, false)
	c.Agent(primary).FailScrubs()
	must[*apiv1.DaMsg](t)(scrub(all))
	must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0"}))
	is("stopped", 3, 3, false)
}
