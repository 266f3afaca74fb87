package controlplane

import (
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// TestNamedNodeMovesSecured: a node with a name has a certificate of that name, with which the cluster can be
// secured and which is good at another address too.
func TestNamedNodeMovesSecured(t *testing.T) {
	f := build(t)
	b := f.box("dn", 4420)
	f.start(b, f.token("dn/dn0"))
	f.portal = f.user("ann", "admin")
	f.must(f.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: "dn0", DnAddr: b.name, DnListenerConf: listener(4420)}))
	f.must(f.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: "dn0", PdName: "pd0",
		PdConf: `{"type":"malloc","size":549755813888}`}))
	f.must(f.portal.SecureCluster(t.Context(), &apiv1.SecureClusterRequest{}))
	well := func() bool {
		r, err := f.portal.GetDn(t.Context(), &apiv1.GetDnRequest{DnName: "dn0"})
		return err == nil && r.DnMsg.DnAddr == b.name && !r.DnMsg.Error
	}
	f.until("the dn is well in the secured cluster", well)

	b.stop()
	lis := f.listen()
	b.name = lis.Addr().String()
	lis.Close()
	f.start(b, "")
	f.must(f.portal.ModifyDn(t.Context(), &apiv1.ModifyDnRequest{DnName: "dn0", NewDnAddr: &b.name}))
	f.until("the dn is well at its new address, without another token", well)
	f.must(f.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: "dn0", PdName: "pd1",
		PdConf: `{"type":"malloc","size":549755813888}`}))

	// A cn of the same name is another member.
	other := f.box("cn", 4430)
	f.start(other, f.token("cn/cn0"))
	_, _ = f.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: "dn0", CnAddr: other.name, CnListenerConf: listener(4430)})
	f.until("the agent of cn0 is not taken for that of a cn dn0", func() bool {
		r, err := f.portal.GetCn(t.Context(), &apiv1.GetCnRequest{CnName: "dn0"})
		return err == nil && r.CnMsg.Error && strings.Contains(r.CnMsg.ErrorMsg, "cn cn0 answers at")
	})
	if n := f.stolen(filepath.Join(b.dir, "tls")).Name(); n.Name != "dn0" {
		t.Errorf("the dn is %s", n)
	}
}
