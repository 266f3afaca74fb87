// Package docs has the documents that programs show: they are in their binaries, so that what a
// program says and what the pages say is one text.
package docs

import _ "embed" // of files beside this one

// JSONRPC is jsonrpc.md, the reference of vda_tgt's methods: a heading of the second level for
// each.
//
//go:embed jsonrpc.md
var JSONRPC string
