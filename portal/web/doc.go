// Package web is what a portal serves to browsers and to programs that speak HTTP
// and JSON: pages that show the cluster and change it, and the portal's gRPC
// methods under /api/v1/, with the same replies and checks. Both demand the
// portal's token: programs in each request ("Authorization: Bearer TOKEN"), people
// once, for a session.
//
// The pages are made on the server and need no script to be read or used; a script
// keeps what they show up to date. Nothing is loaded from elsewhere.
package web
