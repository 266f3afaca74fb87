package portal

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
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

// hostKeys are all keys that a host has at exporters: it may prove itself to the discovery service by any of them.
func (s *Server) hostKeys(ctx context.Context, host string) ([]dhchap.Keys, error) {
	var all []dhchap.Keys
	err := s.view(ctx, func(tx store.Reader) error {
		all = nil
		exps, _, err := tx.ListExp(store.ExpFilter{InitiatorNQN: &host}, store.Page{})
		for i := range exps {
			k := exps[i].KeysOf(host)
			if k == nil {
				continue
			}
			pairs := []vda.KeyPair{k.New}
			if k.Old != nil {
				pairs = append(pairs, *k.Old)
			}
			for _, p := range pairs {
				keys, err := secretsOf(p)
				if err != nil {
					return fmt.Errorf("a key of %s at %s: %w", host, exps[i].NQN, err)
				}
				all = append(all, keys)
			}
		}
		return err
	})
	return all, err
}

// secretsOf reads a pair of keys. The error has nothing of them.
func secretsOf(p vda.KeyPair) (keys dhchap.Keys, err error) {
	for _, k := range []struct {
		text vda.Secret
		to   **dhchap.Secret
	}{{p.Host, &keys.Host}, {p.Ctrlr, &keys.Controller}} {
		if k.text != "" && err == nil {
			*k.to, err = dhchap.ParseSecret(string(k.text))
		}
	}
	return keys, err
}
