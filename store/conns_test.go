package store

import (
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestManyTransactionsKeepTheirConnections: as many transactions at once as may be, again and again, use the connections
// that were made for the first of them.
func TestManyTransactionsKeepTheirConnections(t *testing.T) {
	_, uri := dbtest.Postgres(t)
	if _, _, err := Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*sqlStore)
	defer s.Close()
	const most = serverConns - urgentConns
	for range 3 {
		var g errgroup.Group
		here, all := make(chan bool, most), make(chan bool)
		for range most {
			g.Go(func() error {
				return s.View(t.Context(), func(Reader) error {
					here <- true
					<-all
					return nil
				})
			})
		}
		for range most {
			<-here
		}
		close(all)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if is := s.write.Stats(); is.OpenConnections != most || is.MaxIdleClosed != 0 {
		t.Errorf("%d transactions at once, three times: %d connections are open, %d were closed", most, is.OpenConnections, is.MaxIdleClosed)
	}
}
