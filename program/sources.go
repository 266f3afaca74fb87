package program

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of flags.
const (
	typedKey  = "vda_typed"
	oneOfKey  = "vda_one_of"
	envKey    = "vda_env"
	originKey = "vda_origin" // which source a value came from, then its place in words, then its file
)

// Kinds of sources.
const (
	FromDefault     = ""
	FromCommandLine = "command line"
	FromEnvironment = "environment"
	FromFile        = "file"
)

// Origin is where the value of a flag came from.
type Origin struct {
	Source string // FromDefault …
	Place  string // such as VDA_PORT, or "vda.yaml, line 3"
	File   string // the path, for FromFile
}

// OriginOf returns where a flag's value came from; it is known once the
// command runs.
func OriginOf(f *pflag.Flag) Origin {
	switch at := f.Annotations[originKey]; {
	case len(at) == 3:
		return Origin{at[0], at[1], at[2]}
	case f.Changed:
		return Origin{Source: FromCommandLine, Place: "--" + f.Name}
	}
	return Origin{}
}

// Typed says that a flag is an order, which counts on the command line alone:
// neither a variable that was exported for another program nor a forgotten line
// of a file may give it. Given there it is an error.
func Typed(fs *pflag.FlagSet, name string) { annotate(fs, name, typedKey, "true") }

// OneOf says that flags exclude each other. When sources of different strength
// give more than one, that of the strongest counts; the others keep their
// defaults. When one source gives several, all are set, and the program refuses
// them.
func OneOf(fs *pflag.FlagSet, names ...string) {
	for _, n := range names {
		annotate(fs, n, oneOfKey, names...)
	}
}

// AlsoEnv gives a flag a second environment variable, which counts when the
// first is not set: the one that it had before all flags had one.
func AlsoEnv(fs *pflag.FlagSet, name, variable string) { annotate(fs, name, envKey, variable) }

func annotate(fs *pflag.FlagSet, name, key string, values ...string) {
	if err := fs.SetAnnotation(name, key, values); err != nil {
		panic(err) // there is no such flag: a fault of the program
	}
}

// EnvName is the environment variable of a flag: VDA_DB_URI for db-uri.
func EnvName(flag string) string {
	return "VDA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settable reports whether a flag may come from the environment or a file at
// all: --help and --version are questions.
func settable(f *pflag.Flag) bool { return f.Name != "help" && f.Name != "version" }

func typed(f *pflag.Flag) bool { return f.Annotations[typedKey] != nil }

// fill gives the flags of cmd that are not on the command line their values
// from the environment, then those that are in neither from the file.
func fill(cmd *cobra.Command, getenv func(string) (string, bool)) error {
	fs := cmd.Flags()
	var err error
	set := func(f *pflag.Flag, values []string, from Origin) {
		if err == nil {
			err = setFrom(f, values, from)
		}
	}
	given := changed(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		name, value := fromEnv(f, getenv)
		if value == "" || !settable(f) || hidden(f, given) {
			return
		}
		values := []string{value}
		if _, many := f.Value.(pflag.SliceValue); many {
			values = strings.Split(value, ",")
		}
		set(f, values, Origin{FromEnvironment, "the environment variable " + name, ""})
	})
	if err != nil {
		return err
	}
	path := fs.Lookup("config").Value.String()
	if path == "" {
		return nil
	}
	lines, err := readFile(path)
	if err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	given = changed(fs)
	for _, l := range lines {
		f, err := lookup(cmd.Root(), l)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", path, l.number, err)
		}
		place := Origin{FromFile, path + ", line " + strconv.Itoa(l.number), path}
		mine := fs.Lookup(f.Name)
		switch {
		case typed(f):
			return notTyped(f, place)
		case mine == nil || hidden(mine, given):
			continue // another command's, or said by a stronger source
		}
		values, err := l.texts(mine)
		if err != nil {
			return fmt.Errorf("%s, line %d: %s: %w", path, l.number, l.name, err)
		}
		set(mine, values, place)
	}
	return err
}

// fromEnv is the variable that sets f, and its value; "" when none does.
func fromEnv(f *pflag.Flag, getenv func(string) (string, bool)) (name, value string) {
	for _, name := range append([]string{EnvName(f.Name)}, f.Annotations[envKey]...) {
		if v, ok := getenv(name); ok && v != "" {
			return name, v
		}
	}
	return "", ""
}

// required reports flags that cobra marks so and that no source gives.
func required(cmd *cobra.Command) error {
	var missing []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[cobra.BashCompOneRequiredFlag] != nil && !f.Changed {
			missing = append(missing, "--"+f.Name)
		}
	})
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s is required", missing[0])
	}
	return fmt.Errorf("%s are required", strings.Join(missing, ", "))
}

// changed returns the names of the flags that have a value so far.
func changed(fs *pflag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			names = append(names, f.Name)
		}
	})
	return names
}

// hidden reports whether a stronger source has given f, or one that f excludes.
func hidden(f *pflag.Flag, given []string) bool {
	if slices.Contains(given, f.Name) {
		return true
	}
	return slices.ContainsFunc(f.Annotations[oneOfKey], func(other string) bool { return slices.Contains(given, other) })
}

func setFrom(f *pflag.Flag, values []string, from Origin) error {
	if typed(f) {
		return notTyped(f, from)
	}
	for i, v := range values {
		if err := f.Value.Set(v); err != nil {
			return badValue(from.Place+": "+f.Name, f, v, err)
		}
		if i == 0 {
			f.Changed = true
			if f.Annotations == nil {
				f.Annotations = map[string][]string{}
			}
			f.Annotations[originKey] = []string{from.Source, from.Place, from.File}
		}
	}
	return nil
}

func notTyped(f *pflag.Flag, from Origin) error {
	return fmt.Errorf("%s sets --%s, which is an order and must be given on the command line", from.Place, f.Name)
}

// lookup finds the flag that a line of the file is about, among those of all
// the program's commands.
func lookup(root *cobra.Command, l fileLine) (*pflag.Flag, error) {
	var found *pflag.Flag
	var names []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Annotations[bare] != "" {
			return
		}
		for _, fs := range []*pflag.FlagSet{c.LocalFlags(), c.PersistentFlags()} {
			fs.VisitAll(func(f *pflag.Flag) {
				if !settable(f) || f.Name == "config" {
					return
				}
				names = append(names, f.Name)
				if f.Name == l.name {
					found = f
				}
			})
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if found == nil {
		return nil, fmt.Errorf("%q is not a flag of %s%s", l.name, root.Name(), orNearest(l.name, names, ""))
	}
	return found, nil
}

// Given gives a flag that no stronger source sets a value from a file of the program's own, which
// place names in errors, as "context prod of PATH" does; path is that file.
func Given(f *pflag.Flag, value, place, path string) error {
	if f.Changed {
		return nil
	}
	return setFrom(f, []string{value}, Origin{FromFile, place, path})
}
