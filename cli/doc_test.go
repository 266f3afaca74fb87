package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestCommandsDoc keeps docs/vda_cli.md and the table of commands alike.
func TestCommandsDoc(t *testing.T) {
	b, err := os.ReadFile("../docs/vda_cli.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	table := regexp.MustCompile("(?m)^\\| (`[a-z]+(?: [a-z]+)?`(?:, `[a-z]+(?: [a-z]+)?`)*) \\| `(.*)` \\|$")
	for _, row := range table.FindAllStringSubmatch(string(b), -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			documented[strings.Trim(name, "`")] = row[2]
		}
	}
	for _, c := range commands {
		var required, optional []string
		for _, f := range c.flags {
			if f.required {
				required = append(required, "--"+f.name)
			} else {
				optional = append(optional, "--"+f.name)
			}
			if p := partsOf(f.name); p != nil {
				for _, part := range p.flags {
					optional = append(optional, "--"+part.name)
				}
			}
		}
		if c.forms != nil {
			optional = append(optional, "--as")
		}
		if c.pages() {
			optional = append(optional, "--all")
		}
		if c.goesOn {
			optional = append(optional, "--once")
		}
		if c.wait != nil {
			optional = append(optional, "--wait")
		}
		before, in, _ := strings.Cut(strings.TrimSuffix(documented[c.path()], "]"), "[")
		if !slices.Equal(required, strings.Fields(before)) || !slices.Equal(optional, strings.Fields(in)) {
			t.Errorf("%s takes %v and perhaps %v, documented as %q", c.path(), required, optional, documented[c.path()])
		}
		delete(documented, c.path())
	}
	for _, l := range locals() {
		flags := pflag.NewFlagSet(l.verb, pflag.ContinueOnError)
		flags.SortFlags = false
		if l.flags != nil {
			l.flags(flags, &options{})
		}
		var want []string
		flags.VisitAll(func(f *pflag.Flag) { want = append(want, "--"+f.Name) })
		text := strings.TrimSpace(strings.TrimPrefix(documented[l.path()], l.args))
		if got := strings.Fields(strings.Trim(text, "[]")); !slices.Equal(got, want) || !strings.HasPrefix(documented[l.path()], l.args) {
			t.Errorf("%s takes %s and perhaps %v, documented as %q", l.path(), l.args, want, documented[l.path()])
		}
		delete(documented, l.path())
	}
	for name := range documented {
		t.Errorf("%s is documented, but is not a command", name)
	}
}
