package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/program"
)

// local is a leaf that is not one method of the portal.
type local struct {
	noun, verb string
	args       string // what stands behind the verb, for the help
	short      string
	long       string
	example    string
	flags      func(*pflag.FlagSet, *options)
	take       cobra.PositionalArgs // nil: no argument
	complete   func(s *session, cmd *cobra.Command, begun string) []string
	run        func(s *session, cmd *cobra.Command, args []string, o *options) error
}

// options are the values of flags that local commands have.
type options struct {
	portals, token, ca string // of a context
	use                bool
	file               string // of a bundle
	user, password     string // who logs in, and the file with the password
	oidc               bool   // at the issuer
	device             bool   // with a browser elsewhere
	callbackPort       int    // that gets its answer
}

// path is what a user types.
func (l *local) path() string { return strings.TrimSpace(l.noun + " " + l.verb) }

// locals are those commands.
func locals() []local {
	return slices.Concat(contextCommands, supportCommands, loginCommands, interactiveCommands())
}

// local builds one leaf of the tree.
func (s *session) local(l *local) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:     strings.TrimSpace(l.verb + " " + l.args),
		Short:   l.short,
		Long:    l.short + ".\n" + l.long,
		Example: l.example,
		Args:    l.take,
		Aliases: aliases[l.verb],
		RunE: func(cmd *cobra.Command, args []string) error {
			s.stdout, s.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if s.curl {
				return fmt.Errorf("--curl: %s is not one call of the portal", l.path())
			}
			return l.run(s, cmd, args, o)
		},
	}
	if l.take == nil {
		cmd.Args = program.NoArgs
	}
	if l.flags != nil {
		l.flags(cmd.Flags(), o)
	}
	if l.complete != nil {
		program.Arguments(cmd, func(cmd *cobra.Command, args []string, begun string) []string {
			if len(args) > 0 {
				return nil
			}
			return l.complete(s, cmd, begun)
		})
	}
	return cmd
}
