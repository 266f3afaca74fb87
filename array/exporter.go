package array

import (
	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// CreateExp puts an exporter on each controller of its array. The primary comes
// first, to which the others lead.
func CreateExp(tx store.Tx, exp *vda.Exp) (Plan, error) {
	return changeExp(tx, exp, stages(Primary, Secondaries), func(c *Change, on []*vda.Cntlr) {
		c.stampExp(exp, tx.InsertExp)
		for _, v := range on {
			c.insertES(exp, v)
		}
	})
}

// DeleteExp turns an exporter into a tombstone. The secondaries go first.
func DeleteExp(tx store.Tx, exp *vda.Exp) (Plan, error) {
	exp.Deleted = true
	return updateExp(tx, exp, stages(Secondaries, Primary))
}

// UpdateExp has the controllers of an exporter learn of what the caller
// changed of it.
func UpdateExp(tx store.Tx, exp *vda.Exp) (Plan, error) {
	return updateExp(tx, exp, stages(Primary, Secondaries))
}

func updateExp(tx store.Tx, exp *vda.Exp, p Plan) (Plan, error) {
	return changeExp(tx, exp, p, func(c *Change, _ []*vda.Cntlr) { c.stampExp(exp, tx.UpdateExp) })
}

func changeExp(tx store.Tx, exp *vda.Exp, p Plan, rows func(*Change, []*vda.Cntlr)) (Plan, error) {
	c := Begin(tx)
	if err := c.LockArrays(exp.DAID); err != nil {
		return nil, err
	}
	live, err := c.cntlrs(exp.DAID, nil)
	if err != nil {
		return nil, err
	}
	for _, v := range live {
		p.addCntlr(v)
	}
	rows(c, live)
	return p, c.Write()
}
