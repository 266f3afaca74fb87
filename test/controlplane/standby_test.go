package controlplane

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestDatabaseFailsOverToAStandby kills the database with SIGKILL and promotes
// its standby. In between the portal answers Unavailable and says why, and an
// array whose primary dies stays where it is; afterwards portal and monitors
// find the other server by themselves, the array moves, and new ones are made.
func TestDatabaseFailsOverToAStandby(t *testing.T) {
	primary, standby, uri := dbtest.PostgresStandby(t)
	c := begin(t, uri, 2)
	for i := range 2 {
		c.must(nil, c.array(i))
	}
	lead, other := c.cns[0], c.cns[1]
	if c.serves(lead, 1) == 0 {
		lead, other = other, lead
	}
	c.until("the array is up on both cns", func() bool {
		return c.serves(lead, 1) == 1 && other.plane.ANA(expNQN(0)) == "non_optimized"
	})
	list := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		_, err := c.portal.ListDa(ctx, &apiv1.ListDaRequest{})
		return err
	}
	c.must(nil, list())

	primary.Kill()
	// A backend of a server that was killed answers what it has got before it sees that.
	c.until("the portal sees that the database is gone", func() bool { return list() != nil })
	for range 3 {
		begin := time.Now()
		st, _ := status.FromError(list())
		took := time.Since(begin)
		t.Logf("without the database the portal answers after %v: %v: %s", took.Round(time.Millisecond), st.Code(), st.Message())
		if st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "database") {
			t.Errorf("portal: %v", st)
		}
		if took > 10*time.Second {
			t.Errorf("it took the portal %v to say so", took)
		}
	}
	time.Sleep(4 * time.Second) // the monitors' picture is stale by now
	lead.kill()
	time.Sleep(4 * time.Second)
	if n := c.serves(other, 1); n != 0 {
		t.Error("an array was moved without a database")
	}

	standby.Promote()
	promoted := time.Now()
	c.until("the portal finds the new primary", func() bool { return list() == nil })
	portal := time.Since(promoted)
	c.until("the array moves", func() bool { return c.serves(other, 1) == 1 })
	t.Logf("after the promotion: the portal answers in %.2f s, the array of a cn that died meanwhile is served in %.2f s", portal.Seconds(),
		time.Since(promoted).Seconds())
	if _, err := c.portal.CreateDa(t.Context(), &apiv1.CreateDaRequest{DaName: "da9", CntlrCnt: 1, DaSize: 8 << 20}); err != nil {
		t.Errorf("a new array on the new primary: %v", err)
	}
}
