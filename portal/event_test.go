package portal_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

func events(t *testing.T, c *client.Client, f *apiv1.EventFilter) (all []*apiv1.EventMsg) {
	t.Helper()
	for e, err := range c.Events(t.Context(), &apiv1.ListEventRequest{Filter: f, Limit: 3}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	slices.Reverse(all)
	return all
}

// TestAudit: every change is recorded with who made it, in the transaction that makes it,
// and every refusal once per minute.
func TestAudit(t *testing.T) {
	c := portaltest.New(t)
	cl := c.Client()
	c.Populate(cl, 2, 2)
	ctx := rpc.WithRequestID(t.Context(), "req-of-da0")
	if _, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := cl.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: "da1", DaSize: 1 << 50}); err == nil {
			t.Fatal("an array larger than all disks was made")
		}
	}
	if _, err := cl.FailoverDa(t.Context(), &apiv1.FailoverDaRequest{DaName: "da0"}); err != nil {
		t.Fatal(err)
	}
	exp := &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp0", InitiatorNqn: "nqn.2016-06.io.spdk:h"}
	if _, err := cl.CreateExp(t.Context(), exp); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events(t, cl, &apiv1.EventFilter{Audit: true}) {
		got = append(got, strings.TrimSpace(e.Method+" "+e.Object+" "+e.Name))
		if !strings.HasPrefix(e.Peer, "127.0.0.1:") || e.ReqId == "" || e.Time == "" || e.EventId == 0 {
			t.Errorf("it is not said who it was: %v", e)
		}
	}
	want := []string{"CreateDn dn dn0:9720", "CreatePd pd dn0:9720/pd0", "CreateDn dn dn1:9720", "CreatePd pd dn1:9720/pd0",
		"CreateCn cn cn0:9820", "CreateCn cn cn1:9820", "CreateDa da da0", "CreateDa da da1", "FailoverDa da da0", "CreateExp exp da0/exp0"}
	if !slices.Equal(got, want) {
		t.Errorf("the audit has\n%q, want\n%q", got, want)
	}
	refused := events(t, cl, &apiv1.EventFilter{KindList: []string{"change_refused"}})
	if len(refused) != 1 || refused[0].Code != uint32(apiv1.CodeNoRoom) || refused[0].Severity != "warning" ||
		!strings.Contains(refused[0].Text, "da_name=da1 da_size=1125899906842624") {
		t.Errorf("refusals: %v", refused)
	}
	of := events(t, cl, &apiv1.EventFilter{ReqId: "req-of-da0"})
	if len(of) != 1 || of[0].Kind != "change" || of[0].Text != "da_name=da0 cntlr_cnt=2 da_size=4194304" {
		t.Errorf("of the request there is %v", of)
	}
	var kinds []string
	for _, e := range events(t, cl, &apiv1.EventFilter{Name: "da0"}) {
		kinds = append(kinds, e.Kind)
		if e.Kind == "failover_started" && (e.Method != "FailoverDa" || e.Peer == "") {
			t.Errorf("who wanted the failover? %v", e)
		}
	}
	if want := []string{"change", "failover_started", "failover_ended", "change", "change"}; !slices.Equal(kinds, want) {
		t.Errorf("events of da0: %q, want %q", kinds, want)
	}
}

// TestEventRequests refuses what cannot be meant.
func TestEventRequests(t *testing.T) {
	cl := portaltest.New(t).Client()
	for _, tt := range []struct {
		req  *apiv1.ListEventRequest
		want string
	}{
		{&apiv1.ListEventRequest{Filter: &apiv1.EventFilter{KindList: []string{"party"}}}, `kind_list has "party"`},
		{&apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Severity: "bad"}}, `severity is "bad"; it must be info, warning or error`},
		{&apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Object: "disk"}}, `object is "disk"; it must be one of dn, pd`},
		{&apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Audit: true, Severity: "error"}}, "no event can be"},
		{&apiv1.ListEventRequest{Since: "yesterday"}, `since is "yesterday"`},
		{&apiv1.ListEventRequest{Since: "-2h"}, `since is "-2h"`},
		{&apiv1.ListEventRequest{Token: "x"}, `token "x" was not returned`},
		{&apiv1.ListEventRequest{Limit: 1001}, "limit is 1001"},
	} {
		if _, err := cl.ListEvent(t.Context(), tt.req); client.CodeOf(err) != apiv1.CodeInvalid || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.req, err, tt.want)
		}
		if tt.req.Filter == nil {
			continue
		}
		for _, err := range cl.Watch(t.Context(), &apiv1.WatchEventRequest{Filter: tt.req.Filter}) {
			if client.CodeOf(err) != apiv1.CodeInvalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("watch %v: %v, want %q", tt.req, err, tt.want)
			}
		}
	}
	if _, err := cl.DeleteDa(t.Context(), &apiv1.DeleteDaRequest{DaName: "none"}); client.CodeOf(err) != apiv1.CodeNotFound {
		t.Errorf("delete of none: %v", err)
	}
	r, err := cl.ListEvent(t.Context(), &apiv1.ListEventRequest{Since: "1h"})
	if err != nil || len(r.EventMsgList) == 0 {
		t.Errorf("of the last hour: %v, %v; want the refusal", r, err)
	}
	r, err = cl.ListEvent(t.Context(), &apiv1.ListEventRequest{Since: time.Now().Add(time.Hour).Format(time.RFC3339)})
	if err != nil || len(r.EventMsgList) != 0 {
		t.Errorf("of what comes: %v, %v", r, err)
	}
}

// TestWatchEvent: a client that watches is told what anybody records, and goes on with
// another portal when its own is gone, without a gap.
func TestWatchEvent(t *testing.T) {
	c := portaltest.New(t)
	quick := func(cfg *portal.Config) { cfg.WatchPeriod = 5 * time.Millisecond }
	stay := c.Portal(quick)
	record := func(text string) {
		c.Change(func(tx store.Tx) error {
			return tx.Record(vda.Event{Kind: vda.EventNodeUp, Object: "dn", Name: "dn0", Text: text})
		})
	}
	gone, stop := c.PortalToStop(quick)
	cl, err := client.New(client.Config{Portals: []string{gone, stay}})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	record("before")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	n := 0
	for e, err := range cl.Watch(ctx, &apiv1.WatchEventRequest{After: new(uint64), Limit: 4, Filter: &apiv1.EventFilter{Name: "dn0"}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Text)
		switch n++; n {
		case 1:
			c.Change(func(tx store.Tx) error {
				return tx.Record(vda.Event{Kind: vda.EventNodeUp, Object: "dn", Name: "other"})
			})
			record("first")
		case 2:
			stop()
			record("second")
		case 3:
			record("third")
		}
	}
	if want := []string{"before", "first", "second", "third"}; !slices.Equal(got, want) {
		t.Errorf("told of %q, want %q", got, want)
	}
}
