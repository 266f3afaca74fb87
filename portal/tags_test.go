package portal_test

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// tagsOf is what a message shows of an object's tags.
func tagsOf(m proto.Message) string {
	r := m.ProtoReflect()
	list := r.Get(r.Descriptor().Fields().ByName("label_list")).List()
	var labels []string
	for i := range list.Len() {
		labels = append(labels, list.Get(i).String())
	}
	return fmt.Sprint(labels, " ", r.Get(r.Descriptor().Fields().ByName("description")).String())
}

// TestLabels: every object that users make gets labels and a description, is found by
// them and loses them, and no node hears of it.
func TestLabels(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	cl := c.Client()
	c.Agent("dn0:9720")
	c.Agent("cn0:9820")
	l, l2 := []string{"env=prod", "team=db"}, "env=prod"
	dn := must[*apiv1.CreateDnReply](t)(cl.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "dn0:9720", DnListenerConf: portaltest.Listener(4000),
		Label: l, Description: "dn"})).DnMsg
	cn := must[*apiv1.CreateCnReply](t)(cl.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "cn0:9820", CnListenerConf: portaltest.Listener(5000),
		Label: l, Description: "cn"})).CnMsg
	pd := must[*apiv1.CreatePdReply](t)(cl.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: "pd0",
		PdConf: `{"type":"malloc","size":134217728}`, Label: l, Description: "pd"})).PdMsg
	da := must[*apiv1.CreateDaReply](t)(cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, Label: l,
		Description: "da"})).DaMsg
	snap := must[*apiv1.CreateSnapReply](t)(cl.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: "da0", SnapName: "s0", Label: l,
		Description: "snap"})).SnapMsg
	exp := must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e0",
		InitiatorNqn: "nqn.2016-06.io.spdk:h", Label: l, Description: "exp"})).ExpMsg
	for kind, m := range map[string]proto.Message{"dn": dn, "cn": cn, "pd": pd, "da": da, "snap": snap, "exp": exp} {
		if got := tagsOf(m); got != "[env=prod team=db] "+kind {
			t.Errorf("created %s: %s", kind, got)
		}
	}
	dnAgent, cnAgent := c.Agent("dn0:9720"), c.Agent("cn0:9820")
	dnAgent.Syncs() // what they were told by then
	cnAgent.Syncs()
	version := must[*apiv1.GetCnReply](t)(cl.GetCn(ctx, &apiv1.GetCnRequest{CnName: "cn0:9820"})).CnMsg.Version

	change, none := []string{"team-", "env=test"}, ptr("")
	for _, o := range []struct {
		kind   string
		modify func() (proto.Message, error)
		get    func() (proto.Message, error)
		list   func(label ...string) (proto.Message, error)
	}{
		{"dn", func() (proto.Message, error) {
			return cl.ModifyDn(ctx, &apiv1.ModifyDnRequest{DnName: "dn0:9720", Label: change, NewDescription: none})
		}, func() (proto.Message, error) { return cl.GetDn(ctx, &apiv1.GetDnRequest{DnName: "dn0:9720"}) },
			func(l ...string) (proto.Message, error) { return cl.ListDn(ctx, &apiv1.ListDnRequest{Label: l}) }},
		{"cn", func() (proto.Message, error) {
			return cl.ModifyCn(ctx, &apiv1.ModifyCnRequest{CnName: "cn0:9820", Label: change, NewDescription: none})
		}, func() (proto.Message, error) { return cl.GetCn(ctx, &apiv1.GetCnRequest{CnName: "cn0:9820"}) },
			func(l ...string) (proto.Message, error) { return cl.ListCn(ctx, &apiv1.ListCnRequest{Label: l}) }},
		{"pd", func() (proto.Message, error) {
			return cl.ModifyPd(ctx, &apiv1.ModifyPdRequest{DnName: "dn0:9720", PdName: "pd0", Label: change, NewDescription: none})
		}, func() (proto.Message, error) {
			return cl.GetPd(ctx, &apiv1.GetPdRequest{DnName: "dn0:9720", PdName: "pd0"})
		},
			func(l ...string) (proto.Message, error) { return cl.ListPd(ctx, &apiv1.ListPdRequest{Label: l}) }},
		{"da", func() (proto.Message, error) {
			return cl.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", Label: change, NewDescription: none})
		}, func() (proto.Message, error) { return cl.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"}) },
			func(l ...string) (proto.Message, error) { return cl.ListDa(ctx, &apiv1.ListDaRequest{Label: l}) }},
		{"snap", func() (proto.Message, error) {
			return cl.ModifySnap(ctx, &apiv1.ModifySnapRequest{DaName: "da0", SnapName: "s0", Label: change, NewDescription: none})
		}, func() (proto.Message, error) {
			return cl.GetSnap(ctx, &apiv1.GetSnapRequest{DaName: "da0", SnapName: "s0"})
		},
			func(l ...string) (proto.Message, error) { return cl.ListSnap(ctx, &apiv1.ListSnapRequest{Label: l}) }},
		{"exp", func() (proto.Message, error) {
			return cl.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e0", Label: change, NewDescription: none})
		}, func() (proto.Message, error) {
			return cl.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "e0"})
		},
			func(l ...string) (proto.Message, error) { return cl.ListExp(ctx, &apiv1.ListExpRequest{Label: l}) }},
	} {
		t.Run(o.kind, func(t *testing.T) {
			field := func(m proto.Message, err error, name string) protoreflect.Value {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				r := m.ProtoReflect()
				return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(name)))
			}
			found := func(want string, label ...string) {
				t.Helper()
				m, err := o.list(label...)
				list := field(m, err, o.kind+"_msg_list").List()
				got := ""
				for i := range list.Len() {
					got += tagsOf(list.Get(i).Message().Interface())
				}
				if got != want {
					t.Errorf("found by %q: %q, want %q", label, got, want)
				}
			}
			found("[env=prod team=db] "+o.kind, l2, "team")
			found("", "env!=prod")
			m, err := o.modify()
			if got := tagsOf(field(m, err, o.kind+"_msg").Message().Interface()); got != "[env=test] " {
				t.Errorf("modified: %s", got)
			}
			m, err = o.get()
			if got := tagsOf(field(m, err, o.kind+"_msg").Message().Interface()); got != "[env=test] " {
				t.Errorf("get: %s", got)
			}
			found("[env=test] ", "!team", "env")
			found("", l2)
			_, err = o.list("env prod")
			refusedWith(t, err, apiv1.CodeInvalid, `label "env prod": the key "env prod" must be`)
		})
	}
	if n := len(dnAgent.Syncs()) + len(cnAgent.Syncs()); n != 0 {
		t.Errorf("nodes were told %d times of labels", n)
	}
	if v := must[*apiv1.GetCnReply](t)(cl.GetCn(ctx, &apiv1.GetCnRequest{CnName: "cn0:9820"})).CnMsg.Version; v != version {
		t.Errorf("labels have taken the cn from version %d to %d", version, v)
	}
	_, err := cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, Label: l})
	refusedWith(t, err, apiv1.CodeNameTaken, "other parameters: label is env=test, not env=prod,team=db")
	_, err = cl.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, Label: []string{"env=test"}})
	refusedWith(t, err, apiv1.CodeIdentical, "exactly as asked for")
	_, err = cl.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", Label: []string{"a=b c"}})
	refusedWith(t, err, apiv1.CodeInvalid, `the value "b c"`)
	_, err = cl.ModifyPd(ctx, &apiv1.ModifyPdRequest{DnName: "dn0:9720", PdName: "pd0"})
	refusedWith(t, err, apiv1.CodeInvalid, "new_online, label or new_description")

	// They go with the object: one of the same name has none.
	must[*apiv1.DeleteExpReply](t)(cl.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da0", ExpName: "e0"}))
	exp = must[*apiv1.CreateExpReply](t)(cl.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e0",
		InitiatorNqn: "nqn.2016-06.io.spdk:h"})).ExpMsg
	if !slices.Equal(exp.LabelList, nil) {
		t.Errorf("a new exp has labels: %v", exp.LabelList)
	}
}
