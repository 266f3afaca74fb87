package rpc

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// deaf calls a method on a connection of its own and reads nothing of the reply.
func deaf(t *testing.T, addr, method string, size int) grpc.ClientStream {
	t.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, method)
	if err == nil {
		err = s.SendMsg(wrapperspb.Bytes(make([]byte, size)))
	}
	if err == nil {
		err = s.CloseSend()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRepliesThatNobodyReadsAreBounded: clients that read nothing lose their
// connections, the oldest first, and those that read get their replies.
func TestRepliesThatNobodyReadsAreBounded(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		const clients, message, most = 40, 1 << 20, 8 << 20
		const reply, left = message + 4, most / (message + 4)
		s := serveGuarded(t, Limits{Message: reply, Replies: most, Send: time.Hour}, shared)
		var all []grpc.ClientStream
		for n := range clients {
			all = append(all, deaf(t, s.addr, "/t.T/Echo", message))
			until(t, "the reply is under way, in the place of the oldest", func() bool {
				used, _ := s.guard.replies.bytes()
				return used == int64(min(n+1, left)*reply) && s.guard.Counts().UnreadConns == uint64(max(0, n+1-left))
			})
		}
		if _, peak := s.guard.replies.bytes(); peak > most {
			t.Errorf("replies took %d bytes, want at most %d", peak, most)
		}
		if err := invokeGuarded(t, s.client(t), "Echo", message); err != nil {
			t.Errorf("a client that reads: %v", err)
		}
		for n, c := range all[clients-left+1:] { // it has taken the place of one
			if err := c.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
				t.Errorf("client %d of the last %d, when it reads: %v", n, left-1, err)
			}
		}
		if err := all[0].RecvMsg(new(wrapperspb.BytesValue)); err == nil {
			t.Error("the first client has its connection still")
		}
		until(t, "nothing counts any more", func() bool { used, _ := s.guard.replies.bytes(); return used == 0 })
		if line := s.log.line("replies that clients have not taken", "limit_bytes=8388608"); line == "" {
			t.Errorf("the log says %s", s.log)
		}
		if n := testutil.CollectAndCount(s.guard.Collector(), "vda_server_reply_memory_bytes"); n != 1 {
			t.Errorf("%d metrics", n)
		}
	})
}

// TestAReplyIsTakenInTime: the connection of a client that does not take a reply,
// or what a stream sends, is closed.
func TestAReplyIsTakenInTime(t *testing.T) {
	for method, size := range map[string]int{"/t.T/Echo": 1 << 20, "/t.T/Flood": 1} {
		t.Run(method, func(t *testing.T) {
			s := serveGuarded(t, Limits{Message: 1<<20 + 64, Send: 10 * time.Millisecond}, true)
			c := deaf(t, s.addr, method, size)
			until(t, "the connection is closed", func() bool {
				used, _ := s.guard.replies.bytes()
				return s.guard.Counts().UnreadConns > 0 && used == 0
			})
			err := error(nil)
			for range 100 {
				if err = c.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("the client got all of it")
			}
			if s.log.line("has not taken a reply in time", "limit=10ms") == "" {
				t.Errorf("the log says %s", s.log)
			}
		})
	}
}

// TestRepliesThatAreReadCountNoMore: neither small nor long ones, nor refusals.
func TestRepliesThatAreReadCountNoMore(t *testing.T) {
	s := serveGuarded(t, Limits{Message: 1<<20 + 64}, true)
	c := s.client(t)
	for _, size := range []int{0, 1, 1000, 1 << 12, 1 << 20} {
		if err := invokeGuarded(t, c, "Echo", size); err != nil {
			t.Fatal(err)
		}
	}
	if err := invokeGuarded(t, c, "Echo", 2<<20); err == nil {
		t.Error("a request of 2 MiB is taken")
	}
	until(t, "nothing counts", func() bool { used, _ := s.guard.replies.bytes(); return used == 0 })
	if _, peak := s.guard.replies.bytes(); peak < 1<<20 {
		t.Errorf("replies took %d bytes at most, which is less than the longest", peak)
	}
}
