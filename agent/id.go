package agent

import (
	"strings"

	"github.com/virtual-disk-array/vda"
)

// clusterDigitsMin is how many digits of a cluster's id stand on its disks.
const clusterDigitsMin = 16

// ValidID reports that an id is one of VDA's, 32 hex digits or a UUID's text,
// and so can be part of a name or a path.
func ValidID(id string) bool {
	return len(id) > 0 && len(id) <= 36 && strings.Trim(id, "0123456789abcdefABCDEF-") == "" && strings.Trim(id, "-") != ""
}

// ValidCluster returns what is wrong with a cluster's id.
func ValidCluster(id string) error {
	if !ValidID(id) || len(strings.ReplaceAll(id, "-", "")) < clusterDigitsMin {
		return vda.Errorf(vda.InvalidArgument, "cluster_id %q must have %d to 36 hex digits, and dashes between them at most",
			id, clusterDigitsMin)
	}
	return nil
}

// IDs checks the ids of a request: each must be an id, and an object may occur
// once.
type IDs struct{ seen map[string]string }

// Sender checks whose the request is.
func (c *IDs) Sender(cluster, node string) error {
	if err := ValidCluster(cluster); err != nil {
		return err
	}
	return c.Ref("node_id", node)
}

// Ref checks an id that names an object of this request or another.
func (c *IDs) Ref(field, id string) error {
	if !ValidID(id) {
		return vda.Errorf(vda.InvalidArgument, "%s %q must be 1 to 36 hex digits or dashes, one digit at least", field, id)
	}
	return nil
}

// Object checks the id of an object that the request describes.
func (c *IDs) Object(field, id string) error {
	if err := c.Ref(field, id); err != nil {
		return err
	}
	if c.seen == nil {
		c.seen = map[string]string{}
	}
	if other, twice := c.seen[id]; twice {
		return vda.Errorf(vda.InvalidArgument, "%s %q is in the request twice, also as %s", field, id, other)
	}
	c.seen[id] = field
	return nil
}
