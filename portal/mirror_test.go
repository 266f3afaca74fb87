package portal_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// mirrored is a request for an array of two columns with two legs each.
func mirrored() *apiv1.CreateDaRequest {
	return &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2, Redundancy: "mirror:2",
		DaConf: `{"stripe_count":2,"stripe_size_kb":64}`}
}

func getDa(t *testing.T, client apiv1.PortalClient) *apiv1.DaMsg {
	t.Helper()
	return must[*apiv1.GetDaReply](t)(client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})).DaMsg
}

// TestCreateMirroredDa: an array with a redundancy shows it, and has the legs of a
// column on distinct dns, each with room for what is behind its data.
func TestCreateMirroredDa(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 3, 2)
	c.CanMirror()
	r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, mirrored()))
	if r.ReplyInfo.ReplyMsg != "success" || len(r.WarningList) != 0 {
		t.Errorf("reply %v", r)
	}
	da := getDa(t, client)
	if da.Redundancy != "mirror:2" || da.RedundancyState != "full" || da.MinLegs != 1 || da.LackBytes != 0 || da.Error {
		t.Errorf("da %v", da)
	}
	dns := map[uint32]map[string]bool{0: {}, 1: {}}
	var raw uint64
	for _, v := range da.GrpMsgList[0].VdMsgList {
		if v.Role != "member" || v.Size < da.GrpMsgList[0].Size/2+vda.LegTail {
			t.Errorf("vd %v of a group of %d bytes", v, da.GrpMsgList[0].Size)
		}
		dns[v.VdIdx][v.DnName] = true
		raw += v.Size
	}
	if len(da.GrpMsgList[0].VdMsgList) != 4 || len(dns[0]) != 2 || len(dns[1]) != 2 || da.RawSize != raw {
		t.Errorf("legs are on %v, %d bytes of %d", dns, raw, da.RawSize)
	}
	list := must[*apiv1.ListDaReply](t)(client.ListDa(ctx, &apiv1.ListDaRequest{})).DaMsgList
	if len(list) != 1 || list[0].RedundancyState != "full" || list[0].Redundancy != "mirror:2" {
		t.Errorf("list %v", list)
	}

	_, err := client.CreateDa(ctx, mirrored())
	refusal(t, err, codes.AlreadyExists, 5)
	other := mirrored()
	other.Redundancy = "none"
	_, err = client.CreateDa(ctx, other)
	refusal(t, err, codes.AlreadyExists, 4, "redundancy", "mirror:2", "none")
	other = mirrored()
	other.MinLegs = 2
	_, err = client.CreateDa(ctx, other)
	refusal(t, err, codes.AlreadyExists, 4, "min_legs", "1", "2")

	must[*apiv1.DeleteDaReply](t)(client.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da0"}))
	for _, pd := range must[*apiv1.ListPdReply](t)(client.ListPd(ctx, &apiv1.ListPdRequest{})).PdMsgList {
		if pd.FreeSize != pd.TotalSize || pd.VdCnt != 0 {
			t.Errorf("after the array is deleted: %v", pd)
		}
	}
}

// TestStripedDaSaysNone: an array without a redundancy says so, and that it has all of that, so that
// a script which waits for it ends.
func TestStripedDaSaysNone(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20}))
	da := getDa(t, client)
	vd := da.GrpMsgList[0].VdMsgList[0]
	if da.Redundancy != "none" || da.RedundancyState != "full" || da.MinLegs != 1 || vd.Role != "" || da.RawSize != vd.Size {
		t.Errorf("da %v", da)
	}
}

// TestMirrorRefused: what cannot be mirrored is refused with what is missing.
func TestMirrorRefused(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	create := func(change func(*apiv1.CreateDaRequest)) error {
		r := mirrored()
		change(r)
		_, err := client.CreateDa(ctx, r)
		return err
	}
	none := func(*apiv1.CreateDaRequest) {}
	refusal(t, create(func(r *apiv1.CreateDaRequest) { r.Redundancy = "mirror:4" }), codes.InvalidArgument, 2, "redundancy", "mirror:4",
		"none, mirror:2 or mirror:3")
	refusal(t, create(func(r *apiv1.CreateDaRequest) { r.MinLegs = 3 }), codes.InvalidArgument, 2, "min_legs", "3", "1 to 2")
	refusal(t, create(func(r *apiv1.CreateDaRequest) { r.MinLegs, r.Redundancy = 2, "" }), codes.InvalidArgument, 2,
		"min_legs", "2", "none", "1 to 1")

	refusal(t, create(none), codes.ResourceExhausted, 10, "mirror:2",
		"cn0:9820 (vda_monitor has not heard yet whether its data plane can mirror)")
	c.RunsSPDK("cn0:9820")
	c.RunsSPDK("cn1:9820")
	refusal(t, create(none), codes.ResourceExhausted, 10, "2 controllers", "cn0:9820 (its data plane, SPDK v26.05, cannot mirror)", "cn1:9820")
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "striped", DaSize: 1 << 20, CntlrCnt: 2}))

	c.CanMirror()
	refusal(t, create(func(r *apiv1.CreateDaRequest) { r.Redundancy = "mirror:3" }), codes.ResourceExhausted, 10, "the 3 of a column on 3 dns",
		"2 dns have")
	no := false
	must[*apiv1.ModifyDnReply](t)(client.ModifyDn(ctx, &apiv1.ModifyDnRequest{DnName: "dn1:9720", NewOnline: &no}))
	refusal(t, create(none), codes.ResourceExhausted, 10, "the 2 of a column on 2 dns", "1 dn has", "pd0 of dn1:9720 (its dn is offline)")
}

// TestMonitorIsHeardInTime: a cn that has just been added is waited for until a
// monitor has asked it what it can.
func TestMonitorIsHeardInTime(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	type outcome struct {
		r   *apiv1.CreateDaReply
		err error
	}
	done := make(chan outcome)
	go func() {
		r, err := client.CreateDa(ctx, mirrored())
		done <- outcome{r, err}
	}()
	c.CanMirror()
	if o := <-done; o.err != nil {
		t.Errorf("create: %v", o.err)
	}
}

// TestDegradedDa: an array without some of its legs is usable and not in error, nor
// are its exporters; without any leg of a column it is.
func TestDegradedDa(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, mirrored()))
	must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx,
		&apiv1.CreateExpRequest{DaName: "da0", ExpName: "e", InitiatorNqn: "nqn.2014-08.org.example:h"}))
	ail := func(dn, why string) {
		t.Helper()
		for _, v := range getDa(t, client).GrpMsgList[0].VdMsgList {
			if v.DnName == dn {
				c.Agent(dn).Ail(v.VdId, why)
			}
		}
		must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: dn}))
	}
	shows := func(state string, isError bool) {
		t.Helper()
		da := getDa(t, client)
		listed := must[*apiv1.ListDaReply](t)(client.ListDa(ctx, &apiv1.ListDaRequest{Error: &isError})).DaMsgList
		if da.RedundancyState != state || da.Error != isError || len(listed) != 1 || listed[0].RedundancyState != state {
			t.Errorf("want %s, error %v: %v, listed %v", state, isError, da, listed)
		}
		for _, es := range must[*apiv1.GetExpReply](t)(client.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "e"})).ExpMsg.EsMsgList {
			if es.Error != isError {
				t.Errorf("%s: exporter on %s: %v %q", state, es.CnName, es.Error, es.ErrorMsg)
			}
		}
	}
	shows("full", false)
	ail("dn0:9720", "7 I/O errors")
	shows("single", false)
	bad := 0
	for _, v := range getDa(t, client).GrpMsgList[0].VdMsgList {
		if v.Error {
			bad++
		}
	}
	if bad != 2 {
		t.Errorf("%d vds show an error, want the 2 on dn0", bad)
	}
	ail("dn1:9720", "9 I/O errors")
	shows("down", true)
	ail("dn0:9720", "")
	shows("single", false)
	ail("dn1:9720", "")
	shows("full", false)
}

// TestAdoptMirrored: a mirrored array that a restored database does not know comes
// back with its redundancy and the roles of its legs, as long as no node that could
// know better is silent.
func TestAdoptMirrored(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 3, 2)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, mirrored()))
	before := getDa(t, client)
	forget(t, c, client, "da0")

	problem := func() string {
		for _, o := range must[*apiv1.ListOrphanReply](t)(client.ListOrphan(ctx, &apiv1.ListOrphanRequest{})).OrphanMsgList {
			if o.Kind == "da" {
				return o.Problem
			}
		}
		return "it is not listed"
	}
	primary, other := "cn0:9820", "cn1:9820"
	for _, v := range before.CntlrMsgList {
		if v.Primary && v.CnName == other {
			primary, other = other, primary
		}
	}
	c.Agent(other).Stop()
	if got := problem(); !strings.Contains(got, "may know more of its legs: cn "+other+" could not be asked") {
		t.Errorf("with a silent cn: %q", got)
	}
	c.Agent(other).Start()
	await(t, func() bool { return problem() == "" })
	c.Agent(primary).Stop()
	if got := problem(); !strings.Contains(got, "how its vds are put together") {
		t.Errorf("with a silent primary: %q", got)
	}
	c.Agent(primary).Start()
	await(t, func() bool { return problem() == "" })
	must[*apiv1.AdoptOrphanReply](t)(client.AdoptOrphan(ctx, &apiv1.AdoptOrphanRequest{OrphanId: before.DaId}))
	after := getDa(t, client)
	if after.Term <= before.Term {
		t.Errorf("adopted: %v", after)
	}
	if d := cmp.Diff(before, after, protocmp.Transform(), protocmp.IgnoreFields(&apiv1.DaMsg{}, "term")); d != "" {
		t.Errorf("adopted with a difference: %s", d)
	}
	if l := must[*apiv1.ListOrphanReply](t)(client.ListOrphan(ctx, &apiv1.ListOrphanRequest{})).OrphanMsgList; len(l) != 0 {
		t.Errorf("orphans after all was adopted: %v", l)
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestRecoverDa: an array goes on with a leg that lacks writes when a user says that
// the loss is accepted, and while no leg that has them is well.
func TestRecoverDa(t *testing.T) {
	c := portaltest.New(t)
	var log lockedBuffer
	client := c.Client(func(cfg *portal.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	c.Populate(client, 2, 1)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "striped", DaSize: 1 << 20}))
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 1 << 20, Redundancy: "mirror:2"}))
	vds := getDa(t, client).GrpMsgList[0].VdMsgList
	good, stale := vds[0], vds[1]
	// As when the leg was lost: its primary has gone on without it.
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error {
		v, err := tx.VD(stale.VdId)
		if err != nil {
			return err
		}
		m, err := tx.MirrorsOfDA(v.DAID)
		if err != nil {
			return err
		}
		v.Role, v.Epoch, m[0].Gen = vda.Stale, 1, 2
		return errors.Join(tx.UpdateVD(v), tx.UpdateMirror(&m[0]))
	}))
	recover := func(change func(*apiv1.RecoverDaRequest)) error {
		r := &apiv1.RecoverDaRequest{DaName: "da0", VdId: stale.VdId, AcceptDataLoss: true}
		change(r)
		_, err := client.RecoverDa(ctx, r)
		return err
	}
	none := func(*apiv1.RecoverDaRequest) {}
	refusal(t, recover(func(r *apiv1.RecoverDaRequest) { r.AcceptDataLoss = false }), codes.InvalidArgument, 2, "accept_data_loss", "false")
	refusal(t, recover(func(r *apiv1.RecoverDaRequest) { r.VdId = "x" }), codes.NotFound, 3, `no vd "x"`)
	refusal(t, recover(func(r *apiv1.RecoverDaRequest) { r.DaName = "striped" }), codes.FailedPrecondition, 8, "redundancy none")
	refusal(t, recover(func(r *apiv1.RecoverDaRequest) { r.VdId = good.VdId }), codes.FailedPrecondition, 8, good.VdId, "all data")
	refusal(t, recover(none), codes.FailedPrecondition, 8, good.VdId, "is well")
	ail := func(v *apiv1.VdMsg, why string) {
		t.Helper()
		c.Agent(v.DnName).Ail(v.VdId, why)
		must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: v.DnName}))
	}
	ail(good, "its disk is gone")
	ail(stale, "its disk is slow")
	refusal(t, recover(none), codes.FailedPrecondition, 8, stale.VdId, "its disk is slow")
	ail(stale, "")
	if da := getDa(t, client); da.RedundancyState != "down" || !da.Error {
		t.Errorf("before: %v", da)
	}

	lacks := func(bytes uint64) {
		t.Helper()
		must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error { return tx.SetVDLack(stale.VdId, bytes, 0) }))
	}
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error { // as while it is copied to
		v, err := tx.VD(stale.VdId)
		if err != nil {
			return err
		}
		v.Role = vda.Target
		mirrors, err := tx.MirrorsOfDA(v.DAID)
		if err != nil {
			return err
		}
		return errors.Join(tx.UpdateVD(v), tx.SetVDLack(v.ID, mirrors[0].Size/4, mirrors[0].Size/64))
	}))
	whole := getDa(t, client)
	listed := must[*apiv1.ListDaReply](t)(client.ListDa(ctx, &apiv1.ListDaRequest{})).DaMsgList[0]
	leg := must[*apiv1.GetVdReply](t)(client.GetVd(ctx, &apiv1.GetVdRequest{VdId: stale.VdId})).VdMsg
	for what, got := range map[string][3]uint64{
		"da get":  {uint64(whole.RebuildPercent), whole.RebuildBytesPerSec, whole.RebuildLeftSec},
		"da list": {uint64(listed.RebuildPercent), listed.RebuildBytesPerSec, listed.RebuildLeftSec},
		"vd get":  {uint64(leg.RebuildPercent), leg.RebuildBytesPerSec, leg.RebuildLeftSec},
	} {
		if got[0] != 75 || got[1] != whole.LackBytes/16 || got[2] != 16 || whole.LackBytes == 0 {
			t.Errorf("%s shows %v (percent, bytes per second, seconds left), want 75, %d, 16", what, got, whole.LackBytes/16)
		}
	}
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error {
		v, err := tx.VD(stale.VdId)
		if err != nil {
			return err
		}
		v.Role = vda.Stale
		return tx.UpdateVD(v)
	}))
	lacks(stale.Size) // made to take the place of one that is lost, and never copied to
	refusal(t, recover(none), codes.FailedPrecondition, 8, stale.VdId, "has none of the data")
	lacks(4096)
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error { // another that lacks less
		v, err := tx.VD(stale.VdId)
		if err != nil {
			return err
		}
		better := *v
		better.ID, better.Lack = "better", 0
		return errors.Join(tx.InsertVD(&better))
	}))
	refusal(t, recover(none), codes.FailedPrecondition, 8, stale.VdId, "lacks 4096 bytes", "vd better", "lacks 0")
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error { return tx.DeleteVD("better") }))

	r := must[*apiv1.RecoverDaReply](t)(client.RecoverDa(ctx, &apiv1.RecoverDaRequest{DaName: "da0", VdId: stale.VdId, AcceptDataLoss: true}))
	if !strings.Contains(r.ReplyInfo.ReplyMsg, "in 4096 bytes it has older data") || r.DaMsg.Error || r.DaMsg.RedundancyState != "single" {
		t.Errorf("recovered: %v", r)
	}
	for _, v := range r.DaMsg.GrpMsgList[0].VdMsgList {
		if want := map[bool]string{true: "member", false: "stale"}[v.VdId == stale.VdId]; v.Role != want {
			t.Errorf("vd %v, want %s", v, want)
		}
	}
	must[struct{}](t)(struct{}{}, c.Store.View(ctx, func(tx store.Reader) error {
		m, err := tx.MirrorsOfDA(r.DaMsg.DaId)
		if err == nil && m[0].Gen != 3 {
			t.Errorf("gen %d, want 3", m[0].Gen)
		}
		for _, id := range []string{good.VdId, stale.VdId} {
			v, err := tx.VD(id)
			if want := map[bool]uint64{true: 2, false: 1}[id == stale.VdId]; err != nil || v.Epoch != want {
				t.Errorf("vd %+v, %v: want epoch %d", v, err, want)
			}
		}
		return err
	}))
	if s := log.String(); strings.Count(s, "an array goes on with a leg that lacks writes") != 1 || !strings.Contains(s, "vd="+stale.VdId) {
		t.Errorf("the log does not say it: %s", s)
	}
}

// twoLegs is da0, mirrored, and its legs.
func twoLegs(t *testing.T) (c *portaltest.Cluster, client apiv1.PortalClient, a, b *apiv1.VdMsg) {
	t.Helper()
	c = portaltest.New(t)
	client = c.Client()
	c.Populate(client, 2, 1)
	c.CanMirror()
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 1 << 20, Redundancy: "mirror:2"}))
	vds := getDa(t, client).GrpMsgList[0].VdMsgList
	return c, client, vds[0], vds[1]
}

// TestRecoverAMemberThatCatchesUp: a member that had broken and lacks what the others have is
// shown as copied to, and the array can go on with it when they are lost.
func TestRecoverAMemberThatCatchesUp(t *testing.T) {
	c, client, good, behind := twoLegs(t)
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error { return tx.SetVDLack(behind.VdId, 1<<20, 0) }))
	da := getDa(t, client)
	v := da.GrpMsgList[0].VdMsgList[1]
	if da.RedundancyState != "rebuilding" || v.Role != "member" || v.LackBytes != 1<<20 || da.LackBytes != 1<<20 {
		t.Errorf("while it catches up: %s, lacking %d, %v", da.RedundancyState, da.LackBytes, v)
	}
	recover := func(vd string) error {
		_, err := client.RecoverDa(ctx, &apiv1.RecoverDaRequest{DaName: "da0", VdId: vd, AcceptDataLoss: true})
		return err
	}
	refusal(t, recover(behind.VdId), codes.FailedPrecondition, 8, good.VdId, "is well")
	c.Agent(good.DnName).Ail(good.VdId, "its disk is gone")
	must[*apiv1.SyncupDnReply](t)(client.SyncupDn(ctx, &apiv1.SyncupDnRequest{DnName: good.DnName}))
	refusal(t, recover(good.VdId), codes.FailedPrecondition, 8, good.VdId, "all data")
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error { // one that was dropped long ago
		v, err := tx.VD(behind.VdId)
		if err != nil {
			return err
		}
		stale := *v
		stale.ID, stale.Role, stale.Lack = "stale", vda.Stale, 0
		return tx.InsertVD(&stale)
	}))
	refusal(t, recover("stale"), codes.FailedPrecondition, 8, "vd stale was dropped", behind.VdId, "recover from that")
	r := must[*apiv1.RecoverDaReply](t)(client.RecoverDa(ctx, &apiv1.RecoverDaRequest{DaName: "da0", VdId: behind.VdId, AcceptDataLoss: true}))
	if !strings.Contains(r.ReplyInfo.ReplyMsg, "in 1048576 bytes it has older data") || r.DaMsg.RedundancyState != "single" {
		t.Errorf("recovered: %v", r)
	}
}

// TestRecoverWhatWasMirroredUntilLately: an array whose redundancy is none already, and which was
// left a leg that catches up, is recovered as any other.
func TestRecoverWhatWasMirroredUntilLately(t *testing.T) {
	c, client, gone, behind := twoLegs(t)
	must[struct{}](t)(struct{}{}, c.Store.Update(ctx, func(tx store.Tx) error {
		row, err := tx.DAByName("da0")
		if err != nil {
			return err
		}
		row.Redundancy, row.MinLegs = 1, 1
		v, err := tx.VD(gone.VdId)
		if err != nil {
			return err
		}
		v.Role, v.Leaving = vda.Stale, true
		return errors.Join(tx.UpdateDA(row), tx.UpdateVD(v), tx.SetVDLack(behind.VdId, 4096, 0))
	}))
	r := must[*apiv1.RecoverDaReply](t)(client.RecoverDa(ctx, &apiv1.RecoverDaRequest{DaName: "da0", VdId: behind.VdId, AcceptDataLoss: true}))
	if !strings.Contains(r.ReplyInfo.ReplyMsg, "in 4096 bytes it has older data") {
		t.Errorf("recovered: %v", r)
	}
}
