// Package api holds the wire contract between VDA's processes; its only
// content is the directives that regenerate v1, gateway and docs/openapi.json from
// the .proto files.
package api

//go:generate go -C ../tools build -o ../bin/buf github.com/bufbuild/buf/cmd/buf
//go:generate ../bin/buf lint
//go:generate ../bin/buf generate
//go:generate ../bin/buf generate --template buf.gen.http.yaml --path v1/portal.proto
