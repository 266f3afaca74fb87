package spdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// requests splits what one read has brought.
func requests(t *testing.T, data []byte) []call {
	var all []call
	for dec := json.NewDecoder(strings.NewReader(string(data))); dec.More(); {
		var q call
		if err := dec.Decode(&q); err != nil {
			t.Error(err)
			return all
		}
		all = append(all, q)
	}
	return all
}

func TestSequenceGoesOutInOnePiece(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		buf := make([]byte, 64<<10)
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		got := requests(t, buf[:n])
		if len(got) != 3 || got[0].Method != "a" || got[1].Method != "b" || got[2].Method != "c" {
			t.Errorf("one read brought %q", buf[:n])
		}
		for i := len(got) - 1; i >= 0; i-- { // replies in any order
			if got[i].Method == "b" {
				fmt.Fprintf(c, `{"id":%d,"error":{"code":-17,"message":"File exists"}}`, got[i].ID)
				continue
			}
			fmt.Fprintf(c, `{"id":%d,"result":%q}`, got[i].ID, got[i].Method)
		}
	})
	c := newClient(t, path)
	var a, last string
	errs := c.Sequence(t.Context(), Request{"a", nil, &a}, Request{"b", 1, nil}, Request{"c", nil, &last})
	if len(errs) != 3 || errs[0] != nil || !IsExists(errs[1]) || errs[2] != nil || a != "a" || last != "c" {
		t.Errorf("%v, %q, %q", errs, a, last)
	}
}

func TestSequenceOfALostConnection(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) {
		defer c.Close()
		var q call
		if json.NewDecoder(c).Decode(&q) == nil {
			fmt.Fprintf(c, `{"id":%d,"result":true}`, q.ID)
			time.Sleep(50 * time.Millisecond)
		}
	})
	errs := newClient(t, path).Sequence(t.Context(), Request{Method: "a"}, Request{Method: "b"})
	if errs[0] != nil || !errors.Is(errs[1], ErrLost) || !strings.HasPrefix(errs[1].Error(), "b:") {
		t.Errorf("%v", errs)
	}
}

func TestCallWithoutADeadlineGetsOne(t *testing.T) {
	path := socketPath(t)
	listen(t, path, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	c, err := New(Config{Socket: path, CallTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin := time.Now()
	err = c.Call(context.Background(), "never", nil, nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// replaces is a data plane's answers to remove and add, in the order they come.
type replaces struct {
	answers []error
	calls   []string
}

func (r *replaces) Call(_ context.Context, method string, _, result any) error {
	r.calls = append(r.calls, strings.TrimPrefix(method, "nvmf_subsystem_"))
	err := r.answers[0]
	r.answers = r.answers[1:]
	return err
}

type together struct{ *replaces }

func (r together) Sequence(ctx context.Context, reqs ...Request) []error {
	r.calls = append(r.calls, "(")
	var errs []error
	for _, q := range reqs {
		errs = append(errs, r.Call(ctx, q.Method, nil, nil))
	}
	r.calls = append(r.calls, ")")
	return errs
}

func TestReplaceNS(t *testing.T) {
	refused := &RPCError{Code: jsonrpc.CodeInvalidParams, Message: "Invalid parameters"}
	busy := &RPCError{Code: jsonrpc.CodeInternalError, Message: "Internal error"}
	for _, c := range []struct {
		name    string
		apart   bool
		answers []error
		calls   string
		want    error
	}{
		{"together", false, []error{nil, nil}, "( remove_ns add_ns )", nil},
		{"nothing to remove", false, []error{refused, nil}, "( remove_ns add_ns )", nil},
		{"one change at a time", false, []error{nil, busy, nil}, "( remove_ns add_ns ) add_ns", nil},
		{"no bdev to add", false, []error{nil, refused, refused}, "( remove_ns add_ns ) add_ns", refused},
		{"neither", false, []error{busy, busy}, "( remove_ns add_ns )", busy},
		{"apart", true, []error{nil, nil}, "remove_ns add_ns", nil},
		{"apart, not removed", true, []error{busy}, "remove_ns", busy},
	} {
		r := &replaces{answers: c.answers}
		api := API{together{r}}
		if c.apart {
			api = API{r}
		}
		err := api.NvmfSubsystemReplaceNS(t.Context(), "nqn", 1, NvmfNamespace{NSID: 1, BdevName: "b"})
		if got := strings.Join(r.calls, " "); got != c.calls || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: calls %q, want %q; error %v, want %v", c.name, got, c.calls, err, c.want)
		}
	}
}
