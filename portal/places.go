package portal

import (
	"context"
	"net/netip"
	"strconv"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/portal/discovery"
	"github.com/virtual-disk-array/vda/store"
)

// places are all ways of a host to its arrays and snapshots, whether they are up now or not: a host that
// connects goes on trying.
func (s *Server) places(ctx context.Context, host string) ([]discovery.Place, error) {
	var all []discovery.Place
	err := s.view(ctx, func(tx store.Reader) error {
		all = nil
		exps, _, err := tx.ListExp(store.ExpFilter{InitiatorNQN: &host}, store.Page{})
		if err != nil || len(exps) == 0 {
			return err
		}
		nqns := map[string]string{}
		for i := range exps {
			nqns[exps[i].ID] = exps[i].NQN
		}
		ways, err := tx.WaysOfExps(sortedIDs(exps, func(e vda.Exp) string { return e.ID }))
		for _, w := range ways {
			ip, err := netip.ParseAddr(w.Listener.TrAddr)
			if err != nil {
				continue // cn create has checked it
			}
			port, err := strconv.ParseUint(w.Listener.TrSvcID, 10, 16)
			if err != nil {
				continue
			}
			all = append(all, discovery.Place{NQN: nqns[w.ExpID], Address: netip.AddrPortFrom(ip, uint16(port)), Port: uint16(w.CntlrIdx)})
		}
		return err
	})
	return all, err
}
