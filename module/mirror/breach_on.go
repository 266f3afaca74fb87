//go:build breach

package mirror

import (
	"fmt"
	"os"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// breach is the rule that this program leaves out, so that a run on real processes
// shows that it finds that. A program without the build tag leaves none out.
var breach = func() core.Breach {
	fmt.Fprintln(os.Stderr, "built with the tag breach: mirrors lose data, on purpose")
	return core.NoCopy
}()
