// Package portal is VDA's gRPC API: the server of vda.v1.Portal.
//
// # A request
//
// Every request goes the same way: validate → place → one transaction → sync →
// reply. Validation and placement come before the first row is written, so a
// refused request changes nothing. The transaction is one of package array's: it
// writes the whole object, or nothing, raises the version of every node that has
// to know, and returns the stages in which the nodes are brought to their new
// desired state, in the order that the data path needs: for a new array the dns,
// then the primary, then the secondaries; for a deleted one the other way round. A node that does not answer does not
// undo the transaction: the reply says which node and why, the object shows
// its error, and vda_monitor finishes the job.
//
// # State
//
// None. The database holds everything; any number of portals may serve one
// database, behind a load balancer. Two portals that place at the same time
// may choose the same disk; the second to commit finds too few free clusters
// or a changed row, and places again.
//
// # Errors
//
// The gRPC codes that users see are made here; agents and monitors make those
// of the calls between daemons (agent.Status). A failed call is a status
// with a ReplyInfo in its details, whose reply_code is stable and listed in
// docs/errors.md. A panic in a handler ends that request with INTERNAL and is
// logged with its stack; the process goes on.
package portal
