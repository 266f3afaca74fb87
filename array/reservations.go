package array

import (
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// Hosts' reservations are one for all controllers of an array, or hosts that rely on them
// lose data: a host that has lost its own must not get a write through anywhere. So they are
// a property of the array that its user gives it, and not of whatever nodes it happens to be
// on: an array that has it gets no controller, and no primary, on a node by which they would
// not hold, and an agent that cannot have them hold does not serve the array.

// CheckReservations refuses reservations for an array with a controller by which they would
// not hold. vda.FailedPrecondition names its cn.
func CheckReservations(tx store.Reader, da *vda.DA) error {
	if !da.Reservations {
		return nil
	}
	return eachCN(tx, da, func(cn *vda.CN) error {
		if why := cn.NotReserving(); why != "" {
			return &vda.Error{Kind: vda.FailedPrecondition, Op: "modify", Object: "da " + da.Name,
				Msg: fmt.Sprintf("reservations is true, and they would not hold by its controller on cn %s: %s", cn.Name, why)}
		}
		return nil
	})
}

// SetReservations writes an array of which the caller has changed Reservations, and maybe
// what Modify is for. The plan has the primary first, which judges what hosts send, and then
// the controllers that pass it on, which tell hosts that they may make reservations.
func SetReservations(tx store.Tx, da *vda.DA) (Plan, error) {
	c := Begin(tx)
	if err := tx.UpdateDA(da); err != nil {
		return nil, err
	}
	cntlrs, err := tx.CntlrsOfDA(da.ID)
	if err != nil {
		return nil, err
	}
	plan := stages(Primary, Secondaries)
	for i := range cntlrs {
		if v := &cntlrs[i]; !v.Deleted {
			c.updateCntlr(v)
			plan.addCntlr(v)
		}
	}
	return plan, c.Write()
}
