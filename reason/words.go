package reason

import (
	"regexp"
	"slices"
	"strings"
)

// A phrase is what a library says, and what a person would.
type phrase struct {
	raw *regexp.Regexp
	say string
}

// What is said of a server that is called in the clear and must not be, and the other way round.
const (
	InTheClear = "it takes no calls in the clear: its cluster is secured"
	NoTLS      = "it answers in the clear, and has no TLS"
)

// addr is an address as package net writes it.
const addr = `[^\s:"]+:\d+|\[[0-9a-fA-F:.%\w]+\]:\d+`

// netOp is what package net was asked for; of a socket that is used past it (syscall.RawConn)
// with raw- before it.
const netOp = `(?:raw-(?:read|write|control)|\b(?:read|write|set|close|accept))`

// phrases are replaced in this order. What remains is what the operating
// system says ("connection refused"), which administrators know.
var phrases = []phrase{
	{regexp.MustCompile(`rpc error: code = \w+ desc = `), ""},
	{regexp.MustCompile(`(?:last )?connection error: desc = \\?"((?:[^"\\]|\\.)*?)\\?"`), "$1"},
	{regexp.MustCompile(`latest balancer error: `), ""},
	{regexp.MustCompile(`received context error while waiting for new LB policy update: `), ""},
	{regexp.MustCompile(`transport: Error while dialing:? `), ""},
	{regexp.MustCompile(`initial http2 frame from server is not a settings frame: \*http2\.GoAwayFrame`), InTheClear},
	{regexp.MustCompile(`initial http2 frame from server is not a settings frame: \S+`), "what answers there is not a gRPC server"},
	{regexp.MustCompile(`(?:transport: )?authentication handshake failed: `), ""},
	{regexp.MustCompile(`tls: first record does not look like a TLS handshake`), NoTLS},
	{regexp.MustCompile(`(?:error reading server preface|error reading from server|transport): `), ""},
	{regexp.MustCompile(`(?:http2: failed reading the frame payload: )?http2: frame too large` +
		`(?:, note that the frame header looked like .*? header)?`),
		"what answers there is not a gRPC server"},
	{regexp.MustCompile(`unexpected HTTP status code received from server: (\d+) \([^)]*\)` +
		`(?:; (?:malformed header: missing HTTP content-type|(?:transport: )?received unexpected content-type "[^"]*"))?`),
		"what answers there is not a gRPC server (HTTP status $1)"},
	{regexp.MustCompile(`listen \w+ (?:` + addr + `): (?:bind|listen): |listen tcp: `), ""},
	{regexp.MustCompile(`failed to write (?:client preface|initial settings frame|window update): `), ""},
	{regexp.MustCompile(`grpc: received message larger than max \((\d+) vs\. (\d+)\)`),
		"a message of $1 bytes is more than the $2 that are taken"},
	{regexp.MustCompile(`grpc: error unmarshalling request: .*contains invalid UTF-8`), "a text in the request is not UTF-8"},
	{regexp.MustCompile(`grpc: (?:error unmarshalling request|failed to unmarshal the received message)`), "the message cannot be read"},
	{regexp.MustCompile(`grpc: the client connection is closing`), "shutting down"},
	{regexp.MustCompile(`dial tcp: lookup (\S+?)(?: on \S+)?: no such host`), "the name $1 is not known"},
	{regexp.MustCompile(`lookup (\S+?)(?: on \S+)?: no such host`), "the name $1 is not known"},
	{regexp.MustCompile(`dial \w+ (` + addr + `)(?:->(?:` + addr + `))?: connect: `), "$1: "},
	{regexp.MustCompile(`dial unix (\S+): connect: `), "$1: "},
	{regexp.MustCompile(`dial \w+ (` + addr + `): `), "$1: "},
	{regexp.MustCompile(netOp + ` \w+ (?:` + addr + `)->(` + addr + `): (?:(?:read|write|setsockopt|close|accept4?): )?`), "$1: "},
	{regexp.MustCompile(netOp + ` \w+ (` + addr + `): (?:(?:read|write|setsockopt|close|accept4?): )?`), "$1: "},
	{regexp.MustCompile(`(?:: )?context deadline exceeded \(Client\.Timeout[^)]*\)`), ": " + NoAnswer},
	{regexp.MustCompile(`context deadline exceeded|i/o timeout|net/http: request canceled|os: deadline exceeded`), NoAnswer},
	{regexp.MustCompile(`context canceled`), "cancelled"},
	{regexp.MustCompile(`use of closed network connection|http2: client connection lost|closed pipe`), "the connection was closed"},
	{regexp.MustCompile(`(^|: |")(?:unexpected )?EOF("|$|;)`), "${1}the connection was closed$2"},
	{regexp.MustCompile(`driver: bad connection|invalid connection|sql: connection is already closed|conn closed`),
		"the connection was lost"},
	{regexp.MustCompile(`sql: database is closed`), "shutting down"},
	{regexp.MustCompile(`sql: transaction has already been committed or rolled back`), "the transaction has ended"},
	{regexp.MustCompile(`sql: no rows in result set`), "there is no such row"},
	{regexp.MustCompile(`(^|: |; |\(|")(?:(?:sql|pq|grpc|json|proto|protojson|goose): )+`), "$1"},
}

// Words is text as a person would say it, in one line; what is said twice in
// lines of its own is said once.
func Words(text string) string {
	var lines []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && !slices.Contains(lines, l) {
			lines = append(lines, l)
		}
	}
	text = strings.Join(lines, "; ")
	for _, p := range phrases {
		if p.raw.MatchString(text) {
			text = p.raw.ReplaceAllString(text, p.say)
		}
	}
	return text
}

// Raw is the first thing in text that a library said, "" when there is none.
// Tests look for it in all that users see.
func Raw(text string) string {
	if at := strings.IndexByte(text, '\n'); at >= 0 {
		return "a line break"
	}
	for _, p := range phrases {
		if s := p.raw.FindString(text); s != "" {
			return s
		}
	}
	for _, s := range []string{"SQLSTATE", "failed to connect to `", "desc = ", "goroutine ", "runtime error"} {
		if strings.Contains(text, s) {
			return s
		}
	}
	return ""
}
