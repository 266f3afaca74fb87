package program

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// rules say what a value of pflag's own types must be; other types say it
// themselves.
var rules = map[string]string{
	"bool":     "it must be true or false",
	"duration": "it must be a duration with a unit, such as 450ms, 20s or 1m30s",
	"float64":  "it must be a number",
	"int":      "it must be a whole number",
	"uint32":   "it must be a whole number from 0 to 4294967295",
}

// badValue says what is wrong with a value; where names its flag.
func badValue(where string, f *pflag.Flag, value string, cause error) error {
	if rule, ok := rules[f.Value.Type()]; ok {
		return fmt.Errorf("%s %q: %s", where, value, rule)
	}
	return fmt.Errorf("%s %q: %w", where, value, cause)
}

// flagError puts what pflag says of a command line into words.
func flagError(cmd *cobra.Command, err error) error {
	// A word before the flag that is not a command is the mistake, not its
	// flags.
	if words := cmd.Flags().Args(); len(words) > 0 && cmd.HasSubCommands() {
		if wrong := cmd.ValidateArgs(words); wrong != nil {
			return wrong
		}
	}
	var value *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &value):
		return badValue("--"+value.GetFlag().Name, value.GetFlag(), value.GetValue(), value.Unwrap())
	case errors.As(err, &unknown):
		return UnknownFlag(cmd, unknown)
	case errors.As(err, &missing):
		return fmt.Errorf("--%s needs a value", missing.GetFlag().Name)
	}
	return err
}

// UnknownFlag is the error about a flag that cmd does not have, with the
// nearest that it has.
func UnknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	// -port for --port
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		long, _, _ := strings.Cut(short, "=")
		if cmd.Flags().Lookup(long) != nil {
			return fmt.Errorf("unknown flag: -%s; did you mean --%s?", long, long)
		}
		return fmt.Errorf("unknown flag: -%s", unknown.GetSpecifiedName())
	}
	return fmt.Errorf("unknown flag: --%s%s", unknown.GetSpecifiedName(), NearestFlag(cmd, unknown.GetSpecifiedName()))
}

// NearestFlag is "; did you mean --x?" about the flag of cmd that looks most
// like name, "" when none does.
func NearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return orNearest(name, names, "--")
}

// NearestCommand is the command below cmd that looks most like name, "" when
// none does.
func NearestCommand(cmd *cobra.Command, name string) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return nearest(name, names)
}

func orNearest(name string, names []string, prefix string) string {
	if near := nearest(name, names); near != "" {
		return "; did you mean " + prefix + near + "?"
	}
	return ""
}

// nearest is the one of names that is a few slips away from name, "" when all
// are further.
func nearest(name string, names []string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	best, least := "", max(2, len(name)/3)+1
	for _, n := range names {
		d := distance(name, n)
		if len(name) > 2 && strings.HasPrefix(n, name) {
			d = 1
		}
		if d < least && d < max(len(n), len(name))-1 {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour that make a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// named finds the names of flags in an error: with dashes before them, with one
// inside, or at the very beginning.
var named = regexp.MustCompile(`--[a-z][a-z0-9-]*|\b[a-z]+(?:-[a-z]+)+|^[a-z]+\b`)

// whence adds to an error where the values came from of the flags that it
// names, unless that is the command line.
func whence(cmd *cobra.Command, err error) error {
	text := err.Error() // reason: only searched
	var places []string
	seen := map[string]bool{}
	for _, word := range named.FindAllString(text, -1) {
		name := strings.TrimPrefix(word, "--")
		f := cmd.Flags().Lookup(name)
		if f == nil || seen[name] {
			continue
		}
		seen[name] = true
		if from := OriginOf(f); from.Place != "" && from.Source != FromCommandLine && !strings.Contains(text, from.Place) {
			places = append(places, fmt.Sprintf("--%s is set by %s", name, from.Place))
		}
	}
	if places == nil {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(places, "; "))
}
