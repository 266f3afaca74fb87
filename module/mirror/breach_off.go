//go:build !breach

package mirror

import "github.com/virtual-disk-array/vda/module/mirror/core"

// breach is the rule that this program leaves out: none.
const breach = core.Nothing
