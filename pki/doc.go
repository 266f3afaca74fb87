// Package pki is who VDA's daemons are: certificates, and what is kept of them.
//
// A cluster has one CA, made by NewCA or brought by its user. A daemon's
// certificate names it by one URI (the form is SPIFFE's, the trust domain is the
// cluster's id):
//
//	spiffe://CLUSTER/KIND/NAME        spiffe://4f…e1/dn/192.168.0.14%3A9720
//
// KIND is portal, monitor, dn or cn. NAME is by what the cluster knows the
// daemon: the name of a dn or cn, or the address of its agent; the address of a
// monitor; any word for a portal. Hosts' DNS names and IP addresses play no part, so that a certificate speaks for one member
// and for nothing else.
//
// An Identity is a daemon's own: a folder with its key and certificate, whom it
// has to refuse, and whether its cluster is secured. Its ServerTLS and ClientTLS
// demand TLS 1.3 and check the other side: the same CA, the same cluster, not
// expired, not revoked. Whether that one may do what it asks for is decided by
// package rpc's Config.Authorize.
//
// A certificate is good for 30 days and is renewed after half of that. Revoked
// is a name with a moment: what was issued to the name before is refused, what
// is issued later is not, so a node that was rebuilt can enrol under its old name.
//
// A Token lets a daemon without a certificate get its first one: it holds where
// the portal is, the fingerprint of the CA that will be met there, and a secret
// of which the database has the hash.
//
// The package does no networking, and uses the standard library's cryptography only.
package pki
