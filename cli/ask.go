package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

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
	if s.yes || !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.ErrOrStderr()) || !s.typed() {
		return nil
	}
	var what []string
	for _, f := range c.flags {
		if v := cmd.Flags().Lookup(f.name); v.Changed && f.required {
			what = append(what, v.Value.String())
		}
	}
	fmt.Fprintf(s.stderr, "%s: %s? [y/N] ", c.short, strings.Join(what, " "))
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil {
		fmt.Fprintln(s.stderr)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{info: &apiv1.ReplyInfo{ReplyCode: int32(apiv1.CodeCancelled), ReplyMsg: "nothing was deleted: the answer was not yes; " +
		"--yes deletes without asking"}, exit: exitUsage}
}

// isTerminal reports that a stream of the process is a terminal.
func isTerminal(stream any) bool {
	f, is := stream.(*os.File)
	if !is {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// typedByHand reports that a shell has given the process a process group of its own,
// as shells do with what somebody types, and scripts do not.
func typedByHand() bool { return unix.Getpgrp() == os.Getpid() }
