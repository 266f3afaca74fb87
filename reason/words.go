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
	// has are texts of which one is in whatever raw matches, where raw does not begin with one:
	// package regexp takes microseconds to find that such an expression matches nowhere, and
	// monitors read thousands of messages.
	has []string
}

func is(raw, say string, has ...string) phrase { return phrase{regexp.MustCompile(raw), say, has} }

// in returns whether a text can have the phrase.
func (p *phrase) in(text string) bool {
	return len(p.has) == 0 || slices.ContainsFunc(p.has, func(s string) bool { return strings.Contains(text, s) })
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
	is(`rpc error: code = \w+ desc = `, ""),
	is(`(?:last )?connection error: desc = \\?"((?:[^"\\]|\\.)*?)\\?"`, "$1", "connection error: desc"),
	is(`latest balancer error: `, ""),
	is(`received context error while waiting for new LB policy update: `, ""),
	is(`transport: Error while dialing:? `, ""),
	is(`initial http2 frame from server is not a settings frame: \*http2\.GoAwayFrame`, InTheClear),
	is(`initial http2 frame from server is not a settings frame: \S+`, "what answers there is not a gRPC server"),
	is(`(?:transport: )?authentication handshake failed: `, "", "authentication handshake failed"),
	is(`tls: first record does not look like a TLS handshake`, NoTLS),
	is(`(?:error reading server preface|error reading from server|transport): `, "", "error reading", "transport: "),
	is(`(?:http2: failed reading the frame payload: )?http2: frame too large`+
		`(?:, note that the frame header looked like .*? header)?`, "what answers there is not a gRPC server", "http2: frame too large"),
	is(`unexpected HTTP status code received from server: (\d+) \([^)]*\)`+
		`(?:; (?:malformed header: missing HTTP content-type|(?:transport: )?received unexpected content-type "[^"]*"))?`,
		"what answers there is not a gRPC server (HTTP status $1)"),
	is(`listen \w+ (?:`+addr+`): (?:bind|listen): |listen tcp: `, ""),
	is(`failed to write (?:client preface|initial settings frame|window update): `, ""),
	is(`grpc: received message larger than max \((\d+) vs\. (\d+)\)`, "a message of $1 bytes is more than the $2 that are taken"),
	is(`grpc: error unmarshalling request: .*contains invalid UTF-8`, "a text in the request is not UTF-8"),
	is(`grpc: (?:error unmarshalling request|failed to unmarshal the received message)`, "the message cannot be read"),
	is(`grpc: the client connection is closing`, "shutting down"),
	is(`dial tcp: lookup (\S+?)(?: on \S+)?: no such host`, "the name $1 is not known"),
	is(`lookup (\S+?)(?: on \S+)?: no such host`, "the name $1 is not known"),
	is(`dial \w+ (`+addr+`)(?:->(?:`+addr+`))?: connect: `, "$1: "),
	is(`dial unix (\S+): connect: `, "$1: "),
	is(`dial \w+ (`+addr+`): `, "$1: "),
	is(netOp+` \w+ (?:`+addr+`)->(`+addr+`): (?:(?:read|write|setsockopt|close|accept4?): )?`, "$1: ", "->"),
	is(netOp+` \w+ (`+addr+`): (?:(?:read|write|setsockopt|close|accept4?): )?`,
		"$1: ", "read ", "write ", "set ", "close ", "accept ", "control "),
	is(`(?:: )?context deadline exceeded \(Client\.Timeout[^)]*\)`, ": "+NoAnswer, "(Client.Timeout"),
	is(`context deadline exceeded|i/o timeout|net/http: request canceled|os: deadline exceeded`,
		NoAnswer, "deadline exceeded", "i/o timeout", "request canceled"),
	is(`context canceled`, "cancelled"),
	is(`use of closed network connection|http2: client connection lost|closed pipe`,
		"the connection was closed", "use of closed", "connection lost", "closed pipe"),
	is(`(^|: |")(?:unexpected )?EOF("|$|;)`, "${1}the connection was closed$2", "EOF"),
	is(`driver: bad connection|invalid connection|sql: connection is already closed|conn closed`,
		"the connection was lost", "bad connection", "invalid connection", "already closed", "conn closed"),
	is(`sql: database is closed`, "shutting down"),
	is(`sql: transaction has already been committed or rolled back`, "the transaction has ended"),
	is(`sql: no rows in result set`, "there is no such row"),
	is(`(^|: |; |\(|")(?:(?:sql|pq|grpc|json|proto|protojson|goose): )+`,
		"$1", "sql: ", "pq: ", "grpc: ", "json: ", "proto: ", "goose: "),
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
		if p.in(text) {
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
		if p.in(text) && p.raw.MatchString(text) {
			return p.raw.FindString(text)
		}
	}
	for _, s := range []string{"SQLSTATE", "failed to connect to `", "desc = ", "goroutine ", "runtime error"} {
		if strings.Contains(text, s) {
			return s
		}
	}
	return ""
}
