package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
)

// own are the flags that say which object a noun's commands are about. What stands on a
// command line without a flag is the value of the last, with those of the others before
// it and slashes between them, as -o name prints it: da0, 192.168.0.14:9720/pd0.
var own = map[string][]string{
	"dn": {"dn-name"}, "cn": {"cn-name"}, "da": {"da-name"}, "vd": {"vd-id"}, "orphan": {"orphan-id"}, "user": {"user-name"},
	"session": {"session-id"},
	"pd":      {"dn-name", "pd-name"}, "exp": {"da-name", "exp-name"}, "snap": {"da-name", "snap-name"},
}

// aliases are other words for verbs, which people type who know other programs.
var aliases = map[string][]string{"list": {"ls"}, "delete": {"rm"}, "get": {"show"}}

// named are the flags that a name without a flag gives to a command; none when it takes
// no name.
func (c *command) named() []string {
	flags := own[c.noun]
	if c.noun == "syncup" {
		flags = own[c.verb]
	}
	if c.noun == "pd" && c.verb == "discover" {
		flags = own["dn"]
	}
	for _, name := range flags {
		if c.flag(name) == nil || !c.flag(name).required {
			return nil
		}
	}
	return flags
}

// flag is the flag of a name, nil when the command has no such one.
func (c *command) flag(name string) *flag {
	for i := range c.flags {
		if c.flags[i].name == name {
			return &c.flags[i]
		}
	}
	return nil
}

// nameForm is how a name is written: "DA-NAME/EXP-NAME".
func nameForm(flags []string) string { return strings.ToUpper(strings.Join(flags, "/")) }

// use is how help shows the command.
func (c *command) use() string {
	if flags := c.named(); flags != nil {
		return c.verb + " [" + nameForm(flags) + "] [flags]"
	}
	return c.verb
}

// takeName is the cobra.Command.Args of a command: a name sets the flags that it stands
// for, none of which may be given too.
func (c *command) takeName(cmd *cobra.Command, args []string) error {
	flags := c.named()
	if len(args) == 0 || flags == nil {
		return program.NoArgs(cmd, args)
	}
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q: %s takes one name, and every other value belongs to a flag", args[1], cmd.CommandPath())
	}
	last := len(flags) - 1
	values := []string{args[0]}
	if last > 0 {
		if i := strings.LastIndexByte(args[0], '/'); i >= 0 {
			values = []string{args[0][:i], args[0][i+1:]}
		} else {
			flags, last = flags[last:], 0 // the others may be given with flags
		}
	}
	for i, name := range flags {
		f := cmd.Flags().Lookup(name)
		if f.Changed {
			return fmt.Errorf("%q and --%s %q: give the name once, as %s or with flags", args[0], name, f.Value, nameForm(c.named()))
		}
		if values[i] == "" {
			return fmt.Errorf("%q: the name must be like %s, and no part of it may be empty", args[0], nameForm(c.named()))
		}
		if err := cmd.Flags().Set(name, values[i]); err != nil {
			return err
		}
	}
	return nil
}
