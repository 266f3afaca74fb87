package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/virtual-disk-array/vda/program"
)

// lines are where interactive gets its commands from.
type lines interface {
	// next returns a line, or io.EOF when there are no more.
	next() (string, error)
}

// prompt reads lines that a person types at a terminal, with those of before at the arrow keys, and
// completes words when Tab is pressed. The terminal is as it was between lines, so that commands
// find it that way.
type prompt struct {
	ctx      context.Context
	in       *os.File
	out      io.Writer
	terminal *term.Terminal
	complete func(words []string, begun string) []string // what may stand there, all that begin like that
}

const prompted = "vda> "

func newPrompt(ctx context.Context, in *os.File, out io.Writer, complete func(words []string, begun string) []string) *prompt {
	p := &prompt{ctx: ctx, in: in, out: out, complete: complete}
	p.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{&keys{in: in}, out}, prompted)
	p.terminal.AutoCompleteCallback = p.pressed
	p.terminal.History = &past{}
	return p
}

func (p *prompt) next() (string, error) {
	fd := int(p.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	restore := func() { _ = term.Restore(fd, before) } // there is nowhere else to tell of a terminal that is gone
	defer restore()
	defer context.AfterFunc(p.ctx, restore)() // a signal that ends the program leaves the terminal as it was
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		_ = p.terminal.SetSize(width, height) // it writes to a terminal that the next write tells of
	}
	return p.terminal.ReadLine()
}

// keys are what is pressed, with Ctrl-C as shells have it: the line is thrown away, not the session.
type keys struct {
	in   io.Reader
	more []byte // that is to be read before anything else
}

// abandon goes to the line's end, deletes what is before, and ends it.
const (
	ctrlC   = 3
	abandon = "\x05\x15\r"
)

func (k *keys) Read(b []byte) (int, error) {
	if len(k.more) == 0 {
		one := make([]byte, len(b))
		n, err := k.in.Read(one)
		if n == 0 {
			return 0, err
		}
		k.more = bytes.ReplaceAll(one[:n], []byte{ctrlC}, []byte(abandon))
	}
	n := copy(b, k.more)
	k.more = k.more[n:]
	return n, nil
}

// past is what was typed, the newest first: not what is empty, and not the same twice in a row.
// Nothing of it is kept when the program ends.
type past struct{ lines []string }

// maxPast bounds it.
const maxPast = 1000

func (h *past) Add(line string) {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[0] == line {
		return
	}
	h.lines = slices.Insert(h.lines, 0, line)
	h.lines = h.lines[:min(len(h.lines), maxPast)]
}

func (h *past) Len() int        { return len(h.lines) }
func (h *past) At(i int) string { return h.lines[i] }

// pressed completes the word before the cursor when Tab is pressed: as far as all that it may become
// are the same, and else shows these.
func (p *prompt) pressed(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	before := line[:pos]
	start := strings.LastIndexAny(before, " \t") + 1
	begun := before[start:]
	words, err := splitLine(before[:start])
	if err != nil || strings.ContainsAny(begun, `'"\`) {
		return line, pos, true // in the middle of quotes; the key does nothing
	}
	flag := ""
	if i := strings.IndexByte(begun, '='); i >= 0 && strings.HasPrefix(begun, "--") {
		flag = begun[:i+1] // what is offered is its value
	}
	var all []string
	for _, w := range p.complete(words, begun) {
		if strings.HasPrefix(flag+w, begun) {
			all = append(all, flag+w)
		}
	}
	if len(all) == 0 {
		return line, pos, true
	}
	word := all[0]
	for _, w := range all[1:] {
		for !strings.HasPrefix(w, word) {
			word = word[:len(word)-1]
		}
	}
	switch {
	case len(all) == 1 && !strings.HasSuffix(word, "="):
		word += " "
	case len(all) > 1 && word == begun:
		_, _ = p.terminal.Write([]byte(strings.Join(all, "  ") + "\n")) // as for all that it writes
	}
	return before[:start] + word + line[pos:], start + len(word), true
}

// completions are what vda_cli offers a shell after words, for one that has begun.
func (s *session) completions(ctx context.Context, proc program.Process, common, words []string, begun string) []string {
	if len(words) > 0 && words[0] == "interactive" {
		return nil
	}
	var out bytes.Buffer
	proc.Args = slices.Concat([]string{"__complete"}, common, words, []string{begun})
	proc.Stdin, proc.Stdout, proc.Stderr = strings.NewReader(""), &out, io.Discard
	one := &session{typed: s.typed, screen: s.screen}
	if (program.Program{Root: one.root(), Fail: one.fail}).Run(ctx, proc) != 0 {
		return nil
	}
	var all []string
	for line := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(word, ":") || word == "" {
			continue // how a shell is to take them
		}
		if len(words) > 0 || word != "interactive" && word != "completion" {
			all = append(all, word)
		}
	}
	if len(words) == 0 && strings.HasPrefix("exit", begun) {
		all = append(all, "exit")
	}
	return all
}
