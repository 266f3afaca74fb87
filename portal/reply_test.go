package portal_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
)

// rawCodec sends bytes as they are, as a client of another making may.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { return nil }
func (rawCodec) Name() string                       { return "proto" }

// TestUnreadableRequest: a request that gRPC itself refuses gets a reply_info
// as every other.
func TestUnreadableRequest(t *testing.T) {
	c := portaltest.New(t)
	conn, err := rpc.Dial(c.Portal(), rpc.DialConfig{MaxMessage: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	field := func(text string) []byte { // da_name, field 1, of GetDaRequest
		n := len(text)
		return append([]byte{1<<3 | 2, byte(n&0x7f | 0x80), byte(n>>7&0x7f | 0x80), byte(n >> 14 & 0x7f)}, text...)
	}
	for _, tt := range []struct {
		name string
		body []byte
		says string
	}{
		{"too long", field(strings.Repeat("a", 300<<10)), "at most 262144"},
		{"8 MiB", make([]byte, 8<<20), "8388608 bytes long; it must be at most 262144"},
		{"not UTF-8", field("a\xff"), "not valid UTF-8"},
		{"no message", []byte{0xff, 0xff, 0xff}, "cannot be decoded"},
	} {
		err := conn.Invoke(ctx, "/vda.v1.Portal/GetDa", tt.body, new([]byte), grpc.ForceCodec(rawCodec{}))
		t.Run(tt.name, func(t *testing.T) { refusal(t, err, codes.InvalidArgument, 2, tt.says) })
	}
	client := c.Client()
	_, err = client.GetDa(ctx, &apiv1.GetDaRequest{DaName: "nix"})
	refusal(t, err, codes.NotFound, 3, "nix")
}

// TestCarriedOutAndGone: what a request has made is its reply, also when
// another has renamed or deleted it before it could be shown.
func TestCarriedOutAndGone(t *testing.T) {
	c := portaltest.New(t)
	client, other := c.Client(), c.Client()
	c.Populate(client, 1, 1)
	meanwhile := func(fn func()) {
		var begun atomic.Bool // fn's own calls come here too
		c.Agent("cn0:9820").Before(func() {
			if !begun.Swap(true) {
				fn()
			}
		})
	}
	check := func(what string, info *apiv1.ReplyInfo, err error, words string) {
		t.Helper()
		if err != nil || info.ReplyCode != 0 || !strings.Contains(info.ReplyMsg, words) {
			t.Errorf("%s: %v, %v; want %q", what, info, err, words)
		}
	}
	meanwhile(func() {
		must[*apiv1.ModifyDaReply](t)(other.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: "da0", NewDaName: ptr("da1")}))
	})
	da, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 1 << 20})
	check("create, then renamed", da.GetReplyInfo(), err, "success")
	if da.GetDaMsg().GetDaName() != "da1" {
		t.Errorf("shown as %v", da.GetDaMsg())
	}
	meanwhile(func() {
		must[*apiv1.DeleteExpReply](t)(other.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: "da1", ExpName: "e"}))
	})
	exp, err := client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da1", ExpName: "e", InitiatorNqn: "nqn.2016-06.io.spdk:h"})
	check("create an exp, then deleted", exp.GetReplyInfo(), err, "deleted it since")
	if exp.GetExpMsg().GetExpName() != "e" {
		t.Errorf("shown as %v", exp.GetExpMsg())
	}
	meanwhile(func() {
		must[*apiv1.DeleteDaReply](t)(other.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da1"}))
	})
	sync, err := client.SyncupDa(ctx, &apiv1.SyncupDaRequest{DaName: "da1"})
	check("syncup, then deleted", sync.GetReplyInfo(), err, "deleted it since")
}

// TestSettles: what a node makes a moment after it was asked is no note in the
// reply.
func TestSettles(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 2)
	c.Agent("cn0:9820").FailNext("vd: connection refused")
	da := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 2}))
	if da.ReplyInfo.ReplyMsg != "success" || da.DaMsg.Error {
		t.Errorf("reply %v, da %v", da.ReplyInfo, da.DaMsg)
	}
	c.Agent("cn1:9820").FailNext("exp: the primary does not answer")
	exp := must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e",
		InitiatorNqn: "nqn.2016-06.io.spdk:h"}))
	if exp.ReplyInfo.ReplyMsg != "success" {
		t.Errorf("reply %v", exp.ReplyInfo)
	}
}

// TestFailoversAtOnce: of several that move one array, those that lose say so
// in one line.
func TestFailoversAtOnce(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 2, 3)
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20, CntlrCnt: 3}))
	for range 5 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				r, err := client.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: "da0"})
				msg := r.GetReplyInfo().GetReplyMsg()
				if err != nil {
					msg = status.Convert(err).Message()
				}
				if strings.Contains(msg, "\n") || strings.Contains(msg, "is moved") && strings.Contains(msg, "somebody else") {
					t.Errorf("reply %q, %v", msg, err)
				}
			})
		}
		wg.Wait()
	}
}

// TestLongestList: a page of as many rows as a request may ask for arrives.
func TestLongestList(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	for hundred := range 10 { // a transaction has a time limit
		if err := c.Store.Update(ctx, func(tx store.Tx) error {
			var errs error
			for i := range 100 {
				cn := newCN(fmt.Sprintf("a-name-of-a-node-that-is-rather-long-%02d%02d.storage.example.com:9820", hundred, i))
				cn.Health.Error, cn.Health.Msg = true, strings.Repeat("a message of an agent ", 20)
				errs = errors.Join(errs, tx.InsertNode(vda.ControllerNode, &cn.Node))
			}
			return errs
		}); err != nil {
			t.Fatal(err)
		}
	}
	if l := must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{Limit: 1000})); len(l.CnMsgList) != 1000 {
		t.Errorf("%d rows", len(l.CnMsgList))
	}
}

func newCN(name string) *vda.CN {
	return &vda.CN{Node: vda.Node{ID: store.NewID(), Name: name, Listener: vda.Listener{TrType: "tcp", TrAddr: "192.0.2.1", AdrFam: "ipv4",
		TrSvcID: "4430"}, Online: true, Version: 1}}
}
