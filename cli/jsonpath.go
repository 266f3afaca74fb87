package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// jsonPath is a template as -o jsonpath= takes it: text with expressions in braces.
//
//	{.da_msg_list[*].da_name}                 the names, with spaces between them
//	{.da_msg.cntlr_msg_list[0].cn_name}       of the first
//	{.da_msg_list[?(@.error==true)].da_name}  of those for which that holds
//	{range .da_msg_list[*]}{.da_name}{"\n"}{end}
//
// A field that is not there is nothing.
type jsonPath []node

// node is a piece of a template: text, or a path, or what is repeated for each value of
// a path.
type node struct {
	text  string
	path  []step
	shown bool // path is printed
	body  jsonPath
}

// step goes from values to some of what is in them.
type step struct {
	field string // ".field"
	index int    // "[n]", from the end when it is negative
	all   bool   // "[*]"
	at    bool   // index counts
	where []step // "[?(@.x==v)]"
	want  string // v as JSON
	not   bool   // "!="
}

const pathRule = `it must be like jsonpath={.da_msg_list[*].da_name}`

// parsePath reads a template.
func parsePath(text string) (jsonPath, error) {
	p, rest, err := parseNodes(text, false)
	if err == nil && rest != "" {
		err = errors.New("{end} stands without {range}")
	}
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, pathRule)
	}
	return p, nil
}

// parseNodes reads up to the end, or to the {end} of a range.
func parseNodes(text string, inRange bool) (nodes jsonPath, rest string, err error) {
	for text != "" {
		plain, after, found := strings.Cut(text, "{")
		if plain != "" {
			nodes = append(nodes, node{text: plain})
		}
		if !found {
			break
		}
		inside, after, err := upToBrace(after)
		if err != nil {
			return nil, "", err
		}
		text = after
		switch {
		case inside == "end":
			if !inRange {
				return nodes, "{end}", nil
			}
			return nodes, text, nil
		case strings.HasPrefix(inside, "range "):
			path, err := parseSteps(strings.TrimSpace(inside[len("range "):]))
			if err != nil {
				return nil, "", err
			}
			body, after, err := parseNodes(text, true)
			if err != nil {
				return nil, "", err
			}
			nodes, text = append(nodes, node{path: path, body: body}), after
		case strings.HasPrefix(inside, `"`):
			var s string
			if json.Unmarshal([]byte(inside), &s) != nil {
				return nil, "", fmt.Errorf("{%s} is not a text", inside)
			}
			nodes = append(nodes, node{text: s})
		default:
			path, err := parseSteps(inside)
			if err != nil {
				return nil, "", err
			}
			nodes = append(nodes, node{path: path, shown: true})
		}
	}
	if inRange {
		return nil, "", errors.New("{range} has no {end}")
	}
	return nodes, "", nil
}

// upToBrace cuts at the closing brace, which may not be one of a quoted text.
func upToBrace(text string) (inside, after string, err error) {
	quote := byte(0)
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0:
			if c == quote && text[i-1] != '\\' {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '}':
			return strings.TrimSpace(text[:i]), text[i+1:], nil
		}
	}
	return "", "", errors.New("a brace is not closed")
}

// parseSteps reads ".a.b[0]", with "$" or "@" before it or not.
func parseSteps(text string) (steps []step, err error) {
	whole := text
	text = strings.TrimLeft(text, "$@")
	for text != "" {
		switch text[0] {
		case '.':
			end := strings.IndexAny(text[1:], ".[") + 1
			if end == 0 {
				end = len(text)
			}
			if name := text[1:end]; name == "*" {
				steps = append(steps, step{all: true})
			} else if name != "" {
				steps = append(steps, step{field: name})
			} else if len(text) > 1 {
				return nil, fmt.Errorf("%q has a dot without a field", whole)
			}
			text = text[end:]
		case '[':
			end := strings.IndexByte(text, ']')
			if end < 0 {
				return nil, fmt.Errorf("%q has a bracket that is not closed", whole)
			}
			s, err := parseBracket(text[1:end])
			if err != nil {
				return nil, err
			}
			steps, text = append(steps, s), text[end+1:]
		default:
			return nil, fmt.Errorf("%q must begin with a dot", whole)
		}
	}
	return steps, nil
}

func parseBracket(text string) (step, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return step{index: n, at: true}, nil
	}
	switch {
	case text == "*":
		return step{all: true}, nil
	case len(text) > 2 && text[0] == '\'' && text[len(text)-1] == '\'':
		return step{field: text[1 : len(text)-1]}, nil
	case strings.HasPrefix(text, "?(") && strings.HasSuffix(text, ")"):
		op := "=="
		left, right, found := strings.Cut(text[2:len(text)-1], op)
		if !found {
			op = "!="
			left, right, found = strings.Cut(text[2:len(text)-1], op)
		}
		if !found {
			return step{}, fmt.Errorf("[%s] has neither == nor !=", text)
		}
		where, err := parseSteps(strings.TrimSpace(left))
		want := strings.TrimSpace(right)
		if strings.HasPrefix(want, "'") {
			want = strconv.Quote(strings.Trim(want, "'"))
		}
		if !json.Valid([]byte(want)) {
			return step{}, fmt.Errorf("[%s] compares with %s, which is neither a number, true, false nor a quoted text", text, want)
		}
		return step{where: where, want: want, not: op == "!="}, err
	}
	return step{}, fmt.Errorf("[%s] must be a number, * or a condition like ?(@.error==true)", text)
}

// print prints the template for a value.
func (p jsonPath) print(b *strings.Builder, v any) {
	for _, n := range p {
		b.WriteString(n.text)
		values := walk([]any{v}, n.path)
		for i, v := range values {
			if n.shown {
				if i > 0 {
					b.WriteByte(' ')
				}
				b.WriteString(textOf(v))
			} else if n.body != nil {
				n.body.print(b, v)
			}
		}
	}
}

func walk(values []any, steps []step) []any {
	for _, s := range steps {
		var next []any
		for _, v := range values {
			next = append(next, s.from(v)...)
		}
		values = next
	}
	return values
}

func (s step) from(v any) []any {
	list, _ := v.([]any)
	switch {
	case s.field != "":
		if m, is := v.(map[string]any); is {
			if v, is := m[s.field]; is {
				return []any{v}
			}
		}
	case s.all:
		return list
	case s.at:
		i := s.index
		if i < 0 {
			i += len(list)
		}
		if i >= 0 && i < len(list) {
			return list[i : i+1]
		}
	case s.want != "":
		var some []any
		for _, v := range list {
			got := walk([]any{v}, s.where)
			if is := len(got) == 1 && asJSON(got[0]) == s.want; is != s.not {
				some = append(some, v)
			}
		}
		return some
	}
	return nil
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // it was read from JSON
		panic(err)
	}
	return string(b)
}

// textOf is a value for a shell: texts without quotes, others as JSON.
func textOf(v any) string {
	if s, is := v.(string); is {
		return s
	}
	return asJSON(v)
}
