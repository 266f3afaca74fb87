package rpccli

import (
	"fmt"
	"strings"

	"github.com/virtual-disk-array/vda/docs"
)

// asksHelp reports that the parameters ask what a method is. No method has a parameter of that
// name.
func asksHelp(args []string) bool { return len(args) == 1 && (args[0] == "--help" || args[0] == "-h") }

// helpOf is what vda_tgt's reference says of a method, as text for a terminal.
func helpOf(method string) (string, error) {
	switch method {
	case "save_config":
		return "save_config\n\nPrints the calls that configure the data plane as it is now, as JSON.\n", nil
	case "load_config":
		return "load_config FILE\n\nMakes the calls of a file that save_config printed; - is standard input.\n", nil
	}
	_, text, found := strings.Cut("\n"+docs.JSONRPC, "\n## "+method+"\n")
	if !found {
		return "", usagef("there is no help on %q: vda_tgt has no such method; SPDK's rpc.py %s --help tells of those of spdk_tgt alone",
			method, method)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var b strings.Builder
	fmt.Fprintln(&b, method)
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			b.WriteString(strings.ReplaceAll(line, "`", ""))
		case strings.HasPrefix(line, "|---") || len(cells) < 3:
		case strings.HasPrefix(line, "| parameter "):
			b.WriteString("Parameters:\n")
		case strings.HasPrefix(line, "| result "):
			b.WriteString("Result:\n")
		default:
			name := strings.Trim(strings.TrimSpace(cells[0]), "`")
			fmt.Fprintf(&b, "  %-28s %-8s %s\n", name, strings.TrimSpace(cells[1]), strings.TrimSpace(strings.Join(cells[2:], "|")))
		}
	}
	return b.String(), nil
}
