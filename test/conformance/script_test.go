package conformance

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// exchange is one request with what must come back.
type exchange struct {
	line    int
	raw     bool
	request string
	why     string              // the comment above the replies
	replies map[string]string   // by data plane; "" is both
	lines   map[string][]string // of a raw exchange, likewise
}

// differs reports that the data planes answer differently.
func (e *exchange) differs() bool { return len(e.replies) > 1 || len(e.lines) > 1 }

// answer is what a data plane must answer, for people.
func (e *exchange) answer(kind string) string {
	if e.raw {
		return strings.Join(e.rawLines(kind), " ")
	}
	return e.reply(kind)
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
			cur = &exchange{line: n, raw: raw, request: strings.TrimLeft(line, "> "), replies: map[string]string{}, lines: map[string][]string{}}
			s.exchanges = append(s.exchanges, cur)
			why = ""
		case strings.HasPrefix(line, "<< ") && cur != nil && cur.raw:
			who, rest, err := cur.whose(line[3:], &why)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			cur.lines[who] = append(cur.lines[who], rest)
		case strings.HasPrefix(line, "< ") && cur != nil && !cur.raw:
			who, reply, err := cur.whose(line[2:], &why)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			cur.replies[who] = reply
		default:
			return nil, fmt.Errorf("%s:%d: what is %q?", path, n, line)
		}
	}
	return s, sc.Err()
}

// whose splits the name of a data plane, "" for both, from a reply; why is the
// comment above it, which an answer of one needs.
func (e *exchange) whose(line string, why *string) (who, rest string, err error) {
	who, rest, _ = strings.Cut(line, " ")
	if who != "vda" && who != "spdk" {
		who, rest = "", line
	} else if *why == "" && e.why == "" {
		return "", "", errors.New("no line above says why the data planes differ")
	}
	if *why != "" {
		e.why, *why = *why, ""
	}
	return who, rest, nil
}

// rawLines is what a data plane must answer to a raw exchange.
func (e *exchange) rawLines(kind string) []string {
	if l, ok := e.lines[kind]; ok {
		return l
	}
	return e.lines[""]
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
