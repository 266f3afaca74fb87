// Package cli is vda_cli: one command a method of the portal's API.
//
// The commands are a table (commands.go): noun, verb, method, flags. A flag
// names the request field that it fills; the field's type says how its value
// is read. So the API's proto is the one place where a request is described.
//
// # Output
//
// The reply goes to standard output: as JSON in the proto's field order, two
// spaces an indent, zero values printed and 64-bit integers as numbers
// (default), as YAML, or as a table for people. Warnings and errors are one
// line each on standard error.
//
// A failure prints {"reply_info": {...}} with its code and message, and a
// line on standard error. The exit status is 1 when the portal refused or
// failed, 2 when the command line is wrong (nothing was sent), and 3 when the
// portal could not be reached. The codes are in docs/errors.md.
package cli
