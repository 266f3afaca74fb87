package spdk

import (
	"context"
)

// Caller makes one JSON-RPC call: Client over a socket, a fake in tests.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// Request is a call to be sent with others, see Sequencer.
type Request struct {
	Method         string
	Params, Result any // as in Caller.Call
}

// Sequencer is a Caller that sends several calls in one piece.
type Sequencer interface {
	Sequence(ctx context.Context, reqs ...Request) []error
}

// API is SPDK's methods, typed, on any Caller. Each method is documented by
// SPDK under the name in its call; what is said here is what VDA relies on.
type API struct {
	Caller
}

// Ptr returns a pointer to v, for optional parameters whose zero value means
// something.
func Ptr[T any](v T) *T { return &v }

// name is the parameter object of methods that take a name alone.
type name struct {
	Name string `json:"name"`
}

// ask calls method for one result of type T.
func ask[T any](ctx context.Context, a API, method string, params any) (T, error) {
	var out T
	err := a.Call(ctx, method, params, &out)
	return out, err
}

// do calls method for its effect; results other than true are dropped.
func (a API) do(ctx context.Context, method string, params any) error {
	return a.Call(ctx, method, params, nil)
}

// Version is the result of spdk_get_version.
type Version struct {
	Version string        `json:"version"`
	Fields  VersionFields `json:"fields"`
}

// VersionFields are the parts of the version.
type VersionFields struct {
	Major  int    `json:"major"`
	Minor  int    `json:"minor"`
	Patch  int    `json:"patch"`
	Suffix string `json:"suffix"`
	Commit string `json:"commit,omitempty"`
}

// AtLeast reports whether the version is major.minor or newer.
func (v *Version) AtLeast(major, minor int) bool {
	return v.Fields.Major > major || v.Fields.Major == major && v.Fields.Minor >= minor
}

// GetVersion works in every state.
func (a API) GetVersion(ctx context.Context) (*Version, error) {
	return ask[*Version](ctx, a, "spdk_get_version", nil)
}

// GetMethods lists the methods; current: only those callable in the present
// state.
func (a API) GetMethods(ctx context.Context, current bool) ([]string, error) {
	return ask[[]string](ctx, a, "rpc_get_methods", struct {
		Current bool `json:"current,omitempty"`
	}{current})
}

// FrameworkStartInit ends the start-up state (--wait-for-rpc). In the
// run-time state it is refused with CodeInvalidState.
func (a API) FrameworkStartInit(ctx context.Context) error {
	return a.do(ctx, "framework_start_init", nil)
}

// FrameworkWaitInit returns when the data plane is in the run-time state.
func (a API) FrameworkWaitInit(ctx context.Context) error {
	return a.do(ctx, "framework_wait_init", nil)
}
