package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/program"
)

// cluster is a context: how one cluster is reached. An empty field leaves its flag alone.
type cluster struct {
	Portals   []string `yaml:"portals,omitempty" json:"portals"`
	TokenFile string   `yaml:"token-file,omitempty" json:"token_file"`
	CAFile    string   `yaml:"ca-file,omitempty" json:"ca_file"`
	Output    string   `yaml:"output,omitempty" json:"output"`
	Timeout   string   `yaml:"timeout,omitempty" json:"timeout"`
}

// flags are the values that a context gives to flags.
func (c *cluster) flags() map[string]string {
	return map[string]string{"addr-port": strings.Join(c.Portals, ","), "token-file": c.TokenFile, "ca-file": c.CAFile, "output": c.Output,
		"timeout": c.Timeout}
}

// contexts are what the user's file holds.
type contexts struct {
	Current  string              `yaml:"current,omitempty"`
	Contexts map[string]*cluster `yaml:"contexts"`

	path string
}

// maxContexts bounds the file, in bytes.
const maxContexts = 1 << 20

// contextsPath is where the contexts are: the file of --context-file, or config.yaml in the
// user's folder of configuration; "" when that is not known.
func (s *session) contextsPath(ctx context.Context) string {
	if s.contextFile != "" {
		return s.contextFile
	}
	if dir := program.Getenv(ctx, "XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vda", "config.yaml")
	}
	if home := program.Getenv(ctx, "HOME"); home != "" {
		return filepath.Join(home, ".config", "vda", "config.yaml")
	}
	return ""
}

// contexts reads the file. Without one there are none, but one that --context-file names
// must be there.
func (s *session) contexts(ctx context.Context) (*contexts, error) {
	all, there, err := s.readContexts(ctx)
	if err == nil && !there && s.contextFile != "" {
		return nil, fmt.Errorf("the file of contexts %s: %w", all.path, cause(syscall.ENOENT))
	}
	return all, err
}

// readContexts is contexts that takes any file that is not there for an empty one.
func (s *session) readContexts(ctx context.Context) (all *contexts, there bool, err error) {
	all = &contexts{Contexts: map[string]*cluster{}, path: s.contextsPath(ctx)}
	file, err := os.Open(all.path)
	switch {
	case all.path == "", errors.Is(err, fs.ErrNotExist):
		return all, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("the file of contexts %s: %w", all.path, cause(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxContexts+1))
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("the file of contexts %s: %w", all.path, cause(err))
	case len(text) > maxContexts:
		return nil, false, fmt.Errorf("the file of contexts %s: it must be at most %d bytes", all.path, maxContexts)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(all); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("the file of contexts %s: %w", all.path, program.NotYAML(err))
	}
	for name, c := range all.Contexts {
		if c == nil {
			return nil, false, fmt.Errorf("the file of contexts %s: context %q is empty; it must have portals", all.path, name)
		}
	}
	return all, true, nil
}

// save writes the file, as a whole or not at all.
func (c *contexts) save() error {
	if c.path == "" {
		return errors.New("--context-file is missing: there is no HOME in the environment to keep contexts in")
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return fmt.Errorf("the file of contexts %s: %w", c.path, cause(err))
	}
	tmp, err := os.CreateTemp(filepath.Dir(c.path), ".vda-contexts-*") // mode 0600
	if err != nil {
		return fmt.Errorf("the file of contexts %s: %w", c.path, cause(err))
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("the file of contexts %s: %w", c.path, cause(err))
	}
	if err := os.Rename(tmp.Name(), c.path); err != nil {
		return fmt.Errorf("the file of contexts %s: %w", c.path, cause(err))
	}
	return nil
}

// names are those of all contexts.
func (c *contexts) names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

// get is a context by its name; the error names those that there are.
func (c *contexts) get(name string) (*cluster, error) {
	if one := c.Contexts[name]; one != nil {
		return one, nil
	}
	if len(c.Contexts) == 0 {
		return nil, fmt.Errorf("there is no context %q: %s has none; context set makes one", name, cmp.Or(c.path, "the user's folder"))
	}
	return nil, fmt.Errorf("there is no context %q; %s has %s", name, c.path, strings.Join(c.names(), ", "))
}

// useContext gives flags that no stronger source sets the values of the context that is chosen.
func (s *session) useContext(cmd *cobra.Command) error {
	all, err := s.contexts(cmd.Context())
	if err != nil {
		return err
	}
	name := cmp.Or(s.context, all.Current)
	if name == "" {
		return nil
	}
	one, err := all.get(name)
	if err != nil {
		return fmt.Errorf("--context: %w", err)
	}
	place := fmt.Sprintf("context %s of %s", name, all.path)
	for flag, value := range one.flags() {
		if value == "" {
			continue
		}
		if err := program.Given(cmd.Flags().Lookup(flag), value, place, all.path); err != nil {
			return err
		}
	}
	return nil
}

// contextCommands keep the file.
var contextCommands = []local{
	{noun: "context", verb: "list", short: "List the clusters that this user has named", run: listContexts,
		long: "\nThe one in use is marked with *.", example: "  vda_cli context list"},
	{noun: "context", verb: "set", args: "NAME", short: "Name a cluster, or change how a named one is reached", take: oneContext,
		run: setContext, complete: (*session).contextNames,
		long: "\nWhat is not given stays as it is. The first context becomes the one in use. Flags and\nthe environment are stronger than a " +
			"context.",
		example: "  vda_cli context set prod --portals 192.168.0.11:9520,192.168.0.12:9520 --user-token /home/ann/prod.token\n" +
			"  vda_cli context set lab --portals 127.0.0.1:9520 --use",
		flags: func(fs *pflag.FlagSet, o *options) {
			fs.StringVar(&o.portals, "portals", "", "`HOST:PORT,...` of the cluster's portals, tried in this order; unchanged when not given")
			fs.StringVar(&o.token, "user-token", "", "`FILE` with the user's token, for --token-file; unchanged when not given")
			fs.StringVar(&o.ca, "ca", "", "`FILE` with the cluster's CA, for --ca-file; unchanged when not given")
			fs.BoolVar(&o.use, "use", false, "use it from now on; the one in use stays when not given")
		}},
	{noun: "context", verb: "use", args: "NAME", short: "Choose the cluster that commands are about from now on", take: oneContext,
		run: useThisContext, complete: (*session).contextNames,
		long: "\n--context NAME chooses one for a single command.", example: "  vda_cli context use prod"},
	{noun: "context", verb: "delete", args: "NAME", short: "Forget how a cluster is reached", take: oneContext, run: deleteContext,
		complete: (*session).contextNames, long: "\nNothing of the cluster is deleted.", example: "  vda_cli context delete lab"},
}

var contextName = regexp.MustCompile(`^[\w.-]{1,63}$`)

// oneContext is the cobra.Command.Args of a command that takes the name of a context.
func oneContext(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes one name of a context, and every other value belongs to a flag", cmd.CommandPath())
	}
	if !contextName.MatchString(args[0]) {
		return fmt.Errorf("the name of the context is %q; it must be letters, digits, '.', '-' and '_', at most 63", vda.Shorten(args[0], 70))
	}
	return nil
}

// contextNames are those for a shell to complete.
func (s *session) contextNames(cmd *cobra.Command, begun string) []string {
	all, err := s.contexts(cmd.Context())
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all.names(), func(name string) bool { return !strings.HasPrefix(name, begun) })
}

func listContexts(s *session, cmd *cobra.Command, _ []string, _ *options) error {
	all, err := s.contexts(cmd.Context())
	if err != nil {
		return err
	}
	current := cmp.Or(s.context, all.Current)
	asked := program.OriginOf(cmd.Flags().Lookup("output")).Source != program.FromDefault
	switch {
	case s.output.format == "name":
		for _, name := range all.names() {
			fmt.Fprintln(s.stdout, name)
		}
		return nil
	case s.output.format == "jsonpath":
		return errors.New("--output jsonpath is for replies of the portal; context list prints json, yaml, table or name")
	case asked && !s.output.forPeople():
		reply := struct {
			Current  string              `json:"current"`
			Contexts map[string]*cluster `json:"contexts"`
		}{current, all.Contexts}
		b, err := json.MarshalIndent(reply, "", indent)
		if err == nil && s.output.format == "yaml" {
			b, err = toYAML(b)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(s.stdout, strings.TrimSpace(string(b)))
		return nil
	case len(all.Contexts) == 0:
		fmt.Fprintf(s.stdout, "No context. %s context set makes one.\n", cmd.Root().Name())
		return nil
	}
	t := tabwriter.NewWriter(s.stdout, 0, 8, 2, ' ', 0)
	if !s.noHeaders {
		fmt.Fprintln(t, "USE\tNAME\tPORTALS\tTOKEN-FILE\tCA-FILE")
	}
	for _, name := range all.names() {
		c := all.Contexts[name]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", either(name == current, "*", ""), name, cmp.Or(strings.Join(c.Portals, ","), "-"),
			cmp.Or(c.TokenFile, "-"), cmp.Or(c.CAFile, "-"))
	}
	return t.Flush()
}

func setContext(s *session, cmd *cobra.Command, args []string, o *options) error {
	all, _, err := s.readContexts(cmd.Context()) // the first one makes the file
	if err != nil {
		return err
	}
	one := all.Contexts[args[0]]
	if one == nil {
		one = &cluster{}
	}
	if o.portals != "" {
		one.Portals = strings.Split(o.portals, ",")
		probe := session{portals: o.portals, timeout: time.Second}
		c, err := probe.client(time.Second) // it connects when it is used
		if err != nil {
			return fmt.Errorf("--portals %q: it must be HOST:PORT, like 192.168.0.11:9520, or several with commas between them", o.portals)
		}
		_ = c.Close()
	}
	for flag, f := range map[string]struct{ to, path *string }{"user-token": {&one.TokenFile, &o.token}, "ca": {&one.CAFile, &o.ca}} {
		if *f.path == "" {
			continue
		}
		if *f.to, err = filepath.Abs(*f.path); err != nil {
			return fmt.Errorf("--%s %s: %w", flag, *f.path, cause(err))
		}
	}
	if len(one.Portals) == 0 {
		return fmt.Errorf("--portals is missing: context %s has none yet", args[0])
	}
	all.Contexts[args[0]] = one
	if o.use || all.Current == "" {
		all.Current = args[0]
	}
	return all.save()
}

func useThisContext(s *session, cmd *cobra.Command, args []string, _ *options) error {
	all, err := s.contexts(cmd.Context())
	if err != nil {
		return err
	}
	if _, err := all.get(args[0]); err != nil {
		return err
	}
	all.Current = args[0]
	return all.save()
}

func deleteContext(s *session, cmd *cobra.Command, args []string, _ *options) error {
	all, err := s.contexts(cmd.Context())
	if err != nil {
		return err
	}
	if _, err := all.get(args[0]); err != nil {
		return err
	}
	delete(all.Contexts, args[0])
	if all.Current == args[0] {
		all.Current = ""
	}
	return all.save()
}
