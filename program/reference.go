package program

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// reference is a hidden command that prints the flags of the program as
// Markdown, one table per command that has some; docs/ has these tables.
func reference() *cobra.Command {
	return &cobra.Command{
		Use:         "flags-reference",
		Short:       "Print the flags as Markdown",
		Hidden:      true,
		Annotations: map[string]string{bare: "true"},
		Args:        NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return tables(c.OutOrStdout(), c.Root())
		},
	}
}

// tables writes the flags that c and the commands below it define.
func tables(w io.Writer, c *cobra.Command) error {
	if c.Annotations[bare] != "" {
		return nil
	}
	var b strings.Builder
	c.LocalFlags().VisitAll(func(f *pflag.Flag) { row(&b, f) })
	if b.Len() > 0 {
		const table = "<!-- flags of %s, generated: do not edit -->\n\n| flag | default | meaning |\n|---|---|---|\n%s\n<!-- end -->\n"
		if _, err := fmt.Fprintf(w, table, c.CommandPath(), b.String()); err != nil {
			return err
		}
	}
	for _, sub := range c.Commands() {
		if err := tables(w, sub); err != nil {
			return err
		}
	}
	return nil
}

// everywhere are the flags that all programs have; docs/daemons/README.md has
// them once.
var everywhere = map[string]bool{"help": true, "version": true, "config": true}

// saidDefault is a default that the usage has in words.
var saidDefault = regexp.MustCompile(` \(default ([^)]*)\)$`)

func row(b *strings.Builder, f *pflag.Flag) {
	if f.Hidden || everywhere[f.Name] {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	if value != "" {
		name += " " + value
	}
	def := f.DefValue
	switch {
	case def == "false" && f.Value.Type() == "bool", def == "[]":
		def = ""
	case f.Value.Type() == "duration" && strings.HasSuffix(def, "m0s"):
		def = strings.TrimSuffix(def, "0s")
	}
	if said := saidDefault.FindStringSubmatch(usage); said != nil {
		def, usage = said[1], strings.TrimSuffix(usage, said[0])
	}
	fmt.Fprintf(b, "| %s | %s | %s |\n", name, cell(def), cell(usage))
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
