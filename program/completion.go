package program

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

// completion is the command that prints a shell's completion of the program.
func completion(program string) *cobra.Command {
	plain := false
	c := &cobra.Command{
		Use:         "completion SHELL",
		Annotations: map[string]string{bare: "true"},
		Short:       "Print the completion of commands and flags for bash, zsh, fish or powershell",
		Long: `Prints a script that has the shell complete commands and flags. For bash, with the
package bash-completion:

  ` + program + ` completion bash > /etc/bash_completion.d/` + program + `

For zsh, into a folder of $fpath:

  ` + program + ` completion zsh > "${fpath[1]}/_` + program + `"

For fish:

  ` + program + ` completion fish > ~/.config/fish/completions/` + program + `.fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return fmt.Errorf("name the shell: %s", strings.Join(shells, ", "))
			case len(args) > 1:
				return fmt.Errorf("unexpected argument %q: completion takes one shell", args[1])
			case !slices.Contains(shells, args[0]):
				return fmt.Errorf("there is no completion for %q; the shell must be one of %s", args[0], strings.Join(shells, ", "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, !plain)
			case "zsh":
				if plain {
					return root.GenZshCompletionNoDesc(out)
				}
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, !plain)
			}
			if plain {
				return root.GenPowerShellCompletion(out)
			}
			return root.GenPowerShellCompletionWithDesc(out)
		},
	}
	c.Flags().BoolVar(&plain, "no-descriptions", false, "complete names alone, without a sentence on each")
	return c
}
