package syncer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// hops makes the keys by which the nodes' data planes authenticate to each other, of
// a secret that nodes never see: a node knows the keys of its own connections, and
// none of another term. nil, of a cluster that was never secured, makes none.
type hops []byte

// readHops reads the secret.
func readHops(tx store.Reader) (hops, error) {
	s, err := tx.Security()
	if err != nil || s.HopSecret == "" {
		return nil, err
	}
	secret, err := hex.DecodeString(s.HopSecret)
	if err != nil || len(secret) < sha256.Size {
		return nil, vda.Errorf(vda.Internal, "hop_secret of table vda_security is not %d bytes in hexadecimal; "+
			"restore it from a backup", sha256.Size)
	}
	return secret, nil
}

func (h hops) key(use string) []byte {
	if h == nil {
		return nil
	}
	m := hmac.New(sha256.New, h)
	fmt.Fprint(m, use)
	return m.Sum(nil)
}

// vd is the key of a vd's only host, which is another one in each term and epoch.
func (h hops) vd(vd *vda.VD, term uint64) []byte {
	return h.key("vd " + vd.ID + " " + legHost(vd, term))
}

// cntlr is the key of a controller, by which it gets at others of its array.
func (h hops) cntlr(c *vda.Cntlr, term uint64) []byte {
	return h.key(fmt.Sprintf("cntlr %s %s %d", c.ID, c.DAID, term))
}

// clone is the key by which the primary of a clone gets at what it is copied from, by an
// exporter, in a term of the source; none for term 0.
func (h hops) clone(expID string, term uint64) []byte {
	if term == 0 {
		return nil
	}
	return h.key(fmt.Sprintf("clone %s %d", expID, term))
}

// ofSource are the keys by which a clone's primary gets at an exporter, the newest first.
func (h hops) ofSource(expID string, term uint64) (keys [][]byte) {
	for _, t := range []uint64{term, term - 1} {
		if key := h.clone(expID, t); key != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// legHost is the NQN of a vd's only host.
func legHost(vd *vda.VD, term uint64) string {
	return vda.LegHostNQN(vda.PrimaryHostNQN(vd.DAID, term), vd.Epoch)
}
