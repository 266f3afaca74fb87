package program

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagLike is a word that is meant as a flag: --keep, --keep=24h. A number below zero is not.
var flagLike = regexp.MustCompile(`^--[a-zA-Z][\w-]*(=|$)`)

// Verbatim is the annotation of a command whose flags stand before its first word: what is
// behind that word belongs to something else.
const Verbatim = "vda_verbatim"

// swallowed is the error of a command line in which a flag takes the word behind it that the
// user meant otherwise, or leaves one that belongs to it: "--keep --yes", of which pflag makes
// the value "--yes"; "--wait 30m" and "--strict false", of which it makes a flag without a
// value and a name.
func swallowed(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	cmd, _, err := root.Find(args)
	if err != nil || cmd.DisableFlagParsing {
		return nil // cobra says what is wrong, or the program itself
	}
	verbatim := cmd.Annotations[Verbatim] != ""
	for i := 0; i < len(args)-1 && args[i] != "--"; i++ {
		f := flagOf(cmd, args[i])
		if f == nil {
			if verbatim && !strings.HasPrefix(args[i], "-") {
				return nil // what follows is not this program's
			}
			continue
		}
		next := args[i+1]
		switch alone := f.NoOptDefVal != ""; {
		case !alone && flagLike.MatchString(next):
			return fmt.Errorf("--%s needs a value, and the word behind it is the flag %s; if that is the value, write --%s=%s", f.Name, next,
				f.Name, next)
		case alone && belongs(f, next):
			return fmt.Errorf("--%s %s: the value of this flag stands behind a =, as in --%s=%s; a name that looks like one stands before "+
				"the flag", f.Name, next, f.Name, next)
		case !alone:
			i++ // its value
		}
	}
	return nil
}

// flagOf is the flag that a word gives without a value, nil when it gives none.
func flagOf(cmd *cobra.Command, word string) *pflag.Flag {
	if name, long := strings.CutPrefix(word, "--"); long {
		return cmd.Flag(name)
	}
	if len(word) != 2 || word[0] != '-' {
		return nil
	}
	for _, fs := range []*pflag.FlagSet{cmd.Flags(), cmd.InheritedFlags()} {
		if f := fs.ShorthandLookup(word[1:]); f != nil {
			return f
		}
	}
	return nil
}

// belongs reports that a word looks like the value of a flag that may stand without one.
func belongs(f *pflag.Flag, word string) bool {
	if f.Value.Type() == "bool" {
		return word == "true" || word == "false"
	}
	_, err := time.ParseDuration(word)
	return err == nil && word != "0"
}
