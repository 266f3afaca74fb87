package portal_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestCreateWithoutSpaceLeavesNothing: the database has room for an array and
// what a pd is made of has not. The create is refused with that reason, rather
// than with what its controller meets, and nothing is left of it.
func TestCreateWithoutSpaceLeavesNothing(t *testing.T) {
	c := portaltest.New(t)
	client := c.Client()
	c.Populate(client, 1, 1)
	before := count(t, c.Store)
	a := c.Agent("dn0:9720")
	a.FailVDs(vda.NoSpace + "the file system of /d is full")
	_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20})
	refusal(t, err, codes.ResourceExhausted, 10, "da0", "vd 0 of group 0", "the file system of /d is full", "deleted again")
	if now := count(t, c.Store); now != before {
		t.Errorf("the create left %+v of %+v", now, before)
	}

	// Another error leaves the array, as ever.
	a.FailVDs("the disk has had 3 I/O errors")
	r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 4 << 20}))
	if !r.DaMsg.Error {
		t.Errorf("%v", r)
	}
	a.FailVDs("")
	must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da1", DaSize: 4 << 20}))
}
