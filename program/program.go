package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/reason"
)

// Program is a program of VDA. It can run once.
type Program struct {
	// Root is its command; its name is the program's.
	Root *cobra.Command
	// Serves is that of a daemon: it runs until it is asked to stop. Asked while it still
	// starts it has done what it should, and what the stop cut short is not a failure.
	Serves bool
	// Fail says why the program fails and returns the exit status. By default
	// that is one line on standard error and 1.
	Fail func(p Process, err error) int
}

// Process is what a program has of its process.
type Process struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv is os.LookupEnv, or a test's. Nil: no variable is set.
	Getenv func(name string) (string, bool)
}

// Main runs p as this process and ends it.
func Main(p Program) {
	ctx, stop := daemon.Context()
	noCore()
	status := p.Run(ctx, own(p.Root))
	stop()
	os.Exit(status)
}

// Run runs p until it ends by itself or ctx does, and returns its exit status.
func (p Program) Run(ctx context.Context, proc Process) int {
	if proc.Getenv == nil {
		proc.Getenv = func(string) (string, bool) { return "", false }
	}
	if proc.Stdin == nil {
		proc.Stdin = eof{}
	}
	dress(p.Root, proc.Getenv)
	ctx = context.WithValue(ctx, getenvKey{}, proc.Getenv)
	args := proc.Args
	if args == nil {
		args = []string{} // cobra takes nil for those of the process
	}
	p.Root.SetArgs(args)
	p.Root.SetIn(proc.Stdin)
	p.Root.SetOut(proc.Stdout)
	p.Root.SetErr(proc.Stderr)
	cmd, err := p.Root, swallowed(p.Root, args)
	if err == nil {
		cmd, err = p.Root.ExecuteContextC(ctx)
	}
	if err == nil || p.Serves && ctx.Err() != nil && cutShort(err) {
		return 0
	}
	err = whence(cmd, err)
	if p.Fail != nil {
		return p.Fail(proc, err)
	}
	fmt.Fprintf(proc.Stderr, "%s: %s\n", p.Root.Name(), reason.Full(err))
	return 1
}

// cutShort reports whether err is only that a call was given up: of errors that were
// joined each must be.
func cutShort(err error) bool {
	if joined, is := err.(interface{ Unwrap() []error }); is {
		return !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return !cutShort(e) })
	}
	return errors.Is(err, context.Canceled)
}

// eof is an empty input.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// dress gives a program what all of them have.
func dress(root *cobra.Command, getenv func(string) (string, bool)) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.DisableSuggestions = true // ours look the same everywhere
	if root.Args == nil {
		root.Args = NoArgs
	}
	root.Version = Version()
	root.SetVersionTemplate("{{.DisplayName}} {{.Version}}\n")
	root.SetUsageTemplate(usage)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(completion(root.Name()), reference(), manual())
	own := root.PersistentFlags()
	own.String("config", "", "YAML `FILE` with values of flags, one per line, as name: value (default none)")
	root.Flags().Bool("version", false, "print the version, the commit and the version of Go, and end")
	if root.Flags().Lookup("log-level") != nil {
		Choices(root, "log-level", "debug", "info", "warn", "error")
	}
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Annotations[bare] != "" || slices.Contains(ofCobra, cmd.Name()) {
			return nil
		}
		if err := fill(cmd, getenv); err != nil {
			return err
		}
		return required(cmd)
	}
	if arguments := root.ValidArgsFunction; arguments != nil {
		root.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			_ = fill(cmd, getenv) // a shell that completes has no place for what is wrong with a value
			return arguments(cmd, args, begun)
		}
	}
	help(root)
}

// Group is the annotation of a command that does nothing by itself: it needs
// one of those below it.
const Group = "vda_group"

// Choices has shells complete the value of a flag to one of a few.
func Choices(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag, or it has choices: a fault of the program
	}
}

// getenvKey is the key of a context for the environment that completions read.
type getenvKey struct{}

// Getenv is the environment of the program whose command runs with ctx; "" for a variable that is
// not set.
func Getenv(ctx context.Context, name string) string {
	if getenv, is := ctx.Value(getenvKey{}).(func(string) (string, bool)); is {
		v, _ := getenv(name)
		return v
	}
	return ""
}

// settle gives the flags of a command that is being completed their values from the
// environment and the file. What is wrong with one has no place in a shell that completes.
func settle(cmd *cobra.Command) {
	if getenv, is := cmd.Context().Value(getenvKey{}).(func(string) (string, bool)); is {
		_ = fill(cmd, getenv)
	}
}

// Values has shells complete the value of a flag to what values returns of it; begun is
// what is typed already. The other flags have their values.
func Values(cmd *cobra.Command, flag string, values func(cmd *cobra.Command, begun string) []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		settle(cmd)
		return values(cmd, begun), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // as in Choices
	}
}

// Arguments has shells complete what stands without a flag, likewise.
func Arguments(cmd *cobra.Command, values func(cmd *cobra.Command, args []string, begun string) []string) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		settle(cmd)
		return values(cmd, args, begun), cobra.ShellCompDirectiveNoFileComp
	}
}

// bare is the annotation of a command that takes no flag from the environment
// or a file.
const bare = "vda_bare"

// ofCobra are the commands that cobra adds by itself, which are bare too.
var ofCobra = []string{"help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}

// help defines --help, for all commands in the same words.
func help(cmd *cobra.Command) {
	cmd.Flags().BoolP("help", "h", false, "print this and end")
	for _, c := range cmd.Commands() {
		help(c)
	}
}

// NoArgs is the cobra.Command.Args of a command that takes flags only.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if name := NearestCommand(cmd, args[0]); name != "" {
		hint = fmt.Sprintf("; did you mean the command %q?", name)
	}
	return fmt.Errorf("unexpected argument %q: every value belongs to a flag%s", args[0], hint)
}

const usage = `Usage:
{{- if not (index .Annotations "vda_group")}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND [flags]{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 110 | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsagesWrapped 110 | trimTrailingWhitespaces}}{{end}}

A flag that is not given is taken from the environment (VDA_ and its name in
capitals, with _ for -), then from the file of --config.{{if .HasAvailableSubCommands}} {{.CommandPath}} COMMAND --help says more.{{end}}
`
