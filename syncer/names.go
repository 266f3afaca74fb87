package syncer

import "strings"

// UUID writes an id of 32 hex digits the way UUIDs are written.
func UUID(id string) string {
	if len(id) != 32 || strings.Contains(id, "-") {
		return id
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}
