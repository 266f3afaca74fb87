package tutorial

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Step is one command of the document.
type Step struct {
	Line    int    // in the document
	Section string // its heading
	Host    string // where it is typed
	Command string
	Stdin   string // what is typed into the command, such as SQL into psql
	Output  string // what the document shows below the command; "" if nothing
}

// hostOf names the host of a section by its heading.
var hostOf = []struct {
	heading *regexp.Regexp
	host    string
}{
	{regexp.MustCompile(`postgresql$`), "postgresql"},
	{regexp.MustCompile(`vda_cli$`), "cli"},
	{regexp.MustCompile(`^Configure (portal|monitor|dn\d|cn\d)$`), ""},
	{regexp.MustCompile(`^Connect the \w+ on (host\d)$`), ""},
}

// commandWord starts a typed line; anything else in a block is output of the
// command above it, or input to it.
var commandWord = regexp.MustCompile(`^(sudo|nohup|cd|ps|cat|echo|vda_\w+) `)

// interactive commands take the lines up to "exit" as their input.
var interactive = regexp.MustCompile(`\bpsql$`)

// Parse reads reStructuredText and returns its steps in order. A code block
// below a heading that names no host is an error, as is a block that starts
// with something that is not a command.
func Parse(r io.Reader) ([]Step, error) {
	var (
		steps    []Step
		section  string
		previous string
		inBlock  bool
		typing   bool // into an interactive command
		lines    = bufio.NewScanner(r)
	)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "^^^"):
			section = previous
		case line == ".. code-block:: none":
			inBlock, typing = true, false
			previous = ""
			continue
		case inBlock && line != "" && !strings.HasPrefix(line, "   "):
			inBlock = false
		}
		previous = line
		if !inBlock || strings.TrimSpace(line) == "" {
			continue
		}
		text := strings.TrimPrefix(line, "   ")
		last := len(steps) - 1
		switch {
		case typing && text == "exit":
			typing = false
		case typing:
			steps[last].Stdin += text + "\n"
		case commandWord.MatchString(text):
			host, err := host(section)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			steps = append(steps, Step{Line: n, Section: section, Host: host, Command: text})
			typing = interactive.MatchString(text)
		case last < 0 || steps[last].Section != section:
			return nil, fmt.Errorf("line %d: %q is neither a command nor the output of one", n, text)
		default:
			steps[last].Output += text + "\n"
		}
	}
	return steps, lines.Err()
}

func host(section string) (string, error) {
	for _, h := range hostOf {
		m := h.heading.FindStringSubmatch(section)
		switch {
		case m == nil:
		case h.host != "":
			return h.host, nil
		default:
			return m[1], nil
		}
	}
	return "", fmt.Errorf("the heading %q names no host", section)
}
