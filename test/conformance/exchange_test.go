package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// TestExchanges holds every conversation of testdata with every data plane.
func TestExchanges(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations in testdata: %v", err)
	}
	for _, file := range files {
		s, err := readScript(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kinds {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+k.name, func(t *testing.T) {
				p := start(t, k, s.waiting)
				fill := filler(t)
				for _, e := range s.exchanges {
					at := fmt.Sprintf("%s:%d", file, e.line)
					if e.raw {
						p.rawExchange(at, fill(e.request), e.rawLines(k.name))
						continue
					}
					p.exchange(at, fill(e.request), fill(e.reply(k.name)))
				}
			})
		}
	}
}

var variable = regexp.MustCompile(`\$[A-Z]+[0-9]*`)

// filler replaces $DIR, which holds the file aio0 of 16 MiB, the keys key, key2
// and open, which others may read, and $PORT… .
func filler(t *testing.T) func(string) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "aio0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "aio0"), 16<<20); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"key": 0o600, "key2": 0o600, "open": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(dhchap.NewSecret(dhchap.SHA256).Reveal()), mode); err != nil {
			t.Fatal(err)
		}
	}
	values := map[string]string{"$DIR": dir}
	return func(s string) string {
		return variable.ReplaceAllStringFunc(s, func(name string) string {
			if values[name] == "" {
				values[name] = freePort(t)
			}
			return values[name]
		})
	}
}

// exchange makes one call on the client's connection's terms, but with the
// reply as it came.
func (p *plane) exchange(at, request, want string) {
	p.t.Helper()
	var wanted any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		p.t.Fatalf("%s: expected reply %q: %v", at, want, err)
	}
	var q map[string]json.RawMessage
	if err := json.Unmarshal([]byte(request), &q); err != nil {
		p.t.Fatalf("%s: request: %v", at, err)
	}
	q["jsonrpc"], q["id"] = json.RawMessage(`"2.0"`), json.RawMessage("7")
	whole, err := json.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	c := p.dial()
	defer c.Close()
	_, _ = c.Write(whole) // a failure shows in the reply
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s: %s\nno reply: %v", at, request, err)
	}
	var got any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		p.t.Fatalf("%s: reply %q: %v", at, line, err)
	}
	if why := matches(wanted, got, "reply"); why != "" {
		p.t.Errorf("%s: %s\n%s\ngot %s", at, request, why, strings.TrimSpace(line))
	}
	if id := got.(map[string]any)["id"]; id != float64(7) {
		p.t.Errorf("%s: reply has id %v", at, id)
	}
}

func (p *plane) dial() net.Conn {
	p.t.Helper()
	c, err := net.Dial("unix", p.Socket())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *plane) rawExchange(at, request string, want []string) {
	p.t.Helper()
	c := p.dial()
	defer c.Close()
	_, _ = c.Write([]byte(request + "\n")) // a failure shows in the reply
	in := bufio.NewReader(c)
	for _, w := range want {
		switch w {
		case "nothing":
			_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if line, err := in.ReadString('\n'); !os.IsTimeout(err) {
				p.t.Errorf("%s: %s\ngot %q, %v, want nothing", at, request, line, err)
			}
		case "closed":
			if line, err := in.ReadString('\n'); err == nil || os.IsTimeout(err) {
				p.t.Errorf("%s: %s\ngot %q, %v, want the connection closed", at, request, line, err)
			}
		default:
			line, err := in.ReadString('\n')
			var wanted, got any
			if err := json.Unmarshal([]byte(w), &wanted); err != nil {
				p.t.Fatalf("%s: expected reply %q: %v", at, w, err)
			}
			if err != nil || json.Unmarshal([]byte(line), &got) != nil {
				p.t.Errorf("%s: %s\ngot %q, %v", at, request, line, err)
				return
			}
			if why := matches(wanted, got, "reply"); why != "" {
				p.t.Errorf("%s: %s\n%s\ngot %s", at, request, why, line)
			}
		}
	}
}

// TestDifferences prints where vda_tgt and SPDK differ, and why, and compares
// that with docs/spdk.md; a difference without a reason does not load.
func TestDifferences(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/spdk.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Differences\n")
	section, _, _ = strings.Cut(section, "\n## ")
	n := 0
	for _, file := range files {
		s, err := readScript(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range s.exchanges {
			if !e.differs() {
				continue
			}
			n++
			row := " | " + e.why + " |\n"
			if !strings.Contains(section, row) {
				t.Errorf("docs/spdk.md does not list the difference %q", e.why)
			}
			section = strings.Replace(section, row, "\n", 1)
			t.Logf("%s\n  %s\n  vda_tgt: %s\n  SPDK:    %s", e.request, e.why, e.answer("vda"), e.answer("spdk"))
		}
	}
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") && strings.Count(line, "|") > 1 {
			t.Errorf("docs/spdk.md lists a difference that there is not: %s", line)
		}
	}
	if n == 0 {
		t.Error("no differences are listed; there are some")
	}
}
