package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
)

// server is a portal that answers what a test says.
type server struct {
	apiv1.UnimplementedPortalServer
	calls atomic.Int64
	err   func(n int64) error // of the n-th call; nil: all are answered
}

func (s *server) answer() error {
	n := s.calls.Add(1)
	if s.err == nil {
		return nil
	}
	return s.err(n)
}

func (s *server) ListDn(context.Context, *apiv1.ListDnRequest) (*apiv1.ListDnReply, error) {
	return &apiv1.ListDnReply{}, s.answer()
}

func (s *server) DeleteDa(context.Context, *apiv1.DeleteDaRequest) (*apiv1.DeleteDaReply, error) {
	return &apiv1.DeleteDaReply{}, s.answer()
}

// serve has s answer at an address until the test or stop ends it.
func (s *server) serve(t *testing.T) (addr string, stop func()) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	apiv1.RegisterPortalServer(srv, s)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	return lis.Addr().String(), srv.Stop
}

// nobody is an address that refuses connections.
func nobody(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	return lis.Addr().String()
}

func dial(t *testing.T, timeout time.Duration, portals ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Portals: portals, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestConfig: what cannot be reached is refused before the first call.
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  client.Config
		says string
	}{
		{client.Config{}, "no portal"},
		{client.Config{Portals: []string{"a:1", "nowhere"}}, `portal "nowhere": it must be host:port`},
		{client.Config{Portals: []string{":9520"}}, `portal ":9520"`},
		{client.Config{Portals: []string{"a:1"}, Timeout: -time.Second}, "timeout -1s"},
	} {
		if _, err := client.New(c.cfg); vda.KindOf(err) != vda.InvalidArgument || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

// TestFailover: a portal that nobody serves, and one that is stopped, are left
// for the next, also by changes; later calls begin where the last one ended.
func TestFailover(t *testing.T) {
	one, two := &server{}, &server{}
	first, stop := one.serve(t)
	second, _ := two.serve(t)
	c := dial(t, 30*time.Second, nobody(t), first, second)
	for range 3 {
		if _, err := c.DeleteDa(t.Context(), &apiv1.DeleteDaRequest{DaName: "da0"}); err != nil {
			t.Fatal(err)
		}
	}
	if one.calls.Load() != 3 || two.calls.Load() != 0 || c.Portal() != first {
		t.Errorf("%d and %d calls, at %s", one.calls.Load(), two.calls.Load(), c.Portal())
	}
	stop()
	if _, err := c.ListDn(t.Context(), &apiv1.ListDnRequest{}); err != nil {
		t.Fatal(err)
	}
	if two.calls.Load() != 1 || c.Portal() != second {
		t.Errorf("%d calls, at %s", two.calls.Load(), c.Portal())
	}
}

// TestAMutePortalIsLeft: one that takes connections and never says a word does
// not hold calls up when there is another.
func TestAMutePortalIsLeft(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	good := &server{}
	addr, _ := good.serve(t)
	cfg := client.Config{Portals: []string{lis.Addr().String(), addr}, Timeout: 30 * time.Second}
	cfg.Dial.ConnectTimeout = 100 * time.Millisecond
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.DeleteDa(t.Context(), &apiv1.DeleteDaRequest{DaName: "da0"}); err != nil {
		t.Error(err)
	}
}

// TestWhatIsTriedAgain: calls that only ask, until there is an answer; a change
// whose request may have been read, never; what a portal refused, never.
func TestWhatIsTriedAgain(t *testing.T) {
	lost := status.Error(codes.Unavailable, "transport is closing")
	s := &server{err: func(n int64) error {
		if n < 4 {
			return lost
		}
		return nil
	}}
	addr, _ := s.serve(t)
	c := dial(t, 30*time.Second, addr)
	if _, err := c.ListDn(t.Context(), &apiv1.ListDnRequest{}); err != nil || s.calls.Load() != 4 {
		t.Errorf("a list: %v after %d calls", err, s.calls.Load())
	}
	s.calls.Store(0)
	_, err := c.DeleteDa(t.Context(), &apiv1.DeleteDaRequest{DaName: "da0"})
	var e *client.Error
	if !errors.As(err, &e) || !e.Undecided || e.NotSent || e.Code != apiv1.CodeUnreachable || s.calls.Load() != 1 ||
		!strings.Contains(e.Message(), "see how far it came") {
		t.Errorf("a change: %v after %d calls", err, s.calls.Load())
	}
	refusal, err := status.New(codes.Unavailable, "busy").WithDetails(&apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeBusy),
		ReplyMsg: "busy", ReqId: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	s.err = func(int64) error { return refusal.Err() }
	s.calls.Store(0)
	_, err = c.ListDn(t.Context(), &apiv1.ListDnRequest{})
	if client.CodeOf(err) != apiv1.CodeBusy || vda.KindOf(err) != vda.Conflict || s.calls.Load() != 1 {
		t.Errorf("a refusal: %v after %d calls", err, s.calls.Load())
	}
}

// TestNoPortal: what is said when none answers, in the words of a person.
func TestNoPortal(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	a, b := nobody(t), nobody(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name            string
		ctx             context.Context
		c               *client.Client
		notSent, change bool // the request was not sent; it is a change
		undecided       bool
		is              error
		says            string
	}{
		{name: "nobody listens", ctx: t.Context(), c: dial(t, 300*time.Millisecond, a), notSent: true,
			says: "cannot reach the portal at " + a + ": " + a + ": connection refused"},
		{name: "nobody takes a change", ctx: t.Context(), c: dial(t, 300*time.Millisecond, a), change: true, notSent: true,
			says: "cannot reach"},
		{name: "nobody listens anywhere", ctx: t.Context(), c: dial(t, 300*time.Millisecond, a, b), notSent: true, says: ", nor those at "},
		{name: "no reply", ctx: t.Context(), c: dial(t, 100*time.Millisecond, mute.Addr().String()), is: context.DeadlineExceeded,
			says: "no reply from the portal at " + mute.Addr().String() + " within 100ms"},
		{name: "no reply to a change", ctx: t.Context(), c: dial(t, 100*time.Millisecond, mute.Addr().String()), change: true,
			undecided: true, is: context.DeadlineExceeded, says: "within 100ms; get or list the object"},
		{name: "interrupted", ctx: over, c: dial(t, time.Minute, mute.Addr().String()), is: context.Canceled, says: "interrupted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			if tt.change {
				_, err = tt.c.DeleteDa(tt.ctx, &apiv1.DeleteDaRequest{DaName: "da0"})
			} else {
				_, err = tt.c.ListDn(tt.ctx, &apiv1.ListDnRequest{})
			}
			var e *client.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if e.Code != apiv1.CodeUnreachable || vda.KindOf(err) != vda.Unavailable || e.NotSent != tt.notSent ||
				e.Undecided != tt.undecided ||
				tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(e.Message(), tt.says) {
				t.Errorf("%+v, %v", e, err)
			}
			if raw := reason.Raw(err.Error()); raw != "" {
				t.Errorf("%q is a library's, in %q", raw, err)
			}
		})
	}
}

// TestRefusedForLong: where nobody listens for some seconds there is no portal,
// long before the call's time is up.
func TestRefusedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New(client.Config{Portals: []string{"10.0.0.1:9520", "10.0.0.2:9520"}, Timeout: time.Hour,
			Dial: rpc.DialConfig{Connect: func(context.Context, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begin := time.Now()
		_, err = c.ListDn(t.Context(), nil)
		if took := time.Since(begin); client.CodeOf(err) != apiv1.CodeUnreachable || took < 3*time.Second || took > 10*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestBusyPortal: a call that a portal refuses as it has too much to do is made again, also
// one that changes something, when the portal says; not when the time would be up by then.
func TestBusyPortal(t *testing.T) {
	const after = 300 * time.Millisecond
	refusal := func(after time.Duration) error {
		s, err := status.New(codes.ResourceExhausted, "256 calls are under way, which is the limit; try again in a second").
			WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
		if err != nil {
			t.Error(err)
		}
		return s.Err()
	}
	s := &server{err: func(n int64) error {
		if n <= 2 {
			return refusal(after)
		}
		return nil
	}}
	addr, _ := s.serve(t)
	begin := time.Now()
	if _, err := dial(t, time.Minute, addr).DeleteDa(t.Context(), &apiv1.DeleteDaRequest{DaName: "da0"}); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < 2*after || s.calls.Load() != 3 {
		t.Errorf("%d calls in %v, the portal said twice to come again after %v", s.calls.Load(), took, after)
	}
	always := &server{err: func(int64) error { return refusal(time.Hour) }}
	addr, _ = always.serve(t)
	_, err := dial(t, time.Minute, addr).ListDn(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "calls are under way, which is the limit; try again") {
		t.Errorf("a portal that is busy for too long: %v", err)
	}
}

// TestErrors: a real portal's refusals say what, on what, and which field.
func TestErrors(t *testing.T) {
	cluster := portaltest.New(t)
	c := dial(t, 30*time.Second, cluster.Portal())
	cluster.Populate(c, 1, 1)
	ctx := t.Context()
	create := func(name string, size uint64) error {
		_, err := c.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: name, DaSize: size})
		return err
	}
	if err := create("da0", 4<<20); err != nil {
		t.Fatal(err)
	}
	_, noExp := c.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "e"})
	_, badPd := c.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: "dn0:9720", PdName: "p", PdConf: client.PdConf{Type: "floppy"}.String()})
	_, badList := c.ListDa(ctx, &apiv1.ListDaRequest{Limit: 5000})
	for _, tt := range []struct {
		err        error
		kind       vda.Kind
		code       apiv1.ReplyCode
		op, object string
		field      string
	}{
		{create("a/b", 4<<20), vda.InvalidArgument, apiv1.CodeInvalid, "create da", "a/b", "da_name"},
		{create("da1", 1000000), vda.InvalidArgument, apiv1.CodeInvalid, "create da", "da1", "da_size"},
		{create("da0", 4<<20), vda.AlreadyExists, apiv1.CodeIdentical, "create da", "da0", ""},
		{create("da0", 8<<20), vda.AlreadyExists, apiv1.CodeNameTaken, "create da", "da0", "da_size"},
		{create("da1", 1<<40), vda.ResourceExhausted, apiv1.CodeNoRoom, "create da", "da1", ""},
		{noExp, vda.NotFound, apiv1.CodeNotFound, "get exp", "da0/e", ""},
		{badPd, vda.InvalidArgument, apiv1.CodeInvalid, "create pd", "dn0:9720/p", "pd_conf"},
		{badList, vda.InvalidArgument, apiv1.CodeInvalid, "list da", "", "limit"},
	} {
		var e *client.Error
		var v *vda.Error
		if !errors.As(tt.err, &e) || !errors.As(tt.err, &v) {
			t.Errorf("%s %s: %v", tt.op, tt.object, tt.err)
			continue
		}
		if v.Kind != tt.kind || e.Code != tt.code || v.Op != tt.op || v.Object != tt.object || e.Field != tt.field ||
			len(e.ReqID) != 32 || e.Undecided || e.Portal != c.Portal() {
			t.Errorf("%v: kind %v, code %d, field %q, %+v", tt.err, v.Kind, e.Code, e.Field, v)
		}
		if s := status.Convert(tt.err); len(s.Details()) != 1 || s.Message() != e.Message() {
			t.Errorf("%v as a gRPC status: %v", tt.err, s)
		}
	}
}

// TestPages: an iterator runs over all pages, stops when told to, and can be
// run again; an error ends it.
func TestPages(t *testing.T) {
	cluster := portaltest.New(t)
	c := dial(t, 30*time.Second, cluster.Portal())
	cluster.Populate(c, 5, 1)
	dns := c.Dns(t.Context(), &apiv1.ListDnRequest{Limit: 2})
	for range 2 {
		var names []string
		for dn, err := range dns {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, dn.DnName)
		}
		if fmt.Sprint(names) != "[dn0:9720 dn1:9720 dn2:9720 dn3:9720 dn4:9720]" {
			t.Errorf("%v", names)
		}
	}
	n := 0
	for range dns {
		if n++; n == 3 {
			break
		}
	}
	for pd, err := range c.Pds(t.Context(), nil) {
		if err != nil || pd.PdName != "pd0" {
			t.Errorf("%v, %v", pd, err)
		}
		n++
	}
	if n != 8 {
		t.Errorf("%d rows, want 3 and 5", n)
	}
	var last error
	for _, err := range c.Das(t.Context(), &apiv1.ListDaRequest{Limit: 5000}) {
		last = err
	}
	if client.CodeOf(last) != apiv1.CodeInvalid {
		t.Errorf("a page that is too long: %v", last)
	}
	for _, err := range c.Cns(t.Context(), nil) {
		if err != nil {
			t.Error(err)
		}
	}
	for _, err := range c.Exps(t.Context(), nil) {
		t.Errorf("an exp: %v", err)
	}
}

// TestNote: what was done, but not everywhere, is not an error.
func TestNote(t *testing.T) {
	cluster := portaltest.New(t)
	c := dial(t, 30*time.Second, cluster.Portal())
	r, err := c.CreateDn(t.Context(), &apiv1.CreateDnRequest{DnName: "away:9720",
		DnListenerConf: client.ListenerConf(vda.Listener{TrType: "tcp", TrAddr: "192.0.2.1", AdrFam: "ipv4", TrSvcID: "4420"})})
	if err != nil || !strings.Contains(client.Note(r), "away:9720") {
		t.Errorf("%v, %q", err, client.Note(r))
	}
	l, err := c.ListDn(t.Context(), nil)
	if err != nil || client.Note(l) != "" || len(l.DnMsgList) != 1 {
		t.Errorf("%v, %q", err, client.Note(l))
	}
}

func TestConfs(t *testing.T) {
	const conf = `{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}`
	listener := vda.Listener{TrType: "tcp", TrAddr: "192.168.0.14", AdrFam: "ipv4", TrSvcID: "4420"}
	for got, want := range map[string]string{
		client.PdConf{Type: "malloc", Size: 1 << 27}.String():                 `{"type":"malloc","size":134217728}`,
		client.PdConf{Type: "aio", Filename: "/dev/sdb", Wipe: true}.String(): `{"type":"aio","filename":"/dev/sdb","wipe":true}`,
		client.PdConf{Type: "nvme", TrAddr: "0000:5e:00.0"}.String():          `{"type":"nvme","traddr":"0000:5e:00.0"}`,
		client.DaConf{StripeCount: 2, StripeSizeKB: 64}.String():              `{"stripe_count":2,"stripe_size_kb":64}`,
		client.DaConf{}.String():                                              `{}`,
		client.ListenerConf(listener):                                         conf,
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
