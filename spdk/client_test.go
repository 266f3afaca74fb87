package spdk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// call is a request as the fake data plane sees it.
type call struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// listen starts a fake data plane whose handler gets every connection.
func listen(t *testing.T, path string, handle func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c)
		}
	}()
	return l
}

func newClient(t *testing.T, path string) *Client {
	t.Helper()
	c, err := New(Config{Socket: path, CallTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

// echo answers every call with its method name.
func echo(c net.Conn) {
	defer c.Close()
	dec := json.NewDecoder(c)
	for {
		var q call
		if dec.Decode(&q) != nil {
			return
		}
		fmt.Fprintf(c, `{"jsonrpc":"2.0","id":%d,"result":%q}`+"\n", q.ID, q.Method)
	}
}

func TestRepliesInAnyOrder(t *testing.T) {
	path := socketPath(t)
	const calls = 50
	listen(t, path, func(c net.Conn) {
		dec := json.NewDecoder(c)
		var qs []call
		for len(qs) < calls {
			var q call
			if dec.Decode(&q) != nil {
				return
			}
			qs = append(qs, q)
		}
		for i := len(qs) - 1; i >= 0; i-- {
			fmt.Fprintf(c, `{"id":%d,"result":%s}`, qs[i].ID, qs[i].Params)
		}
	})
	c := newClient(t, path)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			var got int
			if err := c.Call(t.Context(), "echo", i, &got); err != nil || got != i {
				t.Errorf("call %d: got %d, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestReplyCutAnywhere(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		dec := json.NewDecoder(c)
		for {
			var q call
			if dec.Decode(&q) != nil {
				return
			}
			for _, b := range fmt.Appendf(nil, "{\"jsonrpc\":\"2.0\",\"id\":%d,\n\"result\":\"ä}{\"}\n", q.ID) {
				c.Write([]byte{b})
			}
		}
	})
	c := newClient(t, path)
	for range 3 {
		var got string
		if err := c.Call(t.Context(), "m", nil, &got); err != nil || got != "ä}{" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestSlowCallDoesNotBlockOthers(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		dec := json.NewDecoder(c)
		for {
			var q call
			if dec.Decode(&q) != nil {
				return
			}
			if q.Method == "slow" {
				continue
			}
			fmt.Fprintf(c, `{"id":%d,"result":true}`, q.ID)
		}
	})
	c := newClient(t, path)
	slow := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	go func() { slow <- c.Call(ctx, "slow", nil, nil) }()
	for range 20 {
		if err := c.Call(t.Context(), "heartbeat", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-slow; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow call: %v, want its deadline", err)
	}
	if err := c.Call(t.Context(), "heartbeat", nil, nil); err != nil {
		t.Errorf("after a call timed out: %v", err)
	}
}

func TestLostInMidCallThenReconnects(t *testing.T) {
	path := socketPath(t)
	var mu sync.Mutex
	conns := 0
	listen(t, path, func(c net.Conn) {
		mu.Lock()
		conns++
		first := conns == 1
		mu.Unlock()
		if first {
			bufio.NewReader(c).ReadString('\n')
			fmt.Fprint(c, `{"id":1,"res`)
			c.Close()
			return
		}
		echo(c)
	})
	c := newClient(t, path)
	err := c.Call(t.Context(), "m", nil, nil)
	if !errors.Is(err, ErrLost) || !IsConnection(err) {
		t.Fatalf("got %v, want ErrLost", err)
	}
	if err := c.Call(t.Context(), "m", nil, nil); err != nil {
		t.Fatalf("after the loss: %v", err)
	}
}

func TestSocketThatIsNotThereYet(t *testing.T) {
	path := socketPath(t)
	c := newClient(t, path)
	if err := c.Call(t.Context(), "m", nil, nil); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		listen(t, path, func(c net.Conn) {
			dec := json.NewDecoder(c)
			for {
				var q call
				if dec.Decode(&q) != nil {
					return
				}
				fmt.Fprintf(c, `{"id":%d,"result":{"version":"SPDK v26.05","fields":{"major":26,"minor":5,"patch":0,"suffix":""}}}`, q.ID)
			}
		})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := c.WaitReady(ctx)
	if err != nil || !v.AtLeast(26, 5) || !v.AtLeast(23, 1) || v.AtLeast(26, 6) {
		t.Fatalf("got %+v, %v", v, err)
	}
}

// lateTimer is a context whose time is up and whose timer has not run yet.
type lateTimer struct{ context.Context }

func (lateTimer) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

// TestNoTimeToConnect: a connection that there was no time for says nothing of the socket, also when
// the dialer sees that before the context does.
func TestNoTimeToConnect(t *testing.T) {
	path := socketPath(t)
	listen(t, path, echo)
	_, err := newClient(t, path).connect(lateTimer{t.Context()})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		dec := json.NewDecoder(c)
		for {
			var q call
			if dec.Decode(&q) != nil {
				return
			}
			fmt.Fprintf(c, `{"jsonrpc":"2.0","id":%d,"error":%s}`, q.ID, q.Params)
		}
	})
	c := newClient(t, path)
	for _, tc := range []struct {
		reply string
		is    func(error) bool
	}{
		{`{"code":-19,"message":"No such device"}`, IsNoSuchDevice},
		{`{"code":-19,"message":"No such device"}`, func(err error) bool { return errors.Is(err, syscall.ENODEV) }},
		{`{"code":-17,"message":"File exists"}`, IsExists},
		{`{"code":-114,"message":"A controller named Nv0 already exists with the specified network path"}`, IsExists},
		{`{"code":-32602,"message":"Invalid parameters"}`, IsInvalidParams},
		{`{"code":-32601,"message":"Method not found"}`, IsMethodNotFound},
		{`{"code":-1,"message":"Method may only be called after framework is initialized using framework_start_init RPC."}`, IsNotInitialized},
	} {
		err := c.Call(t.Context(), "m", json.RawMessage(tc.reply), nil)
		var e *RPCError
		if !errors.As(err, &e) || e.Method != "m" || !tc.is(err) {
			t.Errorf("%s: got %v", tc.reply, err)
		}
		if IsConnection(err) {
			t.Errorf("%s: a refusal is no connection error", tc.reply)
		}
	}
}

func TestReplyTooLong(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		fmt.Fprintf(c, `{"id":1,"result":"%s"}`, strings.Repeat("x", 1<<20))
	})
	c, err := New(Config{Socket: path, MaxReply: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(t.Context(), "m", nil, nil); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "65536") {
		t.Fatalf("got %v", err)
	}
}

func TestDuplicateKeysInRaidReply(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		dec := json.NewDecoder(c)
		var q call
		if dec.Decode(&q) != nil {
			return
		}
		fmt.Fprintf(c, `{"id":%d,"result":[{"name":"Raid0","uuid":"7c5715fc-0830-486b-8907-6ca0e61a9fe0","uuid":"7c5715fc-0830-486b-8907-6ca0e61a9fe0","strip_size_kb":64,"state":"online","base_bdevs_list":[{"name":null,"uuid":"x"}]}]}`, q.ID)
	})
	l, err := newClient(t, path).BdevRaidGetBdevs(t.Context(), "all")
	if err != nil || len(l) != 1 || l[0].UUID != "7c5715fc-0830-486b-8907-6ca0e61a9fe0" || l[0].BaseBdevs[0].Name != nil {
		t.Fatalf("got %+v, %v", l, err)
	}
}

func TestStartID(t *testing.T) {
	path := socketPath(t)
	l := listen(t, path, echo)
	c := newClient(t, path)
	a, err := c.StartID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(a, fmt.Sprintf("-%d-", os.Getpid())) {
		t.Errorf("start id %q does not hold the peer's pid %d", a, os.Getpid())
	}
	if b, err := c.StartID(t.Context()); b != a || err != nil {
		t.Errorf("start id changed from %q to %q, %v", a, b, err)
	}
	l.Close()
	c.Close()
	if _, err := newClient(t, path).StartID(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without a data plane: %v", err)
	}
}

func TestClose(t *testing.T) {
	path := socketPath(t)
	got := make(chan struct{})
	listen(t, path, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		close(got)
	})
	c := newClient(t, path)
	ended := make(chan error, 1)
	go func() { ended <- c.Call(t.Context(), "m", nil, nil) }()
	<-got
	c.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("call under way: %v", err)
	}
	if err := c.Call(t.Context(), "m", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("call after Close: %v", err)
	}
}
