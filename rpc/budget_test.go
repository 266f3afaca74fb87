package rpc

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// both runs a test with gRPC alone on its port, and beside HTTP.
func both(t *testing.T, test func(t *testing.T, shared bool)) {
	t.Run("alone", func(t *testing.T) { test(t, false) })
	t.Run("shared", func(t *testing.T) { test(t, true) })
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// sender is a request's body that stops before its last byte and counts what
// the server has let it send.
type sender struct {
	io.Reader
	sent atomic.Int64
	done chan struct{}
}

func (s *sender) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.sent.Add(int64(n))
	if err == io.EOF {
		<-s.done
	}
	return n, err
}

// unfinished opens a connection and sends all but the last byte of a message.
func unfinished(t *testing.T, addr string, size int) *sender {
	t.Helper()
	var header [headerLen]byte
	binary.BigEndian.PutUint32(header[1:], uint32(size))
	s := &sender{done: make(chan struct{}), Reader: io.MultiReader(bytes.NewReader(header[:]), bytes.NewReader(make([]byte, size-1)))}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/t.T/Echo", s)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := tr.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	t.Cleanup(func() { close(s.done); tr.CloseIdleConnections(); <-ended })
	return s
}

func (b *budget) waiters() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// TestRequestsBeingReceivedAreBounded: senders of long messages are let send no
// more than the budget has room for, whatever the number of connections.
func TestRequestsBeingReceivedAreBounded(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		const senders, message, memory = 40, 1 << 20, 16 << 20
		s := serveGuarded(t, Limits{Message: message, Memory: memory, Receive: time.Hour}, shared)
		s.guard.budget.patience = time.Hour
		var all []*sender
		for range senders {
			all = append(all, unfinished(t, s.addr, message))
		}
		// A message counts as four of its length, and one address gets 9/16.
		const served = memory / 16 * 9 / (4*message + 1024)
		until(t, "all but those with room wait", func() bool {
			full := 0
			for _, b := range all {
				if b.sent.Load() >= message {
					full++
				}
			}
			return full == served && s.guard.budget.waiters() >= senders-served
		})
		var sent int64
		for _, b := range all {
			sent += b.sent.Load()
		}
		// What waits has sent a window, and its client read ahead as much.
		if most := int64(served*2*message + senders*3*streamWindow); sent > most {
			t.Errorf("%d senders were let send %d bytes, want at most %d", senders, sent, most)
		}
		if _, peak := s.guard.budget.bytes(); peak > memory {
			t.Errorf("requests took %d bytes of %d", peak, memory)
		}
		// Short messages have a share of their own.
		for range 10 {
			if err := invokeGuarded(t, s.client(t), "Echo", 1000); err != nil {
				t.Errorf("a short message meanwhile: %v", err)
			}
		}
		if n := s.log.count("requests wait or are refused"); n != 1 {
			t.Errorf("the log says %d times that the limit is met, want once", n)
		}
	})
}

// TestRequestsOfHandlersAreBounded: a decoded request counts until its handler
// has returned, and one that finds no room is refused.
func TestRequestsOfHandlersAreBounded(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		const message, memory = 1 << 20, 16 << 20
		s := serveGuarded(t, Limits{Message: message, Memory: memory}, shared)
		s.guard.budget.patience = 20 * time.Millisecond
		results := make(chan error)
		const calls = 30
		for range calls {
			c := s.client(t)
			go func() { results <- invokeGuarded(t, c, "Wait", message-10, grpc.WaitForReady(true)) }() // a busy machine dials for long
		}
		refused := 0
		for len(s.entered)+refused < calls {
			select {
			case err := <-results:
				if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "16777216 bytes") {
					t.Fatalf("a call without room: %v", err)
				}
				refused++
			case <-time.After(time.Millisecond):
			}
		}
		if held := len(s.entered) * message; held > memory || held == 0 {
			t.Errorf("handlers have %d bytes of messages, want at most %d", held, memory)
		}
		if n := s.guard.Counts().NoMemory; n != uint64(refused) || refused == 0 {
			t.Errorf("%d calls were refused and %d counted", refused, n)
		}
		close(s.release)
		for range calls - refused {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if err := invokeGuarded(t, s.client(t), "Echo", message-10); err != nil {
			t.Errorf("a long message when there is room again: %v", err)
		}
	})
}

// TestASlowRequestEnds: a client that does not send what it announced has its
// call ended, and nothing stays taken.
func TestASlowRequestEnds(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		s := serveGuarded(t, Limits{Message: 1 << 20, Receive: 20 * time.Millisecond}, shared)
		for range 5 {
			unfinished(t, s.addr, 1<<20)
		}
		calls := func() int {
			s.guard.mu.Lock()
			defer s.guard.mu.Unlock()
			return s.guard.calls
		}
		until(t, "a call has begun", func() bool { _, peak := s.guard.budget.bytes(); return peak > 0 })
		until(t, "no call is under way and nothing is taken", func() bool {
			used, _ := s.guard.budget.bytes()
			return calls() == 0 && used == 0
		})
	})
}

// TestWhatDecodesToMuchIsRefused: two bytes can become a message of a hundred.
func TestWhatDecodesToMuchIsRefused(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		s := serveGuarded(t, Limits{Message: 1 << 20, Memory: 16 << 20}, shared)
		list := &structpb.ListValue{}
		for range 200_000 {
			list.Values = append(list.Values, &structpb.Value{})
		}
		err := s.client(t).Invoke(t.Context(), "/t.T/List", list, new(structpb.ListValue))
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "when decoded") {
			t.Errorf("a message of %d bytes and 200,000 values: %v", proto.Size(list), err)
		}
		if _, peak := s.guard.budget.bytes(); peak > 16<<20 {
			t.Errorf("%d bytes were taken", peak)
		}
	})
}

// TestDecodedSizeIsTheTruth compares with what the collector finds.
func TestDecodedSizeIsTheTruth(t *testing.T) {
	list, texts, methods := &structpb.ListValue{}, &structpb.ListValue{}, &apipb.Api{}
	nested := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for i := range 20_000 {
		list.Values = append(list.Values, &structpb.Value{})
		texts.Values = append(texts.Values, structpb.NewStringValue(strings.Repeat("x", i%40)))
		nested.Fields[strings.Repeat("k", i%7)+string(rune('a'+i%26))+time.Duration(i).String()] = structpb.NewNumberValue(1)
		methods.Methods = append(methods.Methods, &apipb.Method{Name: "method", RequestStreaming: true, RequestTypeUrl: "of/some.Type"})
	}
	for name, m := range map[string]proto.Message{"empty": list, "texts": texts, "map": nested, "messages": methods,
		"bytes": wrapperspb.Bytes(make([]byte, 1<<20)), "unknown": unknown()} {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		into := m.ProtoReflect().New().Interface()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC() // empties pools
		runtime.ReadMemStats(&before)
		if err := proto.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		truth := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		runtime.KeepAlive(into)
		if got := decodedSize(into, data, 1<<40); got < truth*9/10 || got > 3*truth+4096 {
			t.Errorf("%s: %d bytes decode to %d, estimated as %d", name, len(data), truth, got)
		}
	}
}

// unknown is a message whose fields its type does not have.
func unknown() proto.Message {
	m := &wrapperspb.BytesValue{}
	m.ProtoReflect().SetUnknown(bytes.Repeat([]byte{0x7a, 2, 1, 1}, 100_000))
	return m
}

func TestServicesOutsideTheBudgetTakeShortMessages(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		s := serveGuarded(t, Limits{Message: 1 << 20}, shared)
		c := s.client(t)
		send := func(size int) error {
			return c.Invoke(t.Context(), "/plain.T/Echo", wrapperspb.Bytes(make([]byte, size)), new(wrapperspb.BytesValue))
		}
		if err := send(smallRequest); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a long message: %v", err)
		}
		if err := send(1000); err != nil {
			t.Error(err)
		}
	})
}

// TestHealthIsBounded: calls that nothing counts against the calls are few per
// connection.
func TestHealthIsBounded(t *testing.T) {
	both(t, func(t *testing.T, shared bool) {
		s := serveGuarded(t, Limits{Message: 1 << 20}, shared)
		c := healthpb.NewHealthClient(s.client(t))
		for range maxWatches {
			w, err := c.Watch(t.Context(), &healthpb.HealthCheckRequest{})
			if err == nil {
				_, err = w.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one more on the connection: %v", err)
		}
		if _, err := healthpb.NewHealthClient(s.client(t)).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("on another connection: %v", err)
		}
	})
}

// TestAnAddressGetsItsShareOfCalls: another still gets in.
func TestAnAddressGetsItsShareOfCalls(t *testing.T) {
	g := newGuard(Limits{Message: 1, Calls: 8}, slog.New(slog.DiscardHandler))
	at := func(ip string) *call {
		return &call{g: g, peer: ip}
	}
	for range 6 {
		if err := g.begin(at("127.0.0.1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.begin(at("127.0.0.1")); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("beyond three quarters: %v", err)
	}
	if err := g.begin(at("127.0.0.2")); err != nil {
		t.Errorf("of another address: %v", err)
	}
}
