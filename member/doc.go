// Package member is how a daemon becomes a member of its cluster and stays one: Flags say
// where its identity (package pki) is kept and have the token to enrol with, Open gets the
// first certificate, Keep renews it, and Told and Learn carry from member to member whether
// the cluster is secured and whom to refuse.
package member
