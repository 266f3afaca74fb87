// Package rpc is how VDA's programs reach each other: every gRPC client is made
// by Dial, so that all have one policy of keep-alive, reconnecting and message
// lengths, and one place where TLS begins.
//
// A request has an id from the first program that sees it to the last: see
// RequestID.
package rpc

// MaxAgentMessage bounds a message between an agent and a portal or monitor, in
// bytes: the desired state of some 25,000 objects.
const MaxAgentMessage = 8 << 20
