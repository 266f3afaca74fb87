package portal_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// mirroredCluster has the mirrored array da0 on so many dns.
func mirroredCluster(t *testing.T, dns int) (*portaltest.Cluster, apiv1.PortalClient) {
	t.Helper()
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, dns, 2)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, mirrored()))
	return c, client
}

// legOn is a leg of da0 on a dn.
func legOn(t *testing.T, client apiv1.PortalClient, dn string) *apiv1.VdMsg {
	t.Helper()
	for _, v := range getDa(t, client).GrpMsgList[0].VdMsgList {
		if v.DnName == dn {
			return v
		}
	}
	t.Fatalf("no vd of da0 is on %s", dn)
	return nil
}

// TestMoveVd: a vd moves to where a user wants it, and does not as soon as the user
// wants that; what cannot be is refused with the reason.
func TestMoveVd(t *testing.T) {
	c, client := mirroredCluster(t, 3)
	v := legOn(t, client, "dn0:9720")
	peer := ""
	for _, o := range getDa(t, client).GrpMsgList[0].VdMsgList {
		if o.VdIdx == v.VdIdx && o.VdId != v.VdId {
			peer = o.DnName
		}
	}
	free := "dn1:9720"
	if peer == free {
		free = "dn2:9720"
	}
	move := func(change func(*apiv1.MoveVdRequest)) (*apiv1.MoveVdReply, error) {
		r := &apiv1.MoveVdRequest{VdId: v.VdId}
		change(r)
		return client.MoveVd(ctx, r)
	}
	to := func(dn, pd string) func(*apiv1.MoveVdRequest) {
		return func(r *apiv1.MoveVdRequest) {
			if dn != "" {
				r.ToDn = &dn
			}
			if pd != "" {
				r.ToPd = &pd
			}
		}
	}
	cancel := func(r *apiv1.MoveVdRequest) { r.Cancel = true }
	refused := func(change func(*apiv1.MoveVdRequest), code codes.Code, reply int32, words ...string) {
		t.Helper()
		_, err := move(change)
		refusal(t, err, code, reply, words...)
	}
	refused(func(r *apiv1.MoveVdRequest) { r.VdId = "x" }, codes.NotFound, 3, `no vd "x"`)
	refused(to(peer, ""), codes.FailedPrecondition, 8, "same column", peer)
	refused(to("dn0:9720", "pd0"), codes.FailedPrecondition, 8, "is on that pd")
	refused(to("", "pd0"), codes.InvalidArgument, 2, "to_pd", "several dns", "to_dn")
	refused(to("", "pd7"), codes.NotFound, 3, `no pd "pd7"`)
	refused(to("dn9:9720", ""), codes.NotFound, 3, "dn9:9720")
	refused(cancel, codes.FailedPrecondition, 8, "is not being moved")
	refused(func(r *apiv1.MoveVdRequest) { cancel(r); to(free, "")(r) }, codes.InvalidArgument, 2, "cancel", "nowhere")

	setMirrors := func(can bool) {
		t.Helper()
		err := c.Store.Update(ctx, func(tx store.Tx) error {
			n, err := tx.NodeByName(vda.ControllerNode, "cn1:9820")
			if err != nil {
				return err
			}
			n.DataPlaneVersion = "SPDK v26.05"
			if err := tx.UpdateNode(vda.ControllerNode, n); err != nil {
				return err
			}
			return tx.SetCNMirrors(n.ID, can)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	setMirrors(false)
	refused(to(free, ""), codes.FailedPrecondition, 8, "da0", "cn1:9820", "SPDK v26.05, cannot mirror")
	setMirrors(true)

	r := must[*apiv1.MoveVdReply](t)(move(to(free, "pd0")))
	if old := r.VdMsg; !old.Leaving || old.Role != "member" || old.DaName != "da0" || r.NewVdMsg.GetDnName() != free ||
		r.NewVdMsg.Role != "stale" {
		t.Errorf("reply %v", r)
	}
	refused(to(free, "pd0"), codes.FailedPrecondition, 8, "is leaving already")
	stays := must[*apiv1.MoveVdReply](t)(move(cancel))
	if stays.VdMsg.Leaving {
		t.Errorf("after cancel %v", stays)
	}
	refused(cancel, codes.FailedPrecondition, 8, "is not being moved")
	// What was to take its place is being deleted, and is not in the way for ever.
	if got := must[*apiv1.GetVdReply](t)(client.GetVd(ctx, &apiv1.GetVdRequest{VdId: v.VdId})).VdMsg; got.Role != "member" || got.Leaving {
		t.Errorf("vd %v", got)
	}
}

// TestMoveVdOfAStripedArray: a vd of an array without redundancy moves too, to one with
// room for a label.
func TestMoveVdOfAStripedArray(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 1)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
	v := getDa(t, client).GrpMsgList[0].VdMsgList[0]
	r := must[*apiv1.MoveVdReply](t)(client.MoveVd(ctx, &apiv1.MoveVdRequest{VdId: v.VdId}))
	if n := r.NewVdMsg; n.GetDnName() == v.DnName || n.GetSize() < v.Size+vda.LegTail || !r.VdMsg.Leaving || n.GetRole() != "stale" {
		t.Errorf("reply %v", r)
	}
	stays := must[*apiv1.MoveVdReply](t)(client.MoveVd(ctx, &apiv1.MoveVdRequest{VdId: v.VdId, Cancel: true}))
	if stays.VdMsg.Leaving {
		t.Errorf("after cancel %v", stays)
	}
}

// TestDrain: a dn or pd that is being drained takes nothing new, says how many vds are on
// it and which cannot leave; undrain ends it and undoes what is under way.
func TestDrain(t *testing.T) {
	c, client := mirroredCluster(t, 2)
	getDn := func() *apiv1.DnMsg {
		t.Helper()
		return must[*apiv1.GetDnReply](t)(client.GetDn(ctx, &apiv1.GetDnRequest{DnName: "dn0:9720"})).DnMsg
	}
	if dn := getDn(); dn.Drain || dn.DrainVdCnt != 0 || dn.StuckVdMsgList != nil {
		t.Errorf("before: %v", dn)
	}
	r := must[*apiv1.DrainDnReply](t)(client.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: "dn0:9720"}))
	if dn := r.DnMsg; !dn.Drain || dn.Online || dn.DrainVdCnt != 2 || dn.DrainLackBytes == 0 || len(dn.StuckVdMsgList) != 2 ||
		!strings.Contains(r.ReplyInfo.ReplyMsg, "stuck_vd_msg_list") {
		t.Errorf("drain: %v", r)
	}
	if why := r.DnMsg.StuckVdMsgList[0]; why.DaName != "da0" || why.PdName != "pd0" || !strings.Contains(why.Reason, "another dn than the 2") {
		t.Errorf("stuck: %v", why)
	}
	must[*apiv1.DrainDnReply](t)(client.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: "dn0:9720"})) // once more
	yes := true
	_, err := client.ModifyDn(ctx, &apiv1.ModifyDnRequest{DnName: "dn0:9720", NewOnline: &yes})
	refusal(t, err, codes.FailedPrecondition, 8, "new_online", "dn undrain")
	list := must[*apiv1.ListDnReply](t)(client.ListDn(ctx, &apiv1.ListDnRequest{})).DnMsgList
	if !slices.ContainsFunc(list, func(d *apiv1.DnMsg) bool { return d.Drain && d.DnName == "dn0:9720" }) {
		t.Errorf("listed: %v", list)
	}
	if pd := must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: "pd0"})).PdMsg; pd.DrainVdCnt != 2 {
		t.Errorf("its pd: %v", pd)
	}
	_, err = client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da1", DaSize: 1 << 20, Redundancy: "mirror:2"})
	refusal(t, err, codes.ResourceExhausted, 10, "dn0:9720 (its dn is offline)")

	// With room for one more leg they can leave, and do not any more after undrain.
	addDn(t, c, client, "dn7:9720", 4007)
	if dn := getDn(); dn.DrainVdCnt != 2 || len(dn.StuckVdMsgList) != 0 {
		t.Errorf("with another dn: %v", dn)
	}
	v := legOn(t, client, "dn0:9720")
	must[*apiv1.MoveVdReply](t)(client.MoveVd(ctx, &apiv1.MoveVdRequest{VdId: v.VdId}))
	u := must[*apiv1.UndrainDnReply](t)(client.UndrainDn(ctx, &apiv1.UndrainDnRequest{DnName: "dn0:9720"}))
	if u.DnMsg.Drain || !u.DnMsg.Online || u.DnMsg.DrainVdCnt != 0 {
		t.Errorf("undrain: %v", u)
	}
	if now := legOn(t, client, "dn0:9720"); now.Leaving {
		t.Errorf("its move goes on: %v", now)
	}

	drained := must[*apiv1.DrainPdReply](t)(client.DrainPd(ctx, &apiv1.DrainPdRequest{DnName: "dn0:9720", PdName: "pd0"}))
	if pd := drained.PdMsg; !pd.Drain || pd.Online || pd.DrainVdCnt != 2 {
		t.Errorf("drain of the pd: %v", pd)
	}
	_, err = client.ModifyPd(ctx, &apiv1.ModifyPdRequest{DnName: "dn0:9720", PdName: "pd0", NewOnline: &yes})
	refusal(t, err, codes.FailedPrecondition, 8, "new_online", "pd undrain")
	must[*apiv1.MoveVdReply](t)(client.MoveVd(ctx, &apiv1.MoveVdRequest{VdId: v.VdId}))
	undrained := must[*apiv1.UndrainPdReply](t)(client.UndrainPd(ctx, &apiv1.UndrainPdRequest{DnName: "dn0:9720", PdName: "pd0"}))
	if pd := undrained.PdMsg; pd.Drain || !pd.Online || pd.DrainVdCnt != 0 {
		t.Errorf("undrain of the pd: %v", pd)
	}
	if now := legOn(t, client, "dn0:9720"); now.Leaving {
		t.Errorf("its move goes on: %v", now)
	}
	_, err = client.DrainPd(ctx, &apiv1.DrainPdRequest{DnName: "dn0:9720", PdName: "none"})
	refusal(t, err, codes.NotFound, 3, "none")
	_, err = client.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: "none:1"})
	refusal(t, err, codes.NotFound, 3, "none:1")
}

// addDn adds a dn with a pd of 128 MiB.
func addDn(t *testing.T, c *portaltest.Cluster, client apiv1.PortalClient, name string, port int) {
	t.Helper()
	c.Agent(name)
	must[*apiv1.CreateDnReply](t)(client.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: name, DnListenerConf: portaltest.Listener(port)}))
	must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: name, PdName: "pd0",
		PdConf: `{"type":"malloc","size":134217728}`}))
}
