package syncer

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/rpc"
)

type dnAgent struct {
	apiv1.UnimplementedDnAgentServer
}

func (dnAgent) Heartbeat(context.Context, *apiv1.HeartbeatRequest) (*apiv1.HeartbeatReply, error) {
	return &apiv1.HeartbeatReply{Version: 7}, nil
}

func serveDn(t *testing.T, addr string) (*grpc.Server, string) {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	apiv1.RegisterDnAgentServer(srv, dnAgent{})
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	return srv, lis.Addr().String()
}

func TestPool(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	srv, addr := serveDn(t, "127.0.0.1:0")
	at := vda.At{Kind: "dn", Name: "dn0", Addr: addr}
	p := NewPool(rpc.DialConfig{})
	defer p.Close()
	beat := func() error {
		c, err := p.Dn(at)
		if err != nil {
			return err
		}
		_, err = c.Heartbeat(ctx, &apiv1.HeartbeatRequest{})
		return err
	}
	if err := beat(); err != nil {
		t.Fatal(err)
	}
	conn := p.conns[at]
	lost := make(chan bool, 1)
	go func() { lost <- p.WaitLost(ctx, at) }()
	time.Sleep(50 * time.Millisecond)
	select {
	case <-lost:
		t.Fatal("lost while it is there")
	default:
	}
	srv.Stop()
	if !<-lost {
		t.Error("a broken connection goes unseen")
	}
	if err := beat(); err == nil {
		t.Error("a dead agent answers")
	}
	serveDn(t, addr)
	for beat() != nil {
		if ctx.Err() != nil {
			t.Fatal("an agent that came back is not found")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if p.conns[at] != conn {
		t.Error("each call has its own connection")
	}
	p.Keep(map[vda.At]bool{at: true})
	if err := beat(); err != nil {
		t.Errorf("a kept connection: %v", err)
	}
	p.Keep(nil)
	if len(p.conns) != 0 {
		t.Error("a connection to a node that is gone stays")
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if p.WaitLost(short, at) {
		t.Error("nothing was lost")
	}
	p.Close()
	if err := beat(); err == nil {
		t.Error("a closed pool dials")
	}
}

// TestMemberAt: who may answer where a node or monitor must.
func TestMemberAt(t *testing.T) {
	dn0 := vda.At{Kind: "dn", Name: "dn0", Addr: "a:9720"}
	for _, tc := range []struct {
		at   vda.At
		is   pki.Name
		good bool
	}{
		{dn0, pki.Name{Kind: "dn", Name: "dn0"}, true},
		{dn0, pki.Name{Kind: "dn", Name: "a:9720"}, true},
		{dn0, pki.Name{Kind: "dn", Name: "b:9720"}, false},
		{dn0, pki.Name{Kind: "cn", Name: "dn0"}, false},
		{dn0, pki.Name{Kind: "portal", Name: "a:9720"}, false},
		{vda.MonitorAt("m:9620"), pki.Name{Kind: pki.Monitor, Name: "m:9620"}, true},
		{vda.MonitorAt("m:9620"), pki.Name{Kind: "dn", Name: "m:9620"}, false},
	} {
		if err := memberAt(tc.at)(tc.is); (err == nil) != tc.good {
			t.Errorf("%s at %+v: %v", tc.is, tc.at, err)
		}
	}
}
