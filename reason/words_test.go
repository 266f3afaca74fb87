package reason

import (
	"slices"
	"testing"
)

// TestHintsMatch: a phrase is found in every text that its expression matches, and those whose
// expression does not begin with a fixed text say what is in theirs.
func TestHintsMatch(t *testing.T) {
	texts := []string{
		`connection error: desc = "x"`, `last connection error: desc = "x"`, "authentication handshake failed: x",
		"transport: authentication handshake failed: x", "error reading server preface: x", "error reading from server: x", "transport: x",
		"http2: frame too large", "http2: failed reading the frame payload: http2: frame too large",
		"raw-read tcp 1.2.3.4:5->6.7.8.9:1: x", "read tcp [::1]:5->6.7.8.9:1: read: x", "write tcp 6.7.8.9:1: x", "read tcp 6.7.8.9:1: x",
		"set tcp 6.7.8.9:1: x", "close tcp 6.7.8.9:1: x", "accept tcp 6.7.8.9:1: x", "raw-control tcp 6.7.8.9:1: x",
		"x: context deadline exceeded (Client.Timeout exceeded)", "context deadline exceeded", "i/o timeout",
		"net/http: request canceled", "os: deadline exceeded", "use of closed network connection", "http2: client connection lost",
		"closed pipe", "EOF", "x: unexpected EOF", "driver: bad connection", "invalid connection", "sql: connection is already closed",
		"conn closed", "sql: x", "x: pq: x", "grpc: x", "json: x", "proto: x", "protojson: x", "goose: x",
	}
	for _, p := range phrases {
		if prefix, _ := p.raw.LiteralPrefix(); prefix == "" && len(p.has) == 0 {
			t.Errorf("%v begins with no fixed text, and has no hints", p.raw)
		}
		hits := map[string]bool{}
		for _, text := range texts {
			if !p.raw.MatchString(text) {
				continue
			}
			if !p.in(text) {
				t.Errorf("%v matches %q, which has none of %q", p.raw, text, p.has)
			}
			if i := slices.IndexFunc(p.has, func(h string) bool { return (&phrase{has: []string{h}}).in(text) }); i >= 0 {
				hits[p.has[i]] = true
			}
		}
		if len(hits) < len(p.has) {
			t.Errorf("%v is tried with %v of its hints %q only", p.raw, hits, p.has)
		}
	}
}
