// Package api holds the wire contract between VDA's processes; its only
// content is the directive that regenerates v1 from the .proto files.
package api

//go:generate go -C ../tools build -o ../bin/buf github.com/bufbuild/buf/cmd/buf
//go:generate ../bin/buf lint
//go:generate ../bin/buf generate
