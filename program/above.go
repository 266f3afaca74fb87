package program

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// AboveZero is an error when one of the flags, which are numbers or durations, is
// 0 or less: a daemon shall not go on with its default instead of what it was
// told.
func AboveZero(fs *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		f := fs.Lookup(name)
		if v := f.Value.String(); strings.HasPrefix(v, "-") || v == "0" || v == "0s" {
			return fmt.Errorf("--%s %s must be above 0", name, v)
		}
	}
	return nil
}
