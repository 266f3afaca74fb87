package program

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Confirm has somebody say yes to what cannot be undone, where it is typed at a terminal, and
// reports that it may be done. A script is never asked: not where standard input or standard
// error is not a terminal, nor where typed says that nobody types the command.
func Confirm(cmd *cobra.Command, question string, typed func() bool) bool {
	if !Terminal(cmd.InOrStdin()) || !Terminal(cmd.ErrOrStderr()) || !typed() {
		return true
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", question)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// Terminal reports that a stream of the process is a terminal.
func Terminal(stream any) bool {
	f, is := stream.(*os.File)
	if !is {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// TypedByHand reports that a shell has given the process a process group of its own,
// as shells do with what somebody types, and scripts do not.
func TypedByHand() bool { return unix.Getpgrp() == os.Getpid() }
