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
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/program"
)

// Defaults of the flags that every command has.
const (
	defaultPortal  = "127.0.0.1:9520"
	defaultTimeout = 60 * time.Second
	// outputVersion is that of names and forms in JSON and YAML.
	outputVersion = 1
	// portalEnv is the older name of VDA_ADDR_PORT.
	portalEnv = "VDA_PORTAL"
)

// session is one run.
type session struct {
	portals string // addresses with commas between them
	token   string // file with the user's token; "": the cluster is plain
	ca      string // file with the cluster's CA, "" for none
	context string // that is chosen for this command
	timeout time.Duration
	output  output

	contextFile string // "" for the user's
	wait        waitTime
	columns     string // names, with commas between them; "" for the usual ones
	noHeaders   bool
	version     uint      // of the reply's names and forms
	stdout      io.Writer // the reply
	stderr      io.Writer // one line per warning or error

	none  string      // what people are told of an empty list
	human bool        // the reply is printed for people: no format was asked for
	as    string      // one of a command's forms
	yes   bool        // nobody is asked before something is deleted
	all   bool        // all pages of a list are asked for
	once  bool        // one picture of what changes all the time
	typed func() bool // somebody types the command; it is not a script's
	// screen reports that what is written somewhere is seen at a terminal.
	screen func(io.Writer) bool

	curl        bool // the call over REST is printed instead of made
	warnIsError bool
	warned      bool // the reply has a warning or note
}

// Program is vda_cli.
func Program() program.Program {
	s := &session{typed: program.TypedByHand, screen: func(w io.Writer) bool { return program.Terminal(w) }}
	return program.Program{Root: s.root(), Fail: s.fail}
}

// fail prints what went wrong and returns the exit status.
func (s *session) fail(p program.Process, err error) int {
	s.stdout, s.stderr = p.Stdout, p.Stderr
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
		Args:        noCommand,
		RunE:        incomplete,
		Annotations: map[string]string{program.Group: "true"},
	}
	fs := root.PersistentFlags()
	fs.SortFlags = false
	fs.StringVar(&s.portals, "addr-port", defaultPortal, "`HOST:PORT` of the portal; several with commas between them are tried in turn "+
		"(environment VDA_ADDR_PORT or "+portalEnv+")")
	program.AlsoEnv(fs, "addr-port", portalEnv)
	fs.DurationVar(&s.timeout, "timeout", defaultTimeout, "how long to wait for the reply")
	s.output = output{format: "json", text: "json"}
	fs.VarP(&s.output, "output", "o", "`FORMAT` of the reply: json, yaml, table, wide (a table with more columns), name (of each "+
		"object, one per line) or jsonpath={PATH}")
	program.Choices(root, "output", formats...)
	fs.UintVar(&s.version, "output-version", outputVersion, "`VERSION` of the names and forms in JSON and YAML that a script knows: 1 is the "+
		"only one there is, and stays when another one comes")
	fs.StringVar(&s.columns, "columns", "", "`NAMES` of the columns that a table of a list has, with commas between them (default those "+
		"that suit most)")
	fs.BoolVar(&s.noHeaders, "no-headers", false, "print tables without a first line of names; with it when not given")
	fs.StringVar(&s.token, "token-file", "", "`FILE` with the user's token, for a secured cluster (mode 0600; see login, and vda_db user)")
	fs.StringVar(&s.ca, "ca-file", "", "`FILE` with the CA of the secured cluster: a token for another one is refused (default the token's)")
	fs.StringVar(&s.context, "context", "", "`NAME` of the cluster, as context list shows it; its portals, token and CA count where no flag "+
		"or environment gives them (default the one in use)")
	program.Values(root, "context", s.contextNames)
	fs.StringVar(&s.contextFile, "context-file", "", "`FILE` of the contexts (default $XDG_CONFIG_HOME/vda/config.yaml, or "+
		"~/.config/vda/config.yaml)")
	fs.BoolVar(&s.curl, "curl", false, "print the command for a shell that does the same over REST, and do nothing; its TOKEN is the one of "+
		"docs/rest.md, where no --token-file is given; the call is made when not given")
	fs.BoolVar(&s.warnIsError, "warn-as-error", false, "exit with 1 when the reply has a warning or a note, which are printed all the same; "+
		"with 0 when not given")
	groups := map[string]*cobra.Command{}
	for _, n := range nouns {
		groups[n.name] = &cobra.Command{Use: n.name, Short: n.short, Args: noCommand, RunE: incomplete,
			Annotations: map[string]string{program.Group: "true"}}
		root.AddCommand(groups[n.name])
	}
	groups["context"].Aliases = []string{"config"}
	groups[""] = root
	for i := range commands {
		groups[commands[i].noun].AddCommand(s.command(&commands[i]))
	}
	all := locals()
	for i := range all {
		groups[all[i].noun].AddCommand(s.local(&all[i]))
	}
	return root
}

// noCommand refuses a word where a command must stand.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := program.NearestCommand(cmd, args[0]); near != "" {
		hint = fmt.Sprintf(", did you mean %q?", near)
	}
	return fmt.Errorf("%s has no command %q%s; see %s --help", cmd.CommandPath(), args[0], hint, cmd.CommandPath())
}

// incomplete is what a command without an action of its own does: it needs one
// more word.
func incomplete(cmd *cobra.Command, _ []string) error {
	if err := cmd.Help(); err != nil {
		return err
	}
	return fmt.Errorf("a command is missing; see %s --help", cmd.CommandPath())
}

// command builds one leaf of the tree.
func (s *session) command(c *command) *cobra.Command {
	method := apiv1.File_v1_portal_proto.Services().ByName("Portal").Methods().ByName(protoreflect.Name(c.method))
	req := newMessage(method.Input())
	cmd := &cobra.Command{
		Use:     c.use(),
		Short:   c.short,
		Long:    c.short + ".\n" + c.long,
		Example: c.example,
		Args:    c.takeName,
		Aliases: aliases[c.verb],
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.stdout, s.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if err := s.useContext(cmd); err != nil {
				return err
			}
			if s.version != outputVersion {
				return fmt.Errorf("--output-version %d: there is %d alone; this vda_cli may be older than the script", s.version, outputVersion)
			}
			for i := range c.flags {
				if err := c.flags[i].fillConf(cmd.Flags(), req); err != nil {
					return err
				}
			}
			if err := s.checkColumns(method.Output()); err != nil {
				return err
			}
			for i := range c.flags {
				if s.curl && (c.flags[i].secretPath(cmd.Flags()) != "" || c.flags[i].syntax == secretFile && c.flags[i].required) {
					return fmt.Errorf("--curl: %s takes a secret, which is not printed", cmd.CommandPath())
				}
			}
			if err := c.onceStdin(cmd); err != nil {
				return err
			}
			for i := range c.flags {
				if err := c.flags[i].fillSecret(cmd, req); err != nil {
					return err
				}
			}
			if c.asks() && !s.curl {
				if err := s.ask(cmd, c); err != nil {
					return err
				}
			}
			if limit := cmd.Flags().Lookup("limit"); s.all && limit.Changed {
				return fmt.Errorf("--all and --limit %s exclude each other: give one of them", limit.Value)
			}
			c := c
			s.none = c.none
			if c.forms != nil {
				print, err := s.form(c)
				if err != nil {
					return err
				}
				shown := *c
				shown.text = print
				c = &shown
			}
			s.human = (c.text != nil || c.none != "" || method.IsStreamingServer()) &&
				program.OriginOf(cmd.Flags().Lookup("output")).Source == program.FromDefault
			return s.call(cmd.Context(), c, method, req)
		},
	}
	c.wait.add(cmd.Flags(), &s.wait)
	if c.pages() {
		cmd.Flags().BoolVar(&s.all, "all", false, "list as many as there are, in one reply; as many as --limit says when not given")
	}
	if c.goesOn {
		cmd.Flags().BoolVar(&s.once, "once", false, "show it once, as where the output is not a terminal or -o asks for json, yaml, name or "+
			"jsonpath; again and again when not given")
	}
	if c.forms != nil {
		s.addForms(cmd, c.forms)
	}
	if c.asks() {
		s.askable(cmd)
	}
	for _, f := range c.flags {
		f.add(cmd.Flags(), req)
		if p := partsOf(f.name); p != nil {
			p.add(cmd.Flags())
		} else if f.required {
			if err := cmd.MarkFlagRequired(f.name); err != nil {
				panic(err)
			}
		}
		if f.values != nil {
			program.Choices(cmd, f.name, f.values...)
		}
		if f.syntax == order {
			program.Typed(cmd.Flags(), f.name)
		}
	}
	if c.pages() {
		program.OneOf(cmd.Flags(), "all", "limit")
	}
	s.completable(cmd, c)
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

// client makes a client of the portals, with the user's token if there is one.
func (s *session) client(timeout time.Duration) (*client.Client, error) {
	cfg := client.Config{Portals: strings.Split(s.portals, ","), Timeout: timeout}
	if len(cfg.Portals) == 1 {
		cfg.Dial.Ping = -1 // there is no other to go to: --timeout is soon enough
	}
	if err := s.secure(&cfg); err != nil {
		return nil, err
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--addr-port %q: it must be HOST:PORT, like 192.168.0.11:9520, or several with commas between them", s.portals)
	}
	return c, nil
}

// call sends a request, waits for what it has begun when the user wants that, and
// prints the reply.
func (s *session) call(ctx context.Context, what *command, method protoreflect.MethodDescriptor, req proto.Message) error {
	if s.timeout <= 0 {
		return fmt.Errorf("--timeout %v: it must be above 0, like 30s", s.timeout)
	}
	c, err := s.client(s.timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if what.prepare != nil {
		what.prepare(req)
	}
	if s.curl {
		line, err := s.curlCommand(method, req)
		if err == nil {
			_, err = fmt.Fprintln(s.stdout, line)
		}
		return err
	}
	if w, is := req.(*apiv1.WatchEventRequest); is {
		return s.watch(ctx, c, w)
	}
	if top, is := req.(*apiv1.GetTopRequest); is && s.live() {
		return s.watchTop(ctx, c, top)
	}
	reply := newMessage(method.Output())
	name := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	ask := func(reply proto.Message) error { return c.Invoke(ctx, name, req, reply) }
	if s.all {
		ask = allPages(req, ask)
	}
	look, err := s.look(ctx, c, what.wait, req)
	if err != nil {
		return err
	}
	if err := ask(reply); err != nil {
		return callFailure(err)
	}
	s.warn(reply)
	s.more(req, reply)
	if err := s.await(ctx, c, look, req, reply); err != nil {
		return err
	}
	if what.text != nil && (s.human || s.output.forPeople()) {
		what.text(s.stdout, reply)
	} else if err := s.show(reply); err != nil {
		return err
	}
	if what.ill != nil {
		if f := what.ill(reply); f != nil {
			return f
		}
	}
	if s.warned && s.warnIsError {
		return &failure{exit: exitRefused, shown: true, info: &apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeSuccess),
			ReplyMsg: "the reply has a warning or a note, and --warn-as-error is given"}}
	}
	return nil
}
