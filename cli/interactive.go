package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
)

// interactiveCommands read further commands: a function, as these are all there are.
func interactiveCommands() []local {
	return []local{
		{verb: "interactive", short: "Take commands, one per line, until exit or the end of the input", run: interact,
			long: "\nEach line is what would stand behind vda_cli. The flags that every command has, given here,\nhold for all lines, which may " +
				"have their own. What begins with # is left out. Of a script, a\nfailed line ends it, with that line's exit status; a person " +
				"at a terminal goes on.\nThere, Tab completes commands, flags and names that the portal knows, and the arrow keys bring\nback " +
				"lines of before; Ctrl-C throws a line away, Ctrl-D and exit end it.",
			example: "  vda_cli interactive --context prod\n  vda_cli interactive --addr-port 192.168.0.11:9520 -o table < commands"},
	}
}

// maxLine bounds a line, bytes.
const maxLine = 1 << 20

// interact runs each line as a run of its own, so that no flag of one stays for the next.
func interact(s *session, cmd *cobra.Command, _ []string, _ *options) error {
	var common []string
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if program.OriginOf(f).Source != program.FromDefault && f.Value.String() != "" {
			common = append(common, "--"+f.Name+"="+f.Value.String())
		}
	})
	in, person := cmd.InOrStdin(), s.screen(s.stdout) && program.Terminal(cmd.InOrStdin())
	proc := program.Process{Stdout: s.stdout, Stderr: s.stderr, Getenv: func(name string) (string, bool) {
		v := program.Getenv(cmd.Context(), name)
		return v, v != ""
	}}
	var from lines = newScript(in)
	if f, is := in.(*os.File); is && person {
		proc.Stdin = in // a line is read when it is whole: what follows is the command's
		from = newPrompt(cmd.Context(), f, s.stdout, func(words []string, begun string) []string {
			return s.completions(cmd.Context(), proc, common, words, begun)
		})
	}
	for number := 1; ; number++ {
		line, err := from.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the commands cannot be read on: %w", cause(err))
		}
		words, err := splitLine(line)
		switch {
		case err != nil:
			err = fmt.Errorf("line %d: %w", number, err)
			if !person {
				return err
			}
			fmt.Fprintln(s.stderr, "vda_cli:", reason.Of(err))
			continue
		case len(words) == 0:
			continue
		case words[0] == "exit" || words[0] == "quit":
			return nil
		case words[0] == "interactive":
			if !person {
				return fmt.Errorf("line %d: interactive takes no lines of its own here", number)
			}
			continue
		}
		one := &session{typed: s.typed, screen: s.screen}
		proc.Args = append(append([]string{}, common...), words...)
		exit := program.Program{Root: one.root(), Fail: one.fail}.Run(cmd.Context(), proc)
		if cmd.Context().Err() != nil {
			return cmd.Context().Err()
		}
		if exit != 0 && !person {
			return &failure{exit: exit, shown: true, info: &apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeInvalid),
				ReplyMsg: fmt.Sprintf("line %d has failed; those after it were not run", number)}}
		}
	}
	if person {
		fmt.Fprintln(s.stdout)
	}
	return nil
}

// script reads lines of a file or pipe.
type script struct{ *bufio.Scanner }

func newScript(in io.Reader) script {
	s := script{bufio.NewScanner(in)}
	s.Buffer(nil, maxLine)
	return s
}

func (s script) next() (string, error) {
	if s.Scan() {
		return s.Text(), nil
	}
	return "", cmp.Or(s.Err(), io.EOF)
}

// splitLine splits a line into words as a shell does, without anything else of one: quotes keep what
// is between them together, a backslash keeps the next character outside of single quotes, and # begins
// a comment where a word would.
func splitLine(line string) (words []string, err error) {
	var word strings.Builder
	in, quote, kept := false, rune(0), false
	for _, c := range line {
		switch {
		case kept:
			word.WriteRune(c)
			kept = false
		case c == '\\' && quote != '\'':
			in, kept = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			in, quote = true, c
		case c == ' ' || c == '\t' || c == '\r':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		case c == '#' && !in:
			return words, nil
		default:
			in = true
			word.WriteRune(c)
		}
	}
	switch {
	case quote != 0:
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	case kept:
		return nil, errors.New("it ends with a backslash: a command is one line")
	case in:
		words = append(words, word.String())
	}
	return words, nil
}
