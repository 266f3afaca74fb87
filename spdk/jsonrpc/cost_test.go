package jsonrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
)

// counted counts what is written.
type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// Agents ask for what a pass looks at in one piece: the replies go out together, and none
// waits for a request that has not come.
func TestRepliesGoOutTogether(t *testing.T) { synctest.Test(t, repliesGoOutTogether) }

func repliesGoOutTogether(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	s := &Server{cfg: Config{Lookup: methods(nil), Log: slog.New(slog.DiscardHandler)}}
	if err := s.cfg.validate(); err != nil {
		t.Fatal(err)
	}
	s.ctx, s.cancel = context.WithCancel(t.Context())
	defer s.cancel()
	c := &counted{Conn: there}
	go newConn(s, c).serve()
	ask := func(in string, replies int) {
		t.Helper()
		go func() { _, _ = io.WriteString(here, in) }()
		got := make([]byte, 0, 64<<10)
		for bytes.Count(got, []byte("\n")) < replies {
			n, err := here.Read(got[len(got):cap(got)])
			if err != nil {
				t.Fatalf("%v after %q", err, got)
			}
			got = got[:len(got)+n]
		}
	}
	const many = 50
	var all strings.Builder
	for i := range many {
		fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%d,"method":"echo","params":{"name":"vda-vd-%032x"}}`+"\n", i, i)
	}
	ask(all.String(), many)
	if n := c.writes.Load(); n != 1 {
		t.Errorf("%d replies took %d writes", many, n)
	}
	ask(`{"method":"yes","id":1}{"method":"y`, 1) // it does not wait for the rest of the second
	ask(`es","id":2}`, 1)
}

// A request costs a data plane no more than its text.
func TestARequestIsCheapToRead(t *testing.T) {
	type attach struct {
		Name   string     `rpc:"name"`
		Traddr string     `rpc:"traddr"`
		SubNQN string     `rpc:"subnqn,optional"`
		Delay  *uint32    `rpc:"reconnect_delay_sec,optional"`
		Loss   *int32     `rpc:"ctrlr_loss_timeout_sec,optional"`
		UUID   *uuid.UUID `rpc:"uuid,optional"`
		Bases  []string   `rpc:"base_bdevs,optional"`
		On     bool       `rpc:"on,optional"`
	}
	const in = `{"jsonrpc":"2.0","id":17,"method":"bdev_nvme_attach_controller","params":{"name":"vda-vd-b0000000000000000000000000000001",` +
		`"traddr":"127.0.0.1","subnqn":"nqn.2016-06.io.spdk:vda-vd-b0000000000000000000000000000001","reconnect_delay_sec":1,` +
		`"ctrlr_loss_timeout_sec":-1,"on":true}}`
	allocs := testing.AllocsPerRun(100, func() {
		one, bad := parse(json.RawMessage(in))
		var p attach
		if bad != nil || Decode(one.params, &p, false) != nil || p.Traddr != "127.0.0.1" || *p.Delay != 1 || *p.Loss != -1 || !p.On {
			t.Fatalf("%v, %+v", bad, p)
		}
	})
	if allocs > 60 { // 190 by tokens of encoding/json
		t.Errorf("%.0f allocations", allocs)
	}
}

// TestObjectsAreSplitAsEncodingJSONDoes compares the two, also for what is not JSON: it must
// not be taken for some, but in values, which are looked at later.
func TestObjectsAreSplitAsEncodingJSONDoes(t *testing.T) {
	for _, in := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a" : 1 , "b":[1,{"c":"}"}],"d":"\"}","e":{"f":null}}`, "{\n\t\"\\u0061\":\"x\"\r}", `{"ä":"\\"}`,
		`{"a":-1.5e3,"b":true,"c":"","":0}`,
	} {
		splitAsJSON(t, []byte(in))
	}
	for _, in := range []string{``, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":"`, `{"a":"\`, `{"a":}`, `{"a":1]`, `[`, `{"a":[}`, `3`, `null`, `"x"`} {
		if m, err := object(json.RawMessage(in)); err == nil {
			t.Errorf("%s was split into %v", in, m)
		}
	}
	for in, n := range map[string]int{`[]`: 0, `[ ]`: 0, `[1]`: 1, ` [ "a" , [2,"]"] , {"b":[]} ] `: 3} {
		if l, err := array(json.RawMessage(in)); err != nil || len(l) != n {
			t.Errorf("%s: %q, %v", in, l, err)
		}
	}
}

func splitAsJSON(t *testing.T, in []byte) {
	t.Helper()
	var want map[string]json.RawMessage
	if json.Unmarshal(in, &want) != nil || want == nil {
		return
	}
	got, err := object(in)
	if err != nil {
		if !strings.HasSuffix(err.Error(), "is given twice") {
			t.Errorf("%s: %v", in, err)
		}
		return
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d members, want %d", in, len(got), len(want))
	}
	for _, m := range got {
		if !bytes.Equal(m.value, want[m.name]) {
			t.Errorf("%s: %q is %s, want %s", in, m.name, m.value, want[m.name])
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"}",true]},"c":"\"\\"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if json.Valid(in) {
			splitAsJSON(t, in)
		} else {
			_, _ = object(in) // it survives
			_, _ = array(in)
		}
	})
}
