package syncer

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
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
	p := NewPool(rpc.DialConfig{})
	defer p.Close()
	beat := func() error {
		c, err := p.Dn(addr)
		if err != nil {
			return err
		}
		_, err = c.Heartbeat(ctx, &apiv1.HeartbeatRequest{})
		return err
	}
	if err := beat(); err != nil {
		t.Fatal(err)
	}
	conn := p.conns[addr]
	lost := make(chan bool, 1)
	go func() { lost <- p.WaitLost(ctx, addr) }()
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
	if p.conns[addr] != conn {
		t.Error("each call has its own connection")
	}
	p.Keep(map[string]bool{addr: true})
	if err := beat(); err != nil {
		t.Errorf("a kept connection: %v", err)
	}
	p.Keep(nil)
	if len(p.conns) != 0 {
		t.Error("a connection to a node that is gone stays")
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if p.WaitLost(short, addr) {
		t.Error("nothing was lost")
	}
	p.Close()
	if err := beat(); err == nil {
		t.Error("a closed pool dials")
	}
}
