package portal_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// deaf is a database that may not answer.
type deaf struct {
	store.Store
	away *atomic.Bool
}

func (d deaf) Ping(ctx context.Context) error {
	if d.away.Load() {
		return errors.New("dial tcp 10.0.0.9:5432: user=vda_user: no route to host")
	}
	return d.Store.Ping(ctx)
}

// TestHealthzFollowsTheDatabase, and tells those who may not know no more than
// that.
func TestHealthzFollowsTheDatabase(t *testing.T) {
	var away atomic.Bool
	addr := portaltest.New(t).Portal(func(c *portal.Config) {
		c.Store, c.HealthPeriod = deaf{c.Store, &away}, 10*time.Millisecond
	})
	says := func(status int, body string) func() bool {
		return func() bool {
			r, err := http.Get("http://" + addr + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			got, err := io.ReadAll(r.Body)
			return err == nil && r.StatusCode == status && string(got) == body
		}
	}
	await(t, says(http.StatusOK, "ok\n"))
	away.Store(true)
	await(t, says(http.StatusServiceUnavailable, "the database does not answer\n"))
	away.Store(false)
	await(t, says(http.StatusOK, "ok\n"))
}
