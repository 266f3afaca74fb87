package csi

import (
	"bytes"
	"context"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/controller"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/store/dbcli"
	"github.com/virtual-disk-array/vda/store/storetest"
)

// fort is a secured cluster of whole daemons.
type fort struct {
	*cluster
	dir string
}

// newFort starts one that has what newCluster has.
func newFort(t *testing.T) *fort {
	t.Helper()
	dir := t.TempDir()
	f := &fort{dir: dir, cluster: &cluster{TB: t, uri: storetest.SQLite(t)}}
	f.db(dbcli.Main{Action: "make-ca", CADir: filepath.Join(dir, "ca")})
	gate, ready := daemon.Flags{Listener: "127.0.0.1"}, make(chan string, 1)
	f.run(portal.Main{Flags: gate, DatabaseURI: f.uri, Log: planetest.Log(), Ready: ready, CADir: filepath.Join(dir, "ca"),
		Member: member.Flags{Dir: filepath.Join(dir, "portal")}}.Run)
	f.addr = <-ready
	f.db(dbcli.Main{Action: "secure"})
	f.refusesPlain()
	admin, err := pki.ParseUserToken(f.user("admin"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := client.Config{Portals: []string{f.addr}}
	cfg.Secure(admin)
	if f.portal, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.portal.Close() })
	f.run(monitor.Main{Flags: gate, DatabaseURI: f.uri, Ready: ready, Config: monitor.Config{Log: planetest.Log(), Name: "monitor.test:9620"},
		Member: member.Flags{Dir: filepath.Join(dir, "monitor"), Enrol: f.token("monitor/monitor.test:9620")}}.Run)
	<-ready
	for range 2 {
		d := f.agent("dn", dn.App)
		f.must(f.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: d.name, DnListenerConf: d.listener()}))
		f.must(f.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: d.name, PdName: "pd0", PdConf: `{"type":"malloc","size":268435456}`}))
	}
	for range 2 {
		n := f.agent("cn", cn.App)
		f.must(f.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: n.name, CnListenerConf: n.listener()}))
	}
	return f
}

// refusesPlain waits until the portal has learned that its cluster is secured.
func (f *fort) refusesPlain() {
	f.Helper()
	plain, err := client.New(client.Config{Portals: []string{f.addr}})
	if err != nil {
		f.Fatal(err)
	}
	defer plain.Close()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := plain.ListDn(f.Context(), &apiv1.ListDnRequest{}); err != nil {
			return
		}
		if time.Since(begin) > 2*time.Minute {
			f.Fatal("the portal answers calls without a token")
		}
	}
}

// db runs vda_db and returns what it prints.
func (f *fort) db(m dbcli.Main) string {
	f.Helper()
	var out bytes.Buffer
	m.DatabaseURI, m.Timeout, m.Out = f.uri, time.Minute, &out
	if err := m.Run(f.Context()); err != nil {
		f.Fatalf("%s: %v", m.Action, err)
	}
	return strings.TrimSpace(out.String())
}

// token is one by which a member enrols.
func (f *fort) token(whom string) string {
	f.Helper()
	return f.db(dbcli.Main{Action: "token", For: whom, Portal: f.addr})
}

// user makes a user with a role, and returns the token.
func (f *fort) user(role string) string {
	f.Helper()
	return f.db(dbcli.Main{Action: "user", For: "user/" + role, Role: role})
}

// agent starts a machine whose agent has a certificate.
func (f *fort) agent(kind string, app agent.App) *server {
	f.Helper()
	lis := listen(f)
	s := &server{cluster: f.cluster, kind: kind, name: lis.Addr().String(), port: freePort(f), state: f.TempDir(), socket: socketPath(f)}
	s.startPlane()
	ready := make(chan string, 1)
	f.run(agent.Main{App: app, Lis: lis, Ready: ready, Config: agent.Config{Socket: s.socket, StateDir: s.state, Log: planetest.Log(),
		KeepAlive: unhurried, Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1", AdrFam: "ipv4", TrSvcID: s.port},
		Member: member.Flags{Enrol: f.token(kind + "/" + s.name)}}}.Run)
	<-ready
	return s
}

// TestSecured: in a secured cluster the driver has the token of its role, and a volume whose
// StorageClass says so is used by nodes that have its keys alone, which may become others.
func TestSecured(t *testing.T) {
	f := newFort(t)
	token := f.user("csi")
	own, err := pki.ParseUserToken(token)
	if err != nil {
		t.Fatal(err)
	}
	driver := func(token *pki.UserToken) *controller.Controller {
		t.Helper()
		ctl, err := controller.New(controller.Config{Portals: []string{f.addr}, Token: token, Log: planetest.Log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ctl.Close)
		return ctl
	}
	ctl, nobody := driver(&own), driver(nil)
	m := newMachine(t, "node0")
	n := node.New(node.Config{Host: m, FileSystems: m, Log: planetest.Log()})
	refused := func(what string, err error, code codes.Code, says string) {
		t.Helper()
		if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
			t.Errorf("%s: %v, want %v and %q", what, err, code, says)
		}
	}
	key := func() string { return dhchap.NewSecret(dhchap.SHA256).Reveal() }
	one := map[string]string{"token": token, "dhchapKey": key(), "dhchapCtrlrKey": key()}
	two := map[string]string{"token": token, "dhchapKey": key(), "dhchapCtrlrKey": one["dhchapCtrlrKey"]}

	order := &csi.CreateVolumeRequest{Name: "v", VolumeCapabilities: []*csi.VolumeCapability{rawBlock()},
		CapacityRange: &csi.CapacityRange{RequiredBytes: 4 << 20}, Parameters: map[string]string{"dhchap": "mutual"}}
	_, err = nobody.CreateVolume(t.Context(), order)
	refused("without a token", err, codes.Unavailable, "its cluster is secured")
	order.Secrets = map[string]string{"token": "hunter2"}
	_, err = nobody.CreateVolume(t.Context(), order)
	refused("with what is no token", err, codes.InvalidArgument, "secrets: token")
	order.Secrets = one
	var v *csi.Volume
	try(t, func() error {
		made, err := nobody.CreateVolume(t.Context(), order) // by the secret's token
		v = made.GetVolume()
		return err
	})

	publish := func(secrets, context map[string]string) (*csi.ControllerPublishVolumeResponse, error) {
		return ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: v.VolumeId, NodeId: m.nqn,
			VolumeCapability: rawBlock(), VolumeContext: context, Secrets: secrets})
	}
	_, err = publish(map[string]string{"token": token}, v.VolumeContext)
	refused("published without keys", err, codes.InvalidArgument, "dhchapKey is missing")
	odd := maps.Clone(v.VolumeContext)
	odd["dhchap"] = "perhaps"
	_, err = publish(one, odd)
	refused("published with an unknown mode", err, codes.InvalidArgument, `dhchap is "perhaps"`)
	var pub *csi.ControllerPublishVolumeResponse
	for range 2 {
		try(t, func() (err error) {
			pub, err = publish(one, v.VolumeContext)
			return err
		})
	}
	for k, text := range pub.PublishContext {
		if strings.Contains(text, "DHHC") {
			t.Errorf("the publish context shows a key: %s", k)
		}
	}
	_, err = publish(one, nil)
	refused("published again without keys", err, codes.AlreadyExists, "with a key")

	staging := t.TempDir()
	stage := func(secrets, context map[string]string) error {
		_, err := n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: staging,
			PublishContext: pub.PublishContext, VolumeContext: context, VolumeCapability: rawBlock(), Secrets: secrets})
		return err
	}
	unstage := func() {
		t.Helper()
		try(t, func() error {
			_, err := n.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: staging})
			return err
		})
	}
	refused("staged without keys", stage(nil, v.VolumeContext), codes.InvalidArgument, "node-stage-secret")
	refused("staged with another key", stage(two, v.VolumeContext), codes.Unavailable, "cannot connect")
	refused("staged as a volume without keys", stage(nil, nil), codes.Unavailable, "cannot connect")
	refused("staged with controllers that have another key", stage(map[string]string{"dhchapKey": one["dhchapKey"], "dhchapCtrlrKey": key()},
		v.VolumeContext), codes.Unavailable, "cannot connect")
	if all, err := m.Controllers(pub.PublishContext["nqn"]); err != nil || len(all) > 0 {
		t.Fatalf("connections of who has no key: %v, %v", all, err)
	}
	use := func(secrets map[string]string) {
		t.Helper()
		try(t, func() error { return stage(secrets, v.VolumeContext) })
		nqn := pub.PublishContext["nqn"]
		if all, err := m.Controllers(nqn); err != nil || len(all) != 2 {
			t.Errorf("%v, %v", all, err)
		}
		d, there, err := m.Find(nqn, "")
		if err != nil || !there {
			t.Fatalf("the volume is not there: %v", err)
		}
		if err := m.Flush(d.Path); err != nil {
			t.Error(err)
		}
	}
	use(one)

	// The secret has another key by now: a node that has the volume keeps it, and one that
	// comes back has the other.
	try(t, func() (err error) {
		pub, err = publish(two, v.VolumeContext)
		return err
	})
	use(one)
	unstage()
	use(two)
	unstage()
	try(t, func() error {
		_, err := ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: v.VolumeId, NodeId: m.nqn})
		return err
	})
	try(t, func() error {
		_, err := ctl.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: v.VolumeId})
		return err
	})
	for exp, err := range f.portal.Exps(context.Background(), &apiv1.ListExpRequest{}) {
		t.Errorf("left: %v, %v", exp, err)
	}
}
