package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/store/dbcli"
	"github.com/virtual-disk-array/vda/store/storetest"
	"github.com/virtual-disk-array/vda/syncer"
)

// fort is a cluster of whole daemons, each with the identity that it got itself.
type fort struct {
	*cluster
	dir  string
	at   string // the portal's address
	gate daemon.Flags
	log  *slog.Logger // of the daemons
}

// build makes a cluster with a CA that is not secured yet: one portal and one monitor.
func build(t *testing.T) *fort { return buildWith(t, nil) }

// buildWith has the daemons log to a writer, everything; nil: they log as all tests' do.
func buildWith(t *testing.T, log io.Writer) *fort {
	dir := t.TempDir()
	f := &fort{dir: dir, log: planetest.Log(), gate: daemon.Flags{Listener: "127.0.0.1"},
		cluster: &cluster{T: t, uri: storetest.SQLiteAt(t, filepath.Join(dir, "vda.db")), net: planetest.NewCluster()}}
	if log != nil {
		f.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	f.db(dbcli.Main{Action: "make-ca", CADir: f.path("ca")})
	ready := make(chan string, 1)
	f.run("portal", portal.Main{Flags: f.gate, DatabaseURI: f.uri, Log: f.log, Ready: ready, CADir: f.path("ca"),
		Member: member.Flags{Dir: f.path("portal")}, SyncTimeout: 20 * time.Second}.Run)
	f.at = <-ready
	up := make(chan string, 1)
	f.run("monitor", monitor.Main{Flags: f.gate, DatabaseURI: f.uri, Ready: up,
		Config: monitor.Config{Log: f.log, Name: "monitor.test:9620"},
		Member: member.Flags{Dir: f.path("monitor"), Enrol: f.token("monitor/monitor.test:9620")}}.Run)
	<-up
	return f
}

func (f *fort) path(name string) string { return filepath.Join(f.dir, name) }

// run runs a daemon until the test ends, or what it returns is called.
func (f *fort) run(what string, run func(context.Context) error) (stop func()) {
	f.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			f.Errorf("%s: %v", what, err)
		}
	}
	f.Cleanup(stop)
	return stop
}

// db runs vda_db and returns what it prints.
func (f *fort) db(m dbcli.Main) string {
	f.Helper()
	out, err := f.tryDB(m)
	if err != nil {
		f.Fatalf("%s: %v", m.Action, err)
	}
	return out
}

func (f *fort) tryDB(m dbcli.Main) (string, error) {
	var out bytes.Buffer
	m.DatabaseURI, m.Timeout, m.Out = f.uri, time.Minute, &out
	err := m.Run(f.Context())
	return strings.TrimSpace(out.String()), err
}

func (f *fort) token(whom string) string {
	f.Helper()
	return f.db(dbcli.Main{Action: "token", For: whom, Portal: f.at})
}

// userToken makes a user of a role, and returns the token.
func (f *fort) userToken(name, role string) string {
	f.Helper()
	return f.db(dbcli.Main{Action: "user", For: "user/" + name, Role: role})
}

// user is a client of the portal with the token of a user of a role.
func (f *fort) user(name, role string) *client.Client {
	f.Helper()
	t, err := pki.ParseUserToken(f.userToken(name, role))
	if err != nil {
		f.Fatal(err)
	}
	cfg := client.Config{Portals: []string{f.at}}
	cfg.Secure(t)
	return f.client(cfg)
}

func (f *fort) client(cfg client.Config) *client.Client {
	f.Helper()
	c, err := client.New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	return c
}

// box is a node whose agent can be started again.
type box struct {
	*node
	kind, port, dir string
	stop            func()
}

func (f *fort) box(kind string, port int) *box {
	f.Helper()
	b := &box{node: &node{plane: planetest.NewPlane(f, f.net, true)}, kind: kind, port: fmt.Sprint(port), dir: f.path(fmt.Sprint(kind, port))}
	f.Cleanup(func() { b.plane.Stop() })
	lis := f.listen()
	b.name = lis.Addr().String()
	lis.Close()
	return b
}

// main is the agent of a node. Its address stays free between two starts: nobody else is
// given a port of the range that a listener of this process has had.
func (f *fort) main(b *box, token string) agent.Main {
	app := dn.App
	if b.kind == "cn" {
		app = cn.App
	}
	return agent.Main{App: app, Prepare: func(n *agent.Node) {
		n.Plane.OpenRaw = f.net.OpenRaw
		n.Plane.Reach = func(context.Context, spdk.TransportID) error { return nil }
	}, Config: agent.Config{Socket: b.plane.Socket, StateDir: b.dir, Log: f.log, AioDirs: []string{"/"},
		Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1", AdrFam: "ipv4", TrSvcID: b.port},
		Member:  member.Flags{Enrol: token}}}
}

func (f *fort) start(b *box, token string) {
	f.Helper()
	m, ready := f.main(b, token), make(chan string, 1)
	m.Ready = ready
	var err error
	for range 100 { // the last one may not have let go yet
		if m.Lis, err = net.Listen("tcp", b.name); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		f.Fatal(err)
	}
	b.stop = f.run(b.kind+" agent", m.Run)
	<-ready
}

// call is a Heartbeat to an agent as cfg dials it.
func (f *fort) call(b *box, cfg rpc.DialConfig) error {
	f.Helper()
	conn, err := rpc.Dial(b.name, cfg)
	if err != nil {
		f.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	defer cancel()
	if b.kind == "cn" {
		_, err = apiv1.NewCnAgentClient(conn).Heartbeat(ctx, &apiv1.HeartbeatRequest{})
	} else {
		_, err = apiv1.NewDnAgentClient(conn).Heartbeat(ctx, &apiv1.HeartbeatRequest{})
	}
	return err
}

// refused fails the test unless a call was refused before a handler saw it.
func (f *fort) refused(what string, err error, words ...string) {
	f.Helper()
	code := status.Code(err)
	if code != codes.Unavailable && code != codes.Unauthenticated && code != codes.PermissionDenied {
		f.Errorf("%s: %v", what, err)
	}
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			f.Errorf("%s: %v, want %q", what, err, w)
		}
	}
}

// audited: the audit says who it was that changed something, or was refused.
func (f *fort) audited() {
	f.Helper()
	for kind, user := range map[string]string{"change": "ann", "change_refused": "bob"} {
		reply, err := f.portal.ListEvent(f.Context(), &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{KindList: []string{kind}}})
		if err != nil {
			f.Fatal(err)
		}
		if !slices.ContainsFunc(reply.EventMsgList, func(e *apiv1.EventMsg) bool { return e.User == user }) {
			f.Errorf("no %s by %s: %v", kind, user, reply.EventMsgList)
		}
	}
}

// stolen is the identity in a folder, as one who has copied it has it.
func (f *fort) stolen(dir string) *pki.Identity {
	f.Helper()
	id, err := pki.Open(dir)
	if err != nil || !id.Enrolled() {
		f.Fatalf("%s: %v", dir, err)
	}
	return id
}

// forged is an identity of a CA, good for a time from a moment on.
func (f *fort) forged(ca *pki.CA, n pki.Name, at time.Time, life time.Duration) *pki.Identity {
	f.Helper()
	clock := func() time.Time { return at }
	id, err := pki.OpenAt(filepath.Join(f.TempDir(), "tls"), func() time.Time { return clock() })
	if err != nil {
		f.Fatal(err)
	}
	csr, err := id.Request()
	if err != nil {
		f.Fatal(err)
	}
	cert, err := ca.Issue(csr, n, at, life)
	if err == nil {
		err = id.Accept(cert, ca.PEM(), n, "")
	}
	if err != nil {
		f.Fatal(err)
	}
	clock = time.Now
	return id
}

// as dials with an identity and asks nothing of the other side.
func as(id *pki.Identity) rpc.DialConfig {
	cfg := id.ClientTLS(func(pki.Name) error { return nil })
	cfg.VerifyConnection = nil
	return rpc.DialConfig{TLS: cfg}
}

// TestSecuredCluster turns a plain cluster of whole daemons into a secured one while an
// array serves, and has strangers and stolen certificates try what docs/security.md lists.
func TestSecuredCluster(t *testing.T) {
	f := build(t)
	dns := []*box{f.box("dn", 4420), f.box("dn", 4421)}
	cns := []*box{f.box("cn", 4430), f.box("cn", 4431)}
	f.start(dns[0], "") // plain
	f.start(dns[1], f.token("dn/"+dns[1].name))
	for _, b := range cns {
		f.start(b, f.token("cn/"+b.name))
	}
	f.portal = f.client(client.Config{Portals: []string{f.at}})
	for i, b := range dns {
		f.must(f.portal.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: b.name, DnListenerConf: listener(4420 + i)}))
		f.must(f.portal.CreatePd(t.Context(), &apiv1.CreatePdRequest{DnName: b.name, PdName: "pd0",
			PdConf: `{"type":"malloc","size":549755813888}`}))
	}
	for i, b := range cns {
		f.must(f.portal.CreateCn(t.Context(), &apiv1.CreateCnRequest{CnName: b.name, CnListenerConf: listener(4430 + i)}))
	}
	f.must(nil, f.array(0))
	serving := func() int { return f.serves(cns[0].node, 2) + f.serves(cns[1].node, 2) }
	f.until("an array of a plain and a secured dn serves", func() bool { return serving() == 1 })

	if _, err := f.tryDB(dbcli.Main{Action: "secure"}); err == nil || !strings.Contains(err.Error(), "dn "+dns[0].name) {
		t.Fatalf("secured while a dn has no certificate: %v", err)
	}
	dns[0].stop()
	used := f.token("dn/" + dns[0].name)
	f.start(dns[0], used)
	secure := func() error {
		_, err := f.portal.SecureCluster(t.Context(), &apiv1.SecureClusterRequest{})
		return err
	}
	if err := secure(); client.CodeOf(err) != apiv1.CodeFailedPrecondition || !strings.Contains(err.Error(), "role admin") {
		t.Fatalf("secured while nobody could give orders then: %v", err)
	}
	ann := f.user("ann", "admin")
	f.must(nil, secure())
	for _, b := range append(dns, cns...) {
		f.until("a plain call to "+b.name+" is refused", func() bool { return status.Code(f.call(b, rpc.DialConfig{})) == codes.Unavailable })
	}
	if got := serving(); got != 1 {
		t.Errorf("%d arrays serve once the cluster is secured", got)
	}
	f.until("a plain call to the portal is refused", func() bool {
		_, err := f.portal.ListDn(t.Context(), &apiv1.ListDnRequest{})
		return client.CodeOf(err) == apiv1.CodeUnreachable || client.CodeOf(err) == apiv1.CodeUnauthenticated // its connection was up
	})
	f.portal = ann
	f.must(nil, secure())
	f.must(nil, f.array(1))
	f.until("an array made by a user with a token serves", func() bool { return serving() == 2 })

	t.Run("hops", func(t *testing.T) { f.attackHops(dns, cns) })
	t.Run("agents", func(t *testing.T) { f.attackAgents(dns, cns) })
	t.Run("portal", func(t *testing.T) { f.attackPortal(dns[0], used) })
	t.Run("pages", func(t *testing.T) { f.attackPages() })
	t.Run("restarts", func(t *testing.T) { f.attackRestarts(dns) })
	t.Run("revoked", func(t *testing.T) { f.revokes(dns) })
	if got := serving(); got != 2 {
		t.Errorf("%d arrays serve after all that", got)
	}
}

// attackAgents tries to give orders to agents.
func (f *fort) attackAgents(dns, cns []*box) {
	ca, err := pki.LoadCA(f.path("ca"))
	if err != nil {
		f.Fatal(err)
	}
	own := f.stolen(f.path("portal")).Name()
	other, err := pki.NewCA(own.Cluster, time.Now().Add(-24*time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	foreign := own
	foreign.Cluster = "another"
	now := time.Now()
	for _, b := range append(dns, cns...) {
		f.refused("in the clear", f.call(b, rpc.DialConfig{}))
		f.refused("without a certificate", f.call(b, rpc.DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}}), "secured")
		f.refused("another CA's portal", f.call(b, as(f.forged(other, own, now, time.Hour))))
		f.refused("another cluster's portal", f.call(b, as(f.forged(ca, foreign, now, time.Hour))))
		f.refused("an expired portal", f.call(b, as(f.forged(ca, own, now.Add(-2*time.Minute), time.Minute))))
		for _, node := range append(dns, cns...) {
			id := f.stolen(filepath.Join(node.dir, "tls"))
			f.refused("the certificate of "+id.Name().String(), f.call(b, as(id)), "portal and monitor")
		}
		if err := f.call(b, as(f.stolen(f.path("monitor")))); status.Code(err) != codes.InvalidArgument {
			f.Errorf("a monitor does not get through to the handler: %v", err)
		}
	}
	f.impersonate(dns)
	f.nodesAudited(dns, cns)
}

// nodesAudited: the audit has what agents have refused, with who it was.
func (f *fort) nodesAudited(dns, cns []*box) {
	thief := f.stolen(filepath.Join(dns[0].dir, "tls")).Name()
	for _, b := range append(dns, cns...) {
		for what, is := range map[string]func(*apiv1.EventMsg) bool{
			"the call of " + thief.String(): func(e *apiv1.EventMsg) bool {
				return e.User == thief.Kind+" "+thief.Name && strings.HasSuffix(e.Method, "/Heartbeat") && e.Code == uint32(apiv1.CodePermissionDenied)
			},
			"the call without a certificate": func(e *apiv1.EventMsg) bool {
				return e.User == "" && strings.HasSuffix(e.Method, "/Heartbeat") && e.Code == uint32(apiv1.CodeUnauthenticated)
			},
			"the connection in the clear": func(e *apiv1.EventMsg) bool {
				return e.Method == "connect" && strings.Contains(e.Text, "in the clear")
			},
		} {
			f.until("the audit has "+what+" at "+b.name, func() bool {
				reply, err := f.portal.ListEvent(f.Context(), &apiv1.ListEventRequest{Limit: 500, Filter: &apiv1.EventFilter{Audit: true,
					KindList: []string{"change_refused"}}})
				return err == nil && slices.ContainsFunc(reply.EventMsgList, func(e *apiv1.EventMsg) bool {
					return e.Object == b.kind && e.Name == b.name && e.Peer != "" && is(e)
				})
			})
		}
	}
}

// attackHops tries to get at vds and at exporters of a primary as one who knows all
// names, and then as a primary of before.
func (f *fort) attackHops(dns, cns []*box) {
	boxes := append(slices.Clone(dns), cns...)
	var planes []spdk.API
	for _, b := range boxes {
		planes = append(planes, b.plane.Client())
	}
	strangers := func() (doors int, hosts []string) {
		for i, b := range boxes {
			all, err := planes[i].NvmfGetSubsystems(f.Context())
			f.must(nil, err)
			for _, sub := range all {
				if err := b.plane.Break("127.0.0.1:"+b.port, sub.NQN, vda.NQNPrefix+"stranger"); err == nil {
					f.Errorf("a host that nobody has named gets at %s", sub.NQN)
				}
				for _, h := range sub.Hosts {
					_, _, primary := vda.ParsePrimaryHost(h.NQN)
					if !primary && !strings.Contains(h.NQN, vda.ProxyPrefix) {
						continue
					}
					doors++
					hosts = append(hosts, h.NQN)
					err := b.plane.Break("127.0.0.1:"+b.port, sub.NQN, h.NQN)
					if err == nil || !strings.Contains(err.Error(), "authentication failed") {
						f.Errorf("%s gets at %s: %v", h.NQN, sub.NQN, err)
					}
				}
			}
		}
		return doors, hosts
	}
	// 2 arrays of 2 vds, and 2 exporters that a primary shows to a secondary.
	var hosts []string
	f.until("connections between nodes have keys", func() bool {
		var doors int
		doors, hosts = strangers()
		return doors == 6
	})
	keys := map[string]bool{}
	for _, b := range boxes {
		for _, name := range b.plane.Keys() {
			keys[name] = true
		}
		files, err := os.ReadDir(filepath.Join(b.dir, "hops"))
		f.must(nil, err)
		for _, file := range files {
			if fi, err := file.Info(); err != nil || fi.Mode().Perm() != 0o600 {
				f.Errorf("%s: %v, %v", file.Name(), fi.Mode(), err)
			}
		}
	}
	if want := 2 * 2 * 6; len(keys) != want { // the host's and the controller's, on both sides
		f.Errorf("%d keys, want %d: %v", len(keys), want, keys)
	}
	f.must(f.portal.FailoverDa(f.Context(), &apiv1.FailoverDaRequest{DaName: "da0"}))
	f.until("the array serves in the next term, and nothing of before is left", func() bool {
		doors, now := strangers()
		names, old := 0, 0
		for _, b := range boxes {
			for _, name := range b.plane.Keys() {
				names++
				if keys[name] {
					old++
				}
			}
		}
		return doors == 6 && f.serves(cns[0].node, 2)+f.serves(cns[1].node, 2) == 2 && !slices.Equal(now, hosts) && names == 24 && old == 12
	})
}

// impersonate has a dn answer where another must.
func (f *fort) impersonate(dns []*box) {
	lis := f.listen()
	thief := f.stolen(filepath.Join(dns[0].dir, "tls"))
	asked := make(chan struct{}, 1)
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		asked <- struct{}{}
		return nil
	}))
	secure := thief.ServerTLS()
	secure.NextProtos = []string{"h2"}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tls.NewListener(lis, secure)) }()
	defer func() {
		srv.Stop()
		<-done
	}()
	pool := syncer.NewPool(rpc.DialConfig{Identity: f.stolen(f.path("portal"))})
	defer pool.Close()
	agent, err := pool.Dn(vda.At{Kind: pki.DN, Name: dns[1].name, Addr: lis.Addr().String()})
	if err != nil {
		f.Fatal(err)
	}
	_, err = agent.Sync(f.Context(), &apiv1.SyncDnRequest{})
	f.refused("a dn where another must be", err, "answers at")
	select {
	case <-asked:
		f.Error("the thief has got a call")
	default:
	}
}

// attackPortal tries tokens, and users' roles.
func (f *fort) attackPortal(b *box, used string) {
	spent := func(text string) error {
		m := member.Flags{Dir: filepath.Join(f.TempDir(), "tls"), Enrol: text}
		_, err := m.Open(f.Context(), pki.DN, planetest.Log())
		return err
	}
	if err := spent(used); err == nil || !strings.Contains(err.Error(), "the token is not good") {
		f.Errorf("a token is used twice: %v", err)
	}
	late := f.db(dbcli.Main{Action: "token", For: "dn/" + b.name, Portal: f.at, Life: time.Nanosecond})
	if err := spent(late); err == nil || !strings.Contains(err.Error(), "the token is not good") {
		f.Errorf("an expired token is taken: %v", err)
	}
	t, err := pki.ParseToken(f.token("dn/somewhere:9720"))
	if err != nil {
		f.Fatal(err)
	}
	t.Name.Name = b.name
	if err := spent(t.String()); err == nil || !strings.Contains(err.Error(), "the token is not good") {
		f.Errorf("a token for one dn is taken for another: %v", err)
	}
	for role, can := range map[string]func(method string) bool{
		"viewer": func(m string) bool {
			return (strings.HasPrefix(m, "List") || strings.HasPrefix(m, "Get")) && m != "ListUser"
		},
		"csi": func(m string) bool {
			for _, noun := range []string{"Da", "Exp", "Snap"} {
				for _, verb := range []string{"Create", "Delete", "Modify"} {
					if m == verb+noun {
						return true
					}
				}
			}
			if m == "UndeleteDa" {
				return true
			}
			if slices.Contains([]string{"ListAlert", "ListOrphan", "ListVersion", "ListEvent", "GetVd", "GetTop", "ListUser"}, m) {
				return false
			}
			return strings.HasPrefix(m, "List") || strings.HasPrefix(m, "Get")
		},
	} {
		c := f.user("bob", role)
		for _, m := range apiv1.Portal_ServiceDesc.Methods {
			// An empty request of a method that may be called fails for other reasons.
			own := m.MethodName == "SetPassword" || m.MethodName == "DeleteSession" // of the caller
			err := c.Invoke(f.Context(), "/vda.v1.Portal/"+m.MethodName, &apiv1.VersionRequest{}, &apiv1.VersionReply{})
			if denied := client.CodeOf(err) == apiv1.CodePermissionDenied; denied == (own || can(m.MethodName)) {
				f.Errorf("a %s calls %s: %v", role, m.MethodName, err)
			}
		}
	}
	bad, err := pki.NewUserToken("c", []byte(f.stolen(f.path("portal")).CA()))
	if err != nil {
		f.Fatal(err)
	}
	bad.Cluster = f.stolen(f.path("portal")).Name().Cluster
	cfg := client.Config{Portals: []string{f.at}}
	cfg.Secure(bad)
	if _, err := f.client(cfg).ListDn(f.Context(), &apiv1.ListDnRequest{}); client.CodeOf(err) != apiv1.CodeUnauthenticated {
		f.Errorf("an invented token: %v", err)
	}
	anon := f.client(client.Config{Portals: []string{f.at}, Dial: rpc.DialConfig{TLS: bad.TLS()}})
	if _, err := anon.ListDn(f.Context(), &apiv1.ListDnRequest{}); client.CodeOf(err) != apiv1.CodeUnauthenticated {
		f.Errorf("nobody: %v", err)
	}
	node := f.client(client.Config{Portals: []string{f.at}, Dial: as(f.stolen(filepath.Join(b.dir, "tls")))})
	if _, err := node.ListDn(f.Context(), &apiv1.ListDnRequest{}); client.CodeOf(err) != apiv1.CodePermissionDenied {
		f.Errorf("a dn calls the portal: %v", err)
	}
	f.audited()
	ann := f.user("carol", "admin")
	f.must(ann.ListDn(f.Context(), &apiv1.ListDnRequest{}))
	f.db(dbcli.Main{Action: "revoke", For: "user/carol"})
	if _, err := ann.ListDn(f.Context(), &apiv1.ListDnRequest{}); client.CodeOf(err) != apiv1.CodeUnauthenticated {
		f.Errorf("a revoked user: %v", err)
	}
}

// attackPages has another site's page use the session of an admin, and a viewer change
// something on the pages and over REST.
func (f *fort) attackPages() {
	f.Helper()
	const action, form = "/do/create-array", "da_name=forged&da_size=8+MiB&cntlr_cnt=1&stripe_count=1"
	send := func(browser *http.Client, method, path, body string, header ...string) (int, string) {
		f.Helper()
		r, err := http.NewRequestWithContext(f.Context(), method, "https://"+f.at+path, strings.NewReader(body))
		f.must(nil, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := browser.Do(r)
		f.must(nil, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		f.must(nil, err)
		return resp.StatusCode, string(text)
	}
	own := []string{"Origin", "https://" + f.at, "Sec-Fetch-Site", "same-origin"}
	login := func(token string) *http.Client {
		f.Helper()
		jar, err := cookiejar.New(nil)
		f.must(nil, err)
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		f.Cleanup(transport.CloseIdleConnections)
		stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		browser := &http.Client{Jar: jar, Transport: transport, CheckRedirect: stay}
		if code, text := send(browser, "POST", "/login", url.Values{"token": {token}}.Encode(), own...); code != http.StatusSeeOther {
			f.Fatalf("login: %d, %s", code, text)
		}
		return browser
	}
	admin := login(f.userToken("dora", "admin"))
	if code, text := send(admin, "GET", "/", ""); code != http.StatusOK {
		f.Errorf("the admin's session: %d, %s", code, text)
	}
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		for _, path := range []string{action, "/logout", "/api/v1/da"} {
			if code, text := send(admin, "POST", path, form, header...); code != http.StatusForbidden {
				f.Errorf("another site's page, by %v, posts to %s in the admin's session: %d, %s", header, path, code, text)
			}
		}
		if code, text := send(admin, "DELETE", "/api/v1/da/da0", "", header...); code != http.StatusForbidden {
			f.Errorf("another site's page, by %v, deletes an array in the admin's session: %d, %s", header, code, text)
		}
	}
	token := f.userToken("eve", "viewer")
	viewer := login(token)
	if code, text := send(viewer, "POST", action, form, own...); code == http.StatusSeeOther {
		f.Errorf("a viewer makes an array on the page: %d, %s", code, text)
	}
	if code, text := send(viewer, "POST", "/api/v1/da", `{"da_name":"forged","da_size":8388608,"cntlr_cnt":1}`,
		"Authorization", "Bearer "+token, "Content-Type", "application/json"); code != http.StatusForbidden {
		f.Errorf("a viewer makes an array over REST: %d, %s", code, text)
	}
	das, err := f.portal.ListDa(f.Context(), &apiv1.ListDaRequest{})
	f.must(nil, err)
	if len(das.DaMsgList) != 2 {
		f.Errorf("arrays: %v", das.DaMsgList)
	}
	// The form is a good one: it is the user who may not send it.
	if code, text := send(admin, "POST", action, form, own...); code != http.StatusSeeOther {
		f.Errorf("the admin makes an array on the page: %d, %s", code, text)
	}
	f.must(f.portal.DeleteDa(f.Context(), &apiv1.DeleteDaRequest{DaName: "forged"}))
}

// attackRestarts starts daemons of the secured cluster as plain ones.
func (f *fort) attackRestarts(dns []*box) {
	dns[0].stop()
	f.start(dns[0], "")
	f.refused("in the clear, after a restart without flags", f.call(dns[0], rpc.DialConfig{}))
	dns[0].stop()
	cert := filepath.Join(dns[0].dir, "tls", "identity.pem")
	if err := os.Rename(cert, cert+".away"); err != nil {
		f.Fatal(err)
	}
	m := f.main(dns[0], "")
	m.Lis = f.listen()
	if err := m.Run(f.Context()); err == nil || !strings.Contains(err.Error(), "--enrol") {
		f.Errorf("an agent without its certificate starts: %v", err)
	}
	f.start(dns[0], f.token("dn/"+dns[0].name)) // made by who rebuilds it
	f.refused("in the clear, after another enrolment", f.call(dns[0], rpc.DialConfig{}))

	plain := portal.Main{Flags: f.gate, DatabaseURI: f.uri, Log: planetest.Log()}
	if err := plain.Run(f.Context()); !errors.Is(err, syncer.ErrPlain) {
		f.Errorf("a plain portal on the database of a secured cluster: %v", err)
	}
	watch := monitor.Main{Flags: f.gate, DatabaseURI: f.uri, Config: monitor.Config{Log: planetest.Log(), Name: "monitor.test:9620"}}
	if err := watch.Run(f.Context()); !errors.Is(err, syncer.ErrPlain) {
		f.Errorf("a plain monitor on the database of a secured cluster: %v", err)
	}
}

// revokes has a stolen certificate refused by the portal and by agents.
func (f *fort) revokes(dns []*box) {
	dir := filepath.Join(dns[1].dir, "tls")
	copied := f.path("copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"identity.pem", "security.json"} {
		if err := os.Chmod(filepath.Join(copied, name), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	thief := f.stolen(copied)
	renew := func() error {
		conn, err := rpc.Dial(f.at, rpc.DialConfig{Identity: thief, Server: member.Portals})
		if err != nil {
			f.Fatal(err)
		}
		defer conn.Close()
		csr, err := thief.Request()
		if err != nil {
			f.Fatal(err)
		}
		_, err = apiv1.NewSecurityClient(conn).Renew(f.Context(), &apiv1.RenewRequest{Request: csr})
		return err
	}
	f.must(nil, renew())
	f.db(dbcli.Main{Action: "revoke", For: "dn/" + dns[1].name})
	if renew() == nil { // the portal hears of it up to 3 s later
		f.Error("a certificate that is revoked is exchanged for one that is not")
	}
	f.until("the portal refuses it", func() bool {
		code := status.Code(renew())
		return code == codes.Unavailable || code == codes.Unauthenticated
	})
	own := f.stolen(filepath.Join(dns[0].dir, "tls"))
	f.until("the other agents know", func() bool { return len(f.stolen(filepath.Join(dns[0].dir, "tls")).Revoked()) == 1 })
	f.refused("with a revoked certificate", f.call(dns[0], as(thief)))
	if own.Name().Name != dns[0].name {
		f.Errorf("it is %s", own.Name())
	}

	dns[1].stop()
	f.start(dns[1], f.token("dn/"+dns[1].name)) // beside the certificate that is revoked
	f.until("the node is taken back", func() bool {
		r, err := f.portal.GetDn(f.Context(), &apiv1.GetDnRequest{DnName: dns[1].name})
		return err == nil && !r.DnMsg.Error && r.DnMsg.Online
	})
}

// TestTokenWithoutDatabase: who has shown no good token does not hear where the database is.
func TestTokenWithoutDatabase(t *testing.T) {
	f := build(t)
	if err := os.WriteFile(f.path("vda.db"), bytes.Repeat([]byte("damaged "), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(f.path("vda.db-wal"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+f.at+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer invented")
	anyone := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := anyone.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"reply_code":11,`) ||
		strings.Contains(string(body), f.dir) {
		t.Errorf("%d, %s", resp.StatusCode, body)
	}
}
