package portal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestUnreachableAgent creates and deletes on nodes that do not answer: the
// objects are there, in error, and the reply says why; once the node answers,
// a syncup finishes the job.
func TestUnreachableAgent(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	dn := must[*apiv1.CreateDnReply](t)(client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "dn9:9720",
		DnListenerConf: portaltest.Listener(1)}))
	if msg := dn.ReplyInfo.ReplyMsg; !strings.Contains(msg, "dn dn9:9720 could not be brought up to date") ||
		!strings.Contains(msg, "connection refused") || dn.ReplyInfo.ReplyCode != 0 {
		t.Errorf("reply %v", dn.ReplyInfo)
	}
	if m := dn.DnMsg; !m.Error || !strings.Contains(m.ErrorMsg, "connection refused") || m.ErrorTime == "" {
		t.Errorf("dn %v", m)
	}
	cn := must[*apiv1.CreateCnReply](t)(client.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "cn9:9820",
		CnListenerConf: portaltest.Listener(2)}))
	if !cn.CnMsg.Error || !strings.Contains(cn.ReplyInfo.ReplyMsg, "cn9:9820") {
		t.Errorf("cn %v, reply %v", cn.CnMsg, cn.ReplyInfo)
	}
	pd := must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn9:9720", PdName: "pd0", PdConf: `{"type":"malloc","size":134217728}`}))
	if !pd.PdMsg.Error || pd.PdMsg.TotalSize != 0 {
		t.Errorf("pd %v", pd.PdMsg)
	}
	_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 1 << 20})
	refusal(t, err, codes.ResourceExhausted, 10, "pd0 of dn9:9720 (its dn is in error)")
	if yes := must[*apiv1.ListDnReply](t)(client.ListDn(ctx, &apiv1.ListDnRequest{Error: ptr(true)})); len(yes.DnMsgList) != 1 {
		t.Errorf("dns in error: %v", yes.DnMsgList)
	}

	c.Agent("dn9:9720")
	var done *apiv1.SyncupDnReply
	await(t, func() bool { // the connection is tried again within a second
		done = must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn9:9720"}))
		return done.ReplyInfo.ReplyMsg == "success"
	})
	if len(done.DnMsg.PdMsgList) != 1 || done.DnMsg.PdMsgList[0].TotalSize == 0 {
		t.Errorf("syncup: %v", done)
	}
}

// TestHungAgent: a node that accepts the request and says nothing does not hold
// the reply for longer than SyncTimeout, and slow is not taken for dead. The
// time may be up before the node is asked, or while its answer is recorded; it
// is said in the same words.
func TestHungAgent(t *testing.T) {
	c := portaltest.New(t)
	for limit := time.Millisecond; ; limit *= 2 {
		client := c.Client(func(cfg *portal.Config) { cfg.SyncTimeout = limit })
		if limit == time.Millisecond {
			c.Populate(c.Client(), 1, 1)
			c.Agent("cn0:9820").Hang(true)
			defer c.Agent("cn0:9820").Hang(false)
		}
		name := fmt.Sprintf("da-%d", limit)
		r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, DaSize: 1 << 20}))
		if msg := r.ReplyInfo.ReplyMsg; !strings.Contains(msg, "n0:9") ||
			!strings.Contains(msg, "could not be brought up to date (no answer in time)") {
			t.Errorf("within %v: %v", limit, r.ReplyInfo)
		}
		if limit > 100*time.Millisecond && strings.Contains(r.ReplyInfo.ReplyMsg, "cn0:9820") && c.Agent("cn0:9820").Waited() > 0 {
			break // it was asked, and said nothing
		}
	}
	if cn := must[*apiv1.GetCnReply](t)(c.Client().GetCn(ctx, &apiv1.GetCnRequest{CnName: "cn0:9820"})); cn.CnMsg.Error {
		t.Errorf("cn is shown in error: %v", cn.CnMsg)
	}
	if dn := must[*apiv1.GetDnReply](t)(c.Client().GetDn(ctx, &apiv1.GetDnRequest{DnName: "dn0:9720"})); dn.DnMsg.Error {
		t.Errorf("dn is shown in error: %v", dn.DnMsg)
	}
}

// TestDeleteOnDeadNodes deletes an array whose nodes are away: it is gone for
// users at once, its space comes back when the nodes do.
func TestDeleteOnDeadNodes(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20}))
	c.Agent("dn0:9720").Stop()
	c.Agent("cn0:9820").Stop()
	del := must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	if msg := del.ReplyInfo.ReplyMsg; !strings.Contains(msg, "dn0:9720") || !strings.Contains(msg, "cn0:9820") {
		t.Errorf("reply %q does not name both nodes", msg)
	}
	_, err := client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})
	refusal(t, err, codes.NotFound, 3)
	_, err = client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0"})
	refusal(t, err, codes.FailedPrecondition, 9, "da0 (deleted, but its node has not confirmed it yet)")
	_, err = client.DeleteCn(ctx, &apiv1.DeleteCnRequest{CnName: "cn0:9820"})
	refusal(t, err, codes.FailedPrecondition, 9, "da0")

	c.Agent("dn0:9720").Start()
	c.Agent("cn0:9820").Start()
	await(t, func() bool {
		client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720"})
		client.SyncupCn(ctx, &apiv1.SyncupCnRequest{CnName: "cn0:9820"})
		return count(t, c.Store).das == 0
	})
	if pd := must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720",
		PdName: "pd0"})).PdMsg; pd.FreeSize != pd.TotalSize {
		t.Errorf("space has not come back: %v", pd)
	}
}

// TestLostNodes: nodes that never come back are deleted by force, but not from
// under an array, and nothing of what was on them is left.
func TestLostNodes(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp0",
		InitiatorNqn: "nqn.2016-06.io.spdk:host0"}))
	c.Agent("dn0:9720").Stop()
	c.Agent("cn0:9820").Stop()
	dn := &apiv1.DeleteDnRequest{DnName: "dn0:9720", Force: true}
	cn := &apiv1.DeleteCnRequest{CnName: "cn0:9820", Force: true}
	before := count(t, c.Store)
	_, err := client.DeleteDn(ctx, dn)
	refusal(t, err, codes.FailedPrecondition, 9, "vds of the das", "da0")
	_, err = client.DeleteCn(ctx, cn)
	refusal(t, err, codes.FailedPrecondition, 9, "controllers of the das", "da0")
	if now := count(t, c.Store); now != before {
		t.Errorf("a refusal changed %+v to %+v", before, now)
	}

	must[*apiv1.DeleteExpReply](t)(client.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "exp0"}))
	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	_, err = client.DeleteDn(ctx, &apiv1.DeleteDnRequest{DnName: "dn0:9720"})
	refusal(t, err, codes.FailedPrecondition, 9, "pd0")
	must[*apiv1.DeleteDnReply](t)(client.DeleteDn(ctx, dn))
	must[*apiv1.DeleteCnReply](t)(client.DeleteCn(ctx, cn))
	if n := count(t, c.Store); n != (counts{}) {
		t.Errorf("rows left: %+v", n)
	}
}

// TestLostDisk: a disk that is lost is given up by force, with the vds that wait
// for it, but not from under an array; its node is told so.
func TestLostDisk(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20}))
	force := &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0", Force: true}
	before := count(t, c.Store)
	_, err := client.DeletePd(ctx, force)
	refusal(t, err, codes.FailedPrecondition, 9, "vds of the das", "da0")
	if now := count(t, c.Store); now != before {
		t.Errorf("a refusal changed %+v to %+v", before, now)
	}
	_, err = client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "none", Force: true})
	refusal(t, err, codes.NotFound, 3, `"none"`)

	c.Agent("dn0:9720").Stop() // whose vds wait
	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	_, err = client.DeletePd(ctx, &apiv1.DeletePdRequest{DnName: "dn0:9720", PdName: "pd0"})
	refusal(t, err, codes.FailedPrecondition, 9, "da0 (deleted, but its node has not confirmed it yet)")
	for range 2 { // also one that is deleted
		must[*apiv1.DeletePdReply](t)(client.DeletePd(ctx, force))
		_, err = client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: "pd0"})
		refusal(t, err, codes.NotFound, 3)
	}
	left := func() (pds []vda.PD, vds []vda.VD) {
		if err := c.Store.View(ctx, func(tx store.Reader) error {
			dn, err := tx.NodeByName(vda.DiskNode, "dn0:9720")
			if err == nil {
				pds, vds, err = tx.DNObjects(dn.ID, 0)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return pds, vds
	}
	if pds, _ := left(); len(pds) != 1 || !strings.Contains(pds[0].Conf, `"lost":true`) {
		t.Errorf("the node is told %+v", pds)
	}
	c.Agent("dn0:9720").Start()
	await(t, func() bool {
		client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: "dn0:9720"})
		pds, vds := left()
		return len(pds)+len(vds) == 0
	})
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not done within two minutes")
		}
	}
}

// TestObjectErrors shows what a node could not make as the error of the object,
// of the array, and in the reply.
func TestObjectErrors(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	c.Agent("cn0:9820").FailAll("raid: Device or resource busy")
	da := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}))
	if !da.DaMsg.Error || !strings.Contains(da.DaMsg.ErrorMsg, "resource busy") ||
		!strings.Contains(da.ReplyInfo.ReplyMsg, "not all of it is up yet") {
		t.Errorf("da %v, reply %v", da.DaMsg, da.ReplyInfo)
	}
	exp := must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e",
		InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	if es := exp.ExpMsg.EsMsgList; len(es) != 2 || !es[0].Error || es[1].Error {
		t.Errorf("es %v", es)
	}
	c.Agent("cn0:9820").FailAll("")
	must[*apiv1.SyncupDaReply](t)(client.SyncupDa(ctx, &apiv1.SyncupDaRequest{DaName: "da0"}))
	if m := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg; m.Error {
		t.Errorf("after healing: %v", m)
	}
}

// TestDatabaseAway stops PostgreSQL under a portal: calls are Unavailable with
// the reason, health says NOT_SERVING, and all recovers by itself.
func TestDatabaseAway(t *testing.T) {
	t.Setenv("VDA_TEST_POSTGRES", "") // a server of others must not be stopped
	srv, uri := dbtest.Postgres(t)
	c := portaltest.On(t, uri)
	addr := c.Portal(func(cfg *portal.Config) { cfg.HealthPeriod = 50 * time.Millisecond })
	client := c.Dial(addr)
	c.Populate(client, 1, 1)
	conn, err := rpc.Dial(addr, rpc.DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health := healthpb.NewHealthClient(conn)
	is := func(want healthpb.HealthCheckResponse_ServingStatus) func() bool {
		return func() bool {
			r, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: "vda.v1.Portal"})
			return err == nil && r.Status == want
		}
	}
	await(t, is(healthpb.HealthCheckResponse_SERVING))
	srv.Stop()
	_, err = client.GetDn(ctx, &apiv1.GetDnRequest{DnName: "dn0:9720"})
	refusal(t, err, codes.Unavailable, 11, "the database does not answer")
	if strings.Contains(err.Error(), "vda_password") {
		t.Errorf("the password shows: %v", err)
	}
	await(t, is(healthpb.HealthCheckResponse_NOT_SERVING))
	srv.Start()
	await(t, func() bool { _, err := client.GetDn(ctx, &apiv1.GetDnRequest{DnName: "dn0:9720"}); return err == nil })
	await(t, is(healthpb.HealthCheckResponse_SERVING))
}

// brokenStore panics, as a bug would.
type brokenStore struct{ store.Store }

func (brokenStore) View(context.Context, func(store.Reader) error) error { panic("index out of range") }

// TestPanic: one request's bug is that request's INTERNAL error, without its
// details, and the portal serves on.
func TestPanic(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client(func(cfg *portal.Config) { cfg.Store = brokenStore{cfg.Store} })
	for range 2 {
		_, err := client.GetDn(ctx, &apiv1.GetDnRequest{DnName: "x:1"})
		refusal(t, err, codes.Internal, 1, "req_id")
		if strings.Contains(err.Error(), "index out of range") {
			t.Errorf("the user sees the panic: %v", err)
		}
	}
	_, err := client.CreateDn(ctx, &apiv1.CreateDnRequest{})
	refusal(t, err, codes.InvalidArgument, 2)
}

// TestPaging walks a list of 7 in pages of 3.
func TestPaging(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 0, 7)
	var names []string
	token := ""
	for pages := 1; ; pages++ {
		r := must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{Limit: 3, Token: token}))
		for _, m := range r.CnMsgList {
			names = append(names, m.CnName)
		}
		if token = r.NextToken; token == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if got := strings.Join(names, " "); got != "cn0:9820 cn1:9820 cn2:9820 cn3:9820 cn4:9820 cn5:9820 cn6:9820" {
		t.Errorf("listed %s", got)
	}
	must[*apiv1.ModifyCnReply](t)(client.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: "cn3:9820", NewOnline: ptr(false),
		NewLocation: ptr("r9")}))
	off := must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{Online: ptr(false)}))
	at := must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{Location: ptr("r9")}))
	if len(off.CnMsgList) != 1 || len(at.CnMsgList) != 1 || off.CnMsgList[0].CnName != "cn3:9820" {
		t.Errorf("offline %v, at r9 %v", off.CnMsgList, at.CnMsgList)
	}
}

// TestReflection asks the portal for its services, as grpcurl does.
func TestReflection(t *testing.T) {
	c := portaltest.New(t)
	conn, err := rpc.Dial(c.Portal(), rpc.DialConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err := errors.Join(err, stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if s := r.String(); !strings.Contains(s, "vda.v1.Portal") || !strings.Contains(s, "grpc.health.v1.Health") {
		t.Errorf("services: %s", s)
	}
}

// TestThin: an array that promises more than it has bought says so; modify of
// an exporter and rename of an array take effect.
func TestThinAndModify(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	da := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 64 << 20,
		PhysicalSize: ptr(uint64(8 << 20))}))
	if !da.DaMsg.Thin || len(da.WarningList) != 1 || !strings.Contains(da.WarningList[0], "thin") || da.DaMsg.DaConf != `{"stripe_count":1,"stripe_size_kb":64}` {
		t.Errorf("da %v, warnings %q", da.DaMsg, da.WarningList)
	}
	must[*apiv1.ModifyDaReply](t)(client.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", NewDaName: ptr("da1")}))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da1", ExpName: "e",
		InitiatorNqn: "nqn.2016-06.io.spdk:a"}))
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da1", ExpName: "e",
		NewInitiatorNqn: ptr("nqn.2016-06.io.spdk:b")}))
	if l := must[*apiv1.ListExpReply](t)(client.ListExp(ctx,
		&apiv1.ListExpRequest{InitiatorNqn: ptr("nqn.2016-06.io.spdk:b")})); len(l.ExpMsgList) != 1 || l.ExpMsgList[0].DaName != "da1" {
		t.Errorf("exps of host b: %v", l.ExpMsgList)
	}
	if d := must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da1"})).DaMsg; len(d.ExpNameList) != 1 {
		t.Errorf("da %v", d)
	}
	_, err := client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da1", ToCn: "cn0:9820"})
	refusal(t, err, codes.FailedPrecondition, 8, "already")
}

// TestFailover moves a primary there and back; then with the new primary's
// node away.
func TestFailover(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2, DaConf: `{"stripe_count":2}`}))
	primary := func(m *apiv1.DaMsg) (name string) {
		for _, c := range m.CntlrMsgList {
			if c.Primary {
				name += c.CnName
			}
		}
		return name
	}
	for i, to := range []string{"cn1:9820", "cn0:9820", "cn1:9820"} {
		r := must[*apiv1.FailoverDaReply](t)(client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0", ToCn: to}))
		if r.DaMsg.Term != uint64(i+2) || primary(r.DaMsg) != to || r.ReplyInfo.ReplyMsg != "success" {
			t.Errorf("failover to %s: %v", to, r)
		}
	}
	c.Agent("cn0:9820").Stop()
	r, err := client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0", ToCn: "cn0:9820"})
	switch {
	case err != nil:
		refusal(t, err, codes.FailedPrecondition, 8, "cn0:9820")
	case !strings.Contains(r.ReplyInfo.ReplyMsg, "connection refused"):
		t.Errorf("failover to a dead node: %v", r)
	}
}
