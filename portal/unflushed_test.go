package portal_test

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestUnflushed: what a dn says of the write cache of a pd's disk is shown, also when that changes, and who makes a pd of
// a file, or an array, hears where SPDK passes no flush on to it.
func TestUnflushed(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 2)
	dn := c.Agent("dn0:9720")
	first := must[*apiv1.ListPdReply](t)(client.ListPd(ctx, &apiv1.ListPdRequest{})).PdMsgList[0]
	if first.WriteCache != "" {
		t.Errorf("nobody has said anything: %q", first.WriteCache)
	}
	create := func(name, conf string) *apiv1.CreatePdReply {
		t.Helper()
		dn.Forget() // so that it is told of all its pds, and tells of all
		return must[*apiv1.CreatePdReply](t)(client.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: name, PdConf: conf}))
	}
	shown := func(pd, want string) {
		t.Helper()
		m := must[*apiv1.GetPdReply](t)(client.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: pd})).PdMsg
		if m.WriteCache != want {
			t.Errorf("write_cache of %s is %q, want %q", pd, m.WriteCache, want)
		}
	}
	dn.WriteCache(vda.CacheNotFlushed)
	r := create("file", `{"type":"aio","filename":"/disks/a"}`)
	if r.PdMsg.WriteCache != "not flushed" || !strings.Contains(r.ReplyInfo.GetReplyMsg(), "a power cut at its dn may lose writes") {
		t.Errorf("%v", r)
	}
	shown(first.PdName, "not flushed")
	if r := create("known", `{"type":"aio","filename":"/dev/sdb","volatile_cache":"accepted"}`); r.ReplyInfo.GetReplyMsg() != "success" ||
		r.PdMsg.WriteCache != "not flushed" {
		t.Errorf("its user knows: %v", r)
	}
	array := func(name string, parts ...string) {
		t.Helper()
		r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, DaSize: 8 << 20, CntlrCnt: 2}))
		var cut []string
		for _, w := range r.WarningList {
			if strings.Contains(w, "a power cut may lose writes that hosts flushed") {
				cut = append(cut, w)
			}
		}
		if len(cut) != len(parts) {
			t.Fatalf("%s: warnings %q, want one with each of %q", name, cut, parts)
		}
		for i, part := range parts {
			if !strings.Contains(cut[i], part) || !strings.Contains(cut[i], "dn0:9720/") {
				t.Errorf("%s: warning %q lacks %q, or the pd", name, cut[i], part)
			}
		}
	}
	array("a", "dns whose data plane, SPDK, passes no flush on")

	dn.WriteCache(vda.CacheFlushed) // it runs vda_tgt from now on
	create("other", `{"type":"aio","filename":"/disks/b"}`)
	shown("file", "flushed")
	shown("other", "flushed")
	array("b")
	c.RunsSPDK("cn1:9820")
	array("c", "cns that run SPDK, which passes no flush on (cn1:9820)")

	dn.WriteCache(vda.CacheNone)
	create("third", `{"type":"aio","filename":"/disks/c"}`)
	shown("file", "none")
	array("d")
	dn.WriteCache("") // an agent that does not know
	create("fourth", `{"type":"aio","filename":"/disks/d"}`)
	shown("file", "none")
	shown("fourth", "")
}
