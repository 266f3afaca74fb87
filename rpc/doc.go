// Package rpc is how VDA's programs serve and reach each other.
//
// Serve answers on one TCP port: gRPC with the program's services, health and
// reflection, and HTTP/1 with /metrics and /healthz. Every call passes the same
// chain, outermost first:
//
//  1. it is refused when too many are under way, and its request is received
//     when there is memory for it, see Limits;
//  2. it gets the id of its request, see RequestID; when it has ended it is
//     counted, told to Config.Audit, and logged in one record, to which its
//     handler may Annotate;
//  3. its deadline, which bounds what it may take;
//  4. Config.Intercept, in which a program puts errors into its own words;
//  5. Config.Authorize, which knows who calls;
//  6. its handler, whose panic ends this call alone.
//
// Dial makes every client, so that all have one policy of keep-alive,
// reconnecting and message lengths, and send the request's id on.
//
// TLS is a tls.Config on both sides, or follows a program's Identity (package pki):
// without a certificate all is in the clear, with one both are taken on the same port,
// and once it is secured TLS alone is. Who calls is in the certificate, or in the token
// that DialConfig.Credentials add to the metadata: CallerOf.
//
// MaxAgentMessage aside, the package knows nothing of what is said.
package rpc

// MaxAgentMessage bounds a message between an agent and a portal or monitor, in
// bytes: the desired state of some 25,000 objects.
const MaxAgentMessage = 8 << 20
