package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/rpc"
)

// Config is what a run of vda_cli needs from its process.
type Config struct {
	Args   []string            // the command line without the program's name
	Stdout io.Writer           // the reply
	Stderr io.Writer           // one line a warning or error
	Getenv func(string) string // os.Getenv, or a test's
}

// Defaults of the flags that every command has.
const (
	defaultPortal  = "127.0.0.1:9520"
	defaultTimeout = 60 * time.Second
	portalEnv      = "VDA_PORTAL"
)

// session is one run.
type session struct {
	cfg     Config
	portal  string
	timeout time.Duration
	output  string
}

// Main runs one command and returns the exit status.
func Main(ctx context.Context, cfg Config) int {
	s := &session{cfg: cfg}
	root := s.root()
	root.SetArgs(cfg.Args)
	root.SetOut(cfg.Stdout)
	root.SetErr(cfg.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var f *failure
	if !errors.As(err, &f) {
		f = usageFailure(err)
	}
	s.print(f)
	return f.exit
}

// root builds the command tree.
func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "vda_cli",
		Short: "Client of the VDA portal",
		Long: `vda_cli asks a VDA portal to create, show, change and delete disk nodes (dn),
their physical disks (pd), controller nodes (cn), disk arrays (da) and their
exporters (exp).

The reply is printed as JSON on standard output. When a command fails, reply_info
has the code and the message, standard error has the message on one line, and the
exit status is 1 (refused), 2 (wrong command line) or 3 (portal not reached).`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          s.group,

		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	portal := s.cfg.Getenv(portalEnv)
	if portal == "" {
		portal = defaultPortal
	}
	root.PersistentFlags().StringVar(&s.portal, "addr-port", portal, "`HOST:PORT` of the portal (environment "+portalEnv+")")
	root.PersistentFlags().DurationVar(&s.timeout, "timeout", defaultTimeout, "how long to wait for the reply")
	root.PersistentFlags().VarP(newChoice(&s.output, "json", "json", "yaml", "table"), "output", "o", "`FORMAT` of the reply: json, yaml or table")
	groups := map[string]*cobra.Command{}
	for _, n := range nouns {
		groups[n.name] = &cobra.Command{Use: n.name, Short: n.short, Args: cobra.ArbitraryArgs, RunE: s.group,
			// The word that is no command is the mistake, not its flags.
			FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}}
		root.AddCommand(groups[n.name])
	}
	for i := range commands {
		groups[commands[i].noun].AddCommand(s.command(&commands[i]))
	}
	return root
}

// group is what a command without an action of its own does: it needs one more
// word.
func (s *session) group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if f := s.unknownFlag(cmd); f != "" {
			return fmt.Errorf("unknown flag: %s; see %s --help", f, cmd.CommandPath())
		}
		if err := cmd.Help(); err != nil {
			return err
		}
		return fmt.Errorf("a command is missing; see %s --help", cmd.CommandPath())
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(", did you mean %q", near[0])
	}
	return fmt.Errorf("%s has no command %q%s; see %s --help", cmd.CommandPath(), args[0], hint, cmd.CommandPath())
}

// unknownFlag is the first flag on the command line that cmd does not have.
func (s *session) unknownFlag(cmd *cobra.Command) string {
	for _, arg := range s.cfg.Args {
		name, _, _ := strings.Cut(arg, "=")
		switch long, isLong := strings.CutPrefix(name, "--"); {
		case isLong && long != "" && cmd.Flags().Lookup(long) == nil,
			!isLong && len(name) > 1 && name[0] == '-' && cmd.Flags().ShorthandLookup(name[1:2]) == nil:
			return name
		}
	}
	return ""
}

// command builds one leaf of the tree.
func (s *session) command(c *command) *cobra.Command {
	method := apiv1.File_v1_portal_proto.Services().ByName("Portal").Methods().ByName(protoreflect.Name(c.method))
	req := newMessage(method.Input())
	cmd := &cobra.Command{
		Use:     c.verb,
		Short:   c.short,
		Long:    c.short + ".\n" + c.long,
		Example: c.example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected %q: every value belongs to a flag", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.call(cmd.Context(), method, req)
		},
	}
	for _, f := range c.flags {
		f.add(cmd.Flags(), req)
		if f.required {
			if err := cmd.MarkFlagRequired(f.name); err != nil {
				panic(err)
			}
		}
	}
	return cmd
}

// newMessage makes an empty message of a type of the API.
func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err)
	}
	return t.New().Interface()
}

// call sends a request and prints the reply.
func (s *session) call(ctx context.Context, method protoreflect.MethodDescriptor, req proto.Message) error {
	if s.timeout <= 0 {
		return fmt.Errorf("invalid argument %q for \"--timeout\" flag: it must be positive, like 30s", s.timeout)
	}
	if err := checkPortal(s.portal); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := rpc.Dial(s.portal, rpc.DialConfig{Ping: -1, ConnectTimeout: 2 * s.timeout}) // --timeout bounds both
	if err != nil {
		return fmt.Errorf("invalid argument %q for \"--addr-port\" flag: %w", s.portal, err)
	}
	defer conn.Close()
	reply := newMessage(method.Output())
	name := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if err := invoke(ctx, func() error { return conn.Invoke(ctx, name, req, reply) }, readOnly(string(method.Name()))); err != nil {
		return s.callFailure(err)
	}
	s.warn(reply)
	return s.show(reply)
}
