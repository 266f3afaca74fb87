// Package client is a Go client of VDA's portal, for programs that create and
// watch arrays themselves: a CSI driver, a web page, a test. vda_cli is one.
//
// A Client has a method for each RPC of api/v1/portal.proto, with that file's
// messages as parameters and results; a field that is a size is in bytes. It
// implements apiv1.PortalClient, so that what is written for that interface can
// be given a fake in tests. Dns, Pds, Cns, Das and Exps run over all pages of a
// list. ListenerConf, PdConf and DaConf write the JSON that some fields hold.
//
// # Several portals
//
// Portals keep nothing, so any of them may serve any call. The client stays
// with one while it answers and goes on to the next when it cannot be reached.
//
// # What is tried again
//
// Within the call's deadline a call is made again when the request cannot have
// reached a portal, and, if it only asks or is a syncup, when its reply was
// lost. A change whose reply was lost is never sent twice: its error is
// Undecided, and getting the object tells how far it came. A create may then be
// sent again: a portal answers CodeIdentical when the first one was carried
// out.
//
// # Errors
//
// Every error of a call is an *Error and wraps a *vda.Error, so vda.KindOf says
// what can be done about it:
//
//	_, err := c.CreateDa(ctx, req)
//	switch {
//	case client.CodeOf(err) == apiv1.CodeIdentical: // it was there already
//	case vda.KindOf(err) == vda.ResourceExhausted:  // add disks, or ask for less
//	}
//
// docs/errors.md lists the codes. A change that was carried out, but not on all
// nodes yet, is not an error: see Note.
package client
