// Package support is what daemons put into a support bundle of themselves, and what keeps secrets
// out of it: Scrub is applied to every byte, where it is collected, before it goes anywhere.
package support

import (
	"bytes"
	"fmt"
	"regexp"
	"runtime/pprof"
)

// File is one of a bundle.
type File struct {
	Name    string // such as "log.txt"; no folder
	Content []byte
}

// MaxFile bounds a file of a daemon, in bytes. What is longer loses its beginning.
const MaxFile = 1 << 20

// redacted stands for what was taken out.
const redacted = "REDACTED"

// secretName is how keys and columns are called whose values are secrets.
const secretName = `[\w.-]*(?:secret|passw(?:or)?d|passphrase|token|psk|private|credential|` +
	`dhchap[\w-]*key|dhchap[\w-]*secret|api[_-]?key|hop_?key)[\w.-]*`

// A rule finds a secret and says what of it stays.
var rules = []struct {
	find *regexp.Regexp
	say  string
}{
	{regexp.MustCompile(`vda-(?:user|enrol)-[\w-]+`), redacted},
	{regexp.MustCompile(`(?:DHHC-1|NVMeTLSkey-1):\d\d:[A-Za-z0-9+/=]+:?`), redacted},
	// postgresql://user:password@host; a password may hold any of these but a space
	{regexp.MustCompile(`(\w://[^\s:/@"']*):[^\s"']*@`), "$1:" + redacted + "@"},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[\w.~+/=-]+`), "$1 " + redacted},
	{regexp.MustCompile(`(?i)(\\?"` + secretName + `\\?"\s*:\s*)(?:\\?"(?:[^"\\]|\\[^"])*\\?"|[\w.+-]+)`), `$1"` + redacted + `"`},
	{regexp.MustCompile(`(?i)(\\?"[\w.-]*hop_?keys\\?"\s*:\s*)\[[^\]]*\]`), `$1"` + redacted + `"`},
	{regexp.MustCompile(`(?i)\b(` + secretName + `)=(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;&]+)`), "$1=" + redacted},
	{regexp.MustCompile(`(?i)\b(` + secretName + `):\s+(?:"(?:[^"\\]|\\.)*"|[^\s"',;]+)`), "$1: " + redacted},
}

// hints are in every line, in lower case, in which a rule may find something: few lines have one, and
// the rules are slow.
var hints = [][]byte{[]byte("vda-user-"), []byte("vda-enrol-"), []byte("dhhc-1:"), []byte("nvmetlskey-1:"), []byte("://"), []byte("bearer"),
	[]byte("basic"), []byte("secret"), []byte("passw"), []byte("passphrase"), []byte("token"), []byte("psk"), []byte("private"),
	[]byte("credential"), []byte("dhchap"), []byte("api"), []byte("hopkey"), []byte("hop_key")}

// privateKey is the one that has lines.
var privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`)

// Scrub is text without what looks like a secret: tokens of users and members, private keys, keys of
// DH-CHAP and TLS, passwords of URIs, and values whose name says what they are.
func Scrub(text []byte) []byte {
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		text = privateKey.ReplaceAll(text, []byte(redacted))
	}
	var out []byte
	from := 0 // what is before it is in out
	for at := 0; at < len(text); {
		end := len(text)
		if n := bytes.IndexByte(text[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		if line := text[at:end]; hinted(line) {
			for _, r := range rules {
				line = r.find.ReplaceAll(line, []byte(r.say))
			}
			out = append(append(out, text[from:at]...), line...)
			from = end
		}
		at = end
	}
	if from == 0 {
		return text
	}
	return append(out, text[from:]...)
}

func hinted(line []byte) bool {
	low := bytes.ToLower(line)
	for _, h := range hints {
		if bytes.Contains(low, h) {
			return true
		}
	}
	return false
}

// secretColumn is how columns are called that no bundle has.
var secretColumn = regexp.MustCompile(`(?i)^(?:` + secretName + `|.*hash.*)$`)

// SecretColumn reports that the values of a column of the database are left out: those of the table
// of tokens whatever they are called, but whose they are.
func SecretColumn(table, column string) bool {
	if table == "vda_token" && column == "id" {
		return true // what a token is found by
	}
	return secretColumn.MatchString(column)
}

// Secret reports that the value of something called name, such as a label, is a secret.
func Secret(name string) bool { return secretColumn.MatchString(name) }

// Clean makes a file of text: scrubbed, and its last MaxFile bytes.
func Clean(name string, text []byte) File {
	text = Scrub(text)
	if len(text) > MaxFile {
		cut := fmt.Appendf(nil, "(%d bytes before this are left out)\n", len(text)-MaxFile)
		text = append(cut, text[len(text)-MaxFile:]...)
	}
	return File{Name: name, Content: text}
}

// Failed is a file that says why there is no other.
func Failed(name string, err error) File {
	return Clean(name+".error", []byte(err.Error()+"\n")) // reason: the caller puts it into words
}

// Goroutines is what this process is doing.
func Goroutines() File {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
		return Failed("goroutines.txt", err)
	}
	text := b.Bytes()
	return Clean("goroutines.txt", text[:min(len(text), MaxFile)])
}
