package sim

import (
	"context"
	"fmt"
	"strings"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/store"
)

// removed is Live.Removed: no agent takes an exporter away that is desired. It
// asks SQL in its own time; what was desired then has been so before.
func (s *sim) removed(addr string, sub spdk.NvmfSubsystem) {
	if !strings.HasPrefix(sub.NQN, vda.ExpNQNPrefix) {
		return
	}
	go func() {
		why := ""
		err := s.db.Store.View(context.Background(), func(tx store.Reader) error {
			why = ""
			exp, err := tx.ExpByNQN(sub.NQN)
			if err != nil || exp.Deleted || exp.Serial != sub.SerialNumber {
				return err
			}
			cntlrs, err := tx.CntlrsOfDA(exp.DAID)
			if err != nil {
				return err
			}
			for _, c := range cntlrs {
				cn, err := tx.CN(c.CNID)
				if err != nil {
					return err
				}
				// Another controller of the array may have left it there.
				own := c.Idx*1000+1 == uint32(sub.MinCntlid)
				if !c.Deleted && own && cn.Listener.TrAddr == addr {
					why = fmt.Sprintf("%s removes %s, the exporter %s of an array that lives", addr, sub.NQN, exp.Name)
				}
			}
			return nil
		})
		if err == nil && why != "" {
			s.ledger.Wrong("%s", why)
		}
	}()
}
