package cli

import (
	"strings"

	"github.com/spf13/cobra"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
)

// asks reports that a command deletes something, and so asks somebody at a terminal
// first.
func (c *command) asks() bool { return c.verb == "delete" }

// askable gives a command that asks a flag that answers.
func (s *session) askable(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.yes, "yes", false, "delete without asking; somebody at a terminal is asked when not given, a script never")
	program.Typed(cmd.Flags(), "yes")
}

// ask has the user say yes to a deletion, where somebody types the command at a
// terminal. The error says that nothing was deleted.
func (s *session) ask(cmd *cobra.Command, c *command) error {
	var what []string
	for _, f := range c.flags {
		if v := cmd.Flags().Lookup(f.name); v.Changed && f.required {
			what = append(what, v.Value.String())
		}
	}
	if s.yes || program.Confirm(cmd, c.short+": "+strings.Join(what, " "), s.typed) {
		return nil
	}
	return &failure{info: &apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeCancelled), ReplyMsg: "nothing was deleted: the answer was not yes; " +
		"--yes deletes without asking"}, exit: exitUsage}
}
