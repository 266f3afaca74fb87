package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// exchange is one request with what must come back.
type exchange struct {
	line    int
	raw     bool
	request string
	why     string            // the comment above the replies
	replies map[string]string // by data plane; "" is both
	lines   []string          // of a raw exchange
}

// script is a file of testdata.
type script struct {
	waiting   bool
	exchanges []*exchange
}

func readScript(path string) (*script, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &script{}
	var cur *exchange
	why := ""
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		switch {
		case line == "":
			why = ""
		case strings.HasPrefix(line, "#"):
			why = strings.TrimSpace(line[1:])
		case line == "start wait-for-rpc":
			s.waiting = true
		case strings.HasPrefix(line, ">> "), strings.HasPrefix(line, "> "):
			raw := strings.HasPrefix(line, ">> ")
			cur = &exchange{line: n, raw: raw, request: strings.TrimLeft(line, "> "), replies: map[string]string{}}
			s.exchanges = append(s.exchanges, cur)
			why = ""
		case strings.HasPrefix(line, "<< ") && cur != nil && cur.raw:
			cur.lines = append(cur.lines, line[3:])
		case strings.HasPrefix(line, "< ") && cur != nil && !cur.raw:
			who, reply, _ := strings.Cut(line[2:], " ")
			if who != "vda" && who != "spdk" {
				who, reply = "", line[2:]
			} else if why == "" && cur.why == "" {
				return nil, fmt.Errorf("%s:%d: no line above says why the data planes differ", path, n)
			}
			if why != "" {
				cur.why = why
			}
			cur.replies[who] = reply
		default:
			return nil, fmt.Errorf("%s:%d: what is %q?", path, n, line)
		}
	}
	return s, sc.Err()
}

// reply is what a data plane must answer; "" when the script says nothing.
func (e *exchange) reply(kind string) string {
	if r, ok := e.replies[kind]; ok {
		return r
	}
	return e.replies[""]
}

// matches says how got falls short of want, "" when it does not.
func matches(want, got any, at string) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, want an object", at, short(got))
		}
		for k, v := range w {
			if why := matches(v, g[k], at+"."+k); why != "" {
				return why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is %s, want %d elements", at, short(got), len(w))
		}
		for i := range w {
			if why := matches(w[i], g[i], fmt.Sprintf("%s[%d]", at, i)); why != "" {
				return why
			}
		}
		return ""
	case string:
		if matchesWord(w, got) {
			return ""
		}
	default:
		if want == got {
			return ""
		}
	}
	return fmt.Sprintf("%s is %s, want %v", at, short(got), want)
}

func matchesWord(want string, got any) bool {
	s, isString := got.(string)
	switch want {
	case "<any>":
		return got != nil
	case "<int>":
		n, ok := got.(float64)
		return ok && n == float64(int64(n))
	case "<uuid>":
		return isString && len(s) == 36 && strings.Count(s, "-") == 4
	}
	return isString && s == want
}

func short(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(b) > 1000 {
		return string(b[:1000]) + "…"
	}
	return string(b)
}
