package dhchap

import (
	"crypto/rand"
	"errors"
	"math/big"
	"sync"

	"filippo.io/bigmod"
)

// The primes of RFC 7919, appendix A, are
//
//	2^b - 2^(b-64) + (floor(2^(b-130) * e) + X) * 2^64 - 1
//
// with e, the base of the natural logarithm, and X the least number that makes
// both that and its half prime; 2 generates the subgroup of prime order. A
// secret exponent is as long as section 5.2 has it, twice the strength.
var groups = [...]struct {
	bits, x, exponent int64 // exponent: bytes
}{
	FFDHE2048: {2048, 560316, 29},
	FFDHE3072: {3072, 2625351, 35},
	FFDHE4096: {4096, 5736041, 41},
	FFDHE6144: {6144, 15705020, 47},
	FFDHE8192: {8192, 10965728, 50},
}

// prime computes the group's prime.
func (g Group) prime() *big.Int {
	one, b := big.NewInt(1), uint(groups[g].bits)
	const guard = 64 // bits, for what the terms lose
	e, term := new(big.Int), new(big.Int).Lsh(one, b-130+guard)
	for n := int64(1); term.Sign() > 0; n++ { // 1/0! + 1/1! + 1/2! …
		e.Add(e, term)
		term.Div(term, big.NewInt(n))
	}
	p := e.Rsh(e, guard)
	p.Add(p, big.NewInt(groups[g].x)).Lsh(p, 64)
	p.Add(p, new(big.Int).Lsh(one, b)).Sub(p, new(big.Int).Lsh(one, b-64))
	return p.Sub(p, one)
}

// moduli are made when a group is used first; they never change.
var moduli [len(groups)]func() *bigmod.Modulus

func init() {
	for g := FFDHE2048; g <= FFDHE8192; g++ {
		moduli[g] = sync.OnceValue(func() *bigmod.Modulus {
			m, err := bigmod.NewModulus(g.prime().Bytes())
			if err != nil {
				panic("dhchap: " + err.Error()) // a constant
			}
			return m
		})
	}
}

// dhKey is one side's part of an exchange.
type dhKey struct {
	group    Group
	exponent []byte
	public   []byte // Group.Size bytes, big-endian
}

// newDHKey chooses a secret exponent. nil for the null group.
func newDHKey(g Group) *dhKey {
	if g == Null {
		return nil
	}
	k := &dhKey{group: g, exponent: make([]byte, groups[g].exponent)}
	_, _ = rand.Read(k.exponent) // never fails
	m := moduli[g]()
	base := bigmod.NewNat().SetUint(2).ExpandFor(m)
	k.public = bigmod.NewNat().Exp(base, k.exponent, m).Bytes(m)
	return k
}

// errPublic refuses a public value that would make the shared secret known.
var errPublic = errors.New("the Diffie-Hellman value is not from 2 to p-2")

// shared is the secret of both sides, as long as a public value. It forgets the
// exponent.
func (k *dhKey) shared(peer []byte) ([]byte, error) {
	defer clear(k.exponent)
	m := moduli[k.group]()
	if len(peer) > m.Size() {
		return nil, errPublic
	}
	y, err := bigmod.NewNat().SetBytes(peer, m)
	if err != nil || y.IsZero()|y.IsOne()|y.IsMinusOne(m) != 0 {
		return nil, errPublic
	}
	return bigmod.NewNat().Exp(y, k.exponent, m).Bytes(m), nil
}
