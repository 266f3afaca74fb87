package vdatgt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"syscall"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// Method is one entry of the table, also the source of the reference
// documentation.
type Method struct {
	Name    string
	Doc     string          // one sentence or two
	Params  []jsonrpc.Field // empty: takes none
	Result  []jsonrpc.Field // of our own methods; those of SPDK's are documented by SPDK
	Startup bool            // callable before framework_start_init
	Runtime bool            // callable after it
	slow    bool            // see jsonrpc.Method
	call    func(ctx context.Context, t *Target, params json.RawMessage) (any, error)
}

// Methods returns the table, sorted by name.
func Methods() []Method {
	out := make([]Method, 0, 128)
	for _, m := range methods() {
		out = append(out, *m)
	}
	sort.Slice(out, func(i, k int) bool { return out[i].Name < out[k].Name })
	return out
}

// methods makes the table, by name: what each rpc_*.go has.
func methods() map[string]*Method {
	table := map[string]*Method{}
	for _, list := range [][]*Method{
		appMethods(), frameworkMethods(), bdevMethods(), iostatMethods(), moduleMethods(), faultMethods(), raidMethods(), mirrorMethods(),
		lvstoreMethods(), lvolMethods(), keyringMethods(), nvmeMethods(), nvmfMethods(), subsystemMethods(), discoveryMethods(),
	} {
		for _, m := range list {
			if table[m.Name] != nil {
				panic("vdatgt: two methods are called " + m.Name)
			}
			table[m.Name] = m
		}
	}
	return table
}

// option changes how a method is called.
type option func(*rules)

// rules say how parameters are decoded.
type rules struct {
	m        *Method
	optional bool           // a request without params is fine
	relaxed  bool           // unknown members are ignored, as SPDK does for a few
	bad      *jsonrpc.Error // what undecodable parameters are answered with
}

func optional(r *rules) { r.optional = true }
func relaxed(r *rules)  { r.relaxed = true }
func slow(r *rules)     { r.m.slow = true }
func startup(r *rules)  { r.m.Startup, r.m.Runtime = true, false }
func anytime(r *rules)  { r.m.Startup, r.m.Runtime = true, true }

// returns documents the result of a method: v is a value of its type, or of that
// of an element of the array that is returned.
func returns(v any) option {
	return func(r *rules) { r.m.Result = jsonrpc.Results(v) }
}

// nvmfStyle, raidStyle: SPDK's modules disagree about the error for
// parameters that do not decode.
func nvmfStyle(r *rules) {
	r.bad = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid parameters"}
}
func raidStyle(r *rules) {
	r.bad = &jsonrpc.Error{Code: jsonrpc.CodeParseError, Message: "spdk_json_decode_object failed"}
}

// argumentStyle: and a few word it with an errno's text.
func argumentStyle(r *rules) {
	r.bad = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid argument"}
}

// noParamsStyle: SPDK says so of bdev_nvme_get_io_paths, which takes one.
func noParamsStyle(r *rules) {
	r.bad = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: r.m.Name + " requires no parameters"}
}

// method is a method with parameters P.
func method[P any](name, doc string, call func(ctx context.Context, t *Target, p P) (any, error), opts ...option) *Method {
	var zero P
	m := &Method{Name: name, Doc: doc, Params: fields(name, zero), Runtime: true}
	r := rules{m: m, bad: &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed"}}
	for _, o := range opts {
		o(&r)
	}
	other := besides(name, func(reason string) error {
		if r.bad.Code == jsonrpc.CodeInvalidParams {
			return &jsonrpc.Error{Code: r.bad.Code, Message: r.bad.Message, Data: reason}
		}
		return jsonrpc.Errno(syscall.EINVAL, reason)
	})
	m.call = func(ctx context.Context, t *Target, params json.RawMessage) (any, error) {
		var p P
		if params == nil {
			if r.optional {
				return call(ctx, t, p)
			}
			params = json.RawMessage("{}")
		}
		if err := jsonrpc.DecodeWith(params, &p, r.relaxed, other); err != nil {
			if refused := (*jsonrpc.Error)(nil); errors.As(err, &refused) {
				return nil, refused
			}
			return nil, &jsonrpc.Error{Code: r.bad.Code, Message: r.bad.Message, Data: err.Error()}
		}
		return call(ctx, t, p)
	}
	return m
}

// bare is a method that takes no parameters, not even {}. complaint is
// how SPDK words that for this method.
func bare(name, doc, complaint string, call func(ctx context.Context, t *Target) (any, error), opts ...option) *Method {
	m := &Method{Name: name, Doc: doc, Runtime: true}
	r := rules{m: m}
	for _, o := range opts {
		o(&r)
	}
	m.call = func(ctx context.Context, t *Target, params json.RawMessage) (any, error) {
		if params != nil {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: complaint}
		}
		return call(ctx, t)
	}
	return m
}

// Messages for a method called in the wrong state, SPDK's words.
const (
	tooEarly = "Method may only be called after framework is initialized using framework_start_init RPC."
	tooLate  = "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter and then issue this " +
		"RPC before the framework_start_init RPC."
)

// lookup finds a method for the server.
func (t *Target) lookup(name string) (jsonrpc.Method, *jsonrpc.Error) {
	m := t.methods[name]
	if m == nil {
		return jsonrpc.Method{}, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "Method not found",
			Data: fmt.Sprintf("%q is not a method; rpc_get_methods lists them", name)}
	}
	switch running := t.runtime.Load(); {
	case !running && !m.Startup:
		return jsonrpc.Method{}, &jsonrpc.Error{Code: jsonrpc.CodeInvalidState, Message: tooEarly}
	case running && !m.Runtime:
		return jsonrpc.Method{}, &jsonrpc.Error{Code: jsonrpc.CodeInvalidState, Message: tooLate}
	}
	return jsonrpc.Method{Slow: m.slow, Call: func(ctx context.Context, params json.RawMessage) (any, error) {
		t.log.Debug("JSON-RPC", "method", name, "params", string(params))
		result, err := m.call(ctx, t, params)
		if err != nil {
			level := slog.LevelInfo
			if strings.Contains(name, "_get_") { // agents ask for much by name, to learn that it is not there
				level = slog.LevelDebug
			}
			t.log.Log(ctx, level, "JSON-RPC refused", "method", name, "params", string(params), "err", err)
		}
		return result, err
	}}, nil
}
