// Package spdk speaks SPDK's JSON-RPC 2.0 over a Unix socket, the one contract
// that both data planes answer: spdk_tgt and vda_tgt.
//
// # Client
//
// A Client keeps one connection and sends every call down it at once; replies
// come back in any order and are matched by id, so a slow call (attaching a
// remote controller takes seconds) never holds up a heartbeat. Every call has
// a deadline: its context's, or Config.CallTimeout when that has none. The
// connection is made by the first call that needs it and made again after it
// was lost. A call is never repeated by the client; its error says whether the
// data plane may have carried it out:
//
//   - *RPCError: the data plane answered, and refused. See its Is… methods.
//   - ErrUnreachable: nobody listens on the socket; the call was not sent.
//   - ErrLost: the connection went away after the call was sent; it may have
//     been carried out.
//   - context.DeadlineExceeded, context.Canceled: likewise; a late reply is
//     dropped.
//
// # Methods
//
// The methods VDA calls have typed parameters and results (API). They are
// methods of API, which wraps anything that can Call, so that a fake data
// plane serves them as well as a socket. Numbers carry the units of SPDK's
// parameter names; sizes are bytes unless the name says blocks, mib or kb.
// A nil pointer or zero value with omitempty is left out of the request.
//
// # Start id
//
// SPDK has nothing that tells a restarted process from the old one.
// Client.StartID derives it from the peer of the socket: its process id
// (SO_PEERCRED) and the start time of that process in clock ticks since boot
// (field 22 of /proc/<pid>/stat), prefixed by the kernel's boot id. Process
// ids repeat, start times of one process id do not, and boot ids never do.
// That works for both data planes alike and needs no call, so a data plane
// that hangs still has an id.
//
// Package spdk/jsonrpc is the other side: the codec of the server.
package spdk
