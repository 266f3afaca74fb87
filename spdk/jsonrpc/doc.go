// Package jsonrpc is the server side of the JSON-RPC 2.0 that SPDK speaks on
// its Unix socket, with SPDK's deviations from the specification.
//
// # Framing
//
// A connection is a stream of JSON values, with or without white space in
// between; newlines mean nothing. Every value is a request or a batch:
//
//	{"jsonrpc":"2.0","id":7,"method":"bdev_get_bdevs","params":{"name":"Malloc0"}}
//
// and each is answered by a value and a newline. What SPDK does where the
// specification says otherwise or nothing:
//
//	malformed JSON, no UTF-8                      -32700 "Parse error", id null, and the connection
//	                                              is closed (SPDK closes it without a reply)
//	a request above the limit                     -32600 "Invalid request", id null, and the same
//	no "jsonrpc"                                  as if "2.0"
//	unknown or repeated member, bad "method",
//	"jsonrpc" or "id"; a value that is no object  -32600 "Invalid request", id null
//	"params" neither object, array nor null       -32600 "Invalid request", the request's id
//	empty batch                                   -32600 "Invalid request", one object, id null
//	no id or id null                              a notification: no reply on success, an
//	                                              error is sent with id null
//	batch                                         an array of the replies that are due, nothing
//	                                              when none is
//
// # Order
//
// Calls of one connection are taken in the order they came in. A method is
// either quick, and done before the next one starts, or slow: it runs beside
// those behind it, which may overtake it. A client that needs an order waits
// for the reply. Connections are independent of each other. A method that
// panics answers -32603; the panic is logged with the request.
//
// # Parameters
//
// Decode fills a parameter struct as strictly as SPDK's decoder: a member
// that is unknown, repeated, missing or of another type is an error. SPDK has
// one message for them all; ours adds the reason as "data" of the error
// object.
package jsonrpc
