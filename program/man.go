package program

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manual is a hidden command that prints the program's man page, which packages have.
func manual() *cobra.Command {
	return &cobra.Command{
		Use:         "man-page",
		Short:       "Print the man page as roff",
		Hidden:      true,
		Annotations: map[string]string{bare: "true"},
		Args:        NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), manPage(c.Root()))
			return err
		},
	}
}

// ManSection is the section of a program's man page: 1 of what users run, 8 of what
// administrators and systemd do.
func ManSection(program string) int {
	if program == "vda_cli" || program == "vda_rpc" {
		return 1
	}
	return 8
}

// manPage is a program's page for man (man(7)): what its help says, of all its commands.
func manPage(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %d \"\" \"VDA\" \"Virtual disk arrays\"\n", strings.ToUpper(root.Name()), ManSection(root.Name()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", roff(root.Name()), roff(root.Short))
	if root.Annotations[Group] == "" {
		fmt.Fprintf(&b, ".nf\n%s\n", roff(root.UseLine()))
	} else {
		fmt.Fprintf(&b, ".nf\n%s COMMAND [flags]\n", roff(root.Name()))
	}
	fmt.Fprintf(&b, ".fi\n.SH DESCRIPTION\n%s", literal(root.Long))
	manFlags(&b, ".SH OPTIONS\n", root.LocalFlags())
	manExamples(&b, ".SH EXAMPLES\n", root)
	heading := ".SH COMMANDS\n"
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() {
				continue
			}
			if sub.Runnable() && sub.Annotations[Group] == "" {
				b.WriteString(heading)
				heading = ""
				fmt.Fprintf(&b, ".SS %s\n%s", roff(strings.TrimSuffix(sub.UseLine(), " [flags]")), literal(strings.TrimSpace(orShort(sub))))
				manFlags(&b, "", sub.LocalNonPersistentFlags())
				manExamples(&b, ".PP\nExamples:\n", sub)
			}
			walk(sub)
		}
	}
	walk(root)
	b.WriteString(".SH ENVIRONMENT\nA flag that is not given is taken from the environment, " +
		"where the variable of \\-\\-db\\-uri is VDA_DB_URI, then\nfrom the file of \\-\\-config.\n")
	return b.String()
}

func orShort(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short
}

func manFlags(b *strings.Builder, heading string, fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		b.WriteString(heading)
		heading = ""
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && !saidDefault.MatchString(usage) {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", roff(strings.TrimSpace(name+" "+value)), roff(usage))
	})
}

func manExamples(b *strings.Builder, heading string, c *cobra.Command) {
	if c.Example != "" {
		b.WriteString(heading + literal(c.Example))
	}
}

// literal is text whose lines stay as they are.
func literal(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = roff(l)
	}
	return ".nf\n" + strings.Join(lines, "\n") + "\n.fi\n"
}

// roffCommand is what roff takes for one of its own at the beginning of a line.
var roffCommand = regexp.MustCompile(`(?m)^([.'])`)

// roff is text that roff shows as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	return roffCommand.ReplaceAllString(text, `\&$1`)
}
