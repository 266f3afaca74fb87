package portal

import (
	"github.com/virtual-disk-array/vda/store"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page checks a list's limit and token.
func page(limit uint32, token string) (store.Page, error) {
	if limit > maxLimit {
		return store.Page{}, invalid("limit is %d; it must be 1 to %d, or 0 for %d", limit, maxLimit, defaultLimit)
	}
	if len(token) > 512 {
		return store.Page{}, invalid("token is %d bytes long; it must be the next_token of the page before", len(token))
	}
	if limit == 0 {
		limit = defaultLimit
	}
	return store.Page{Limit: int(limit), After: token}, nil
}
