package placement

import (
	"fmt"
	"strings"

	"github.com/virtual-disk-array/vda"
)

// Explain adds what was not considered to a refusal for want of room.
func Explain(err error, leftOut []string) error {
	if len(leftOut) == 0 || vda.KindOf(err) != vda.ResourceExhausted {
		return err
	}
	const most = 5
	more := ""
	if len(leftOut) > most {
		more = fmt.Sprintf(" and %d more", len(leftOut)-most)
		leftOut = leftOut[:most]
	}
	return vda.Errorf(vda.ResourceExhausted, "%v; left out: %s%s", err, strings.Join(leftOut, ", "), more)
}
