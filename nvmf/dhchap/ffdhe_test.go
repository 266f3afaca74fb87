package dhchap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"testing"
)

// primeDigests are SHA-256 of the primes as OpenSSL has them.
var primeDigests = map[Group]string{
	FFDHE2048: "9cd3b7f336872f46c09428d1bbc19877a4d440512cda8d1c1cf0cd6e33698966",
	FFDHE3072: "0eaf67db3a839156d5013494a5318a772b5697d270d721f37f092efc69ea5a17",
	FFDHE4096: "4648414224ac881b3d0dc59b466f96d06a558278776807797ecf1f66ff397b3e",
	FFDHE6144: "227ac9066b3ddd9e193670cda2388fa884f65ba0cf98b742d1fe77a6687c79c7",
	FFDHE8192: "770b14efaf6f049929c523113b3fa99a8d11dab1b18af3609590122075d19833",
}

func TestPrimes(t *testing.T) {
	for g, want := range primeDigests {
		p := g.prime()
		if d := sha256.Sum256(p.Bytes()); hex.EncodeToString(d[:]) != want || p.BitLen() != g.Size()*8 {
			t.Errorf("%v: the prime is %x", g, p)
		}
	}
}

// TestExchange compares with math/big what both sides compute.
func TestExchange(t *testing.T) {
	for g := FFDHE2048; g <= FFDHE8192; g++ {
		a, b := newDHKey(g), newDHKey(g)
		x := new(big.Int).SetBytes(a.exponent)
		p := g.prime()
		if got := new(big.Int).Exp(big.NewInt(2), x, p).FillBytes(make([]byte, g.Size())); !bytes.Equal(got, a.public) {
			t.Errorf("%v: 2^x is %x, math/big says %x", g, a.public, got)
		}
		ab, err := a.shared(b.public)
		if err != nil {
			t.Fatal(err)
		}
		ba, err := b.shared(a.public)
		if err != nil {
			t.Fatal(err)
		}
		want := new(big.Int).Exp(new(big.Int).SetBytes(b.public), x, p).FillBytes(make([]byte, g.Size()))
		if !bytes.Equal(ab, ba) || !bytes.Equal(ab, want) {
			t.Errorf("%v: the sides have %x and %x, math/big %x", g, ab, ba, want)
		}
		if !bytes.Equal(a.exponent, make([]byte, len(a.exponent))) {
			t.Errorf("%v: the exponent is kept after it was used", g)
		}
	}
}

// TestPublicValues: values that leave a secret which anybody knows are refused,
// and leading zeros that the other side has left out are no matter.
func TestPublicValues(t *testing.T) {
	g := FFDHE2048
	p := g.prime()
	size := g.Size()
	add := func(n int64) []byte { return new(big.Int).Add(p, big.NewInt(n)).FillBytes(make([]byte, size)) }
	small := func(n byte) []byte { return append(make([]byte, size-1), n) }
	for name, v := range map[string][]byte{"0": small(0), "1": small(1), "p-1": add(-1), "p": add(0), "p+1": add(1),
		"all ones": bytes.Repeat([]byte{0xff}, size), "too long": make([]byte, size+4), "none": {}} {
		if _, err := newDHKey(g).shared(v); err == nil {
			t.Errorf("the value %s is taken", name)
		}
	}
	k := newDHKey(g)
	k2 := &dhKey{group: g, exponent: bytes.Clone(k.exponent), public: k.public}
	long, err := k.shared(small(7))
	if err != nil {
		t.Fatal(err)
	}
	short, err := k2.shared([]byte{0, 0, 0, 7})
	if err != nil || !bytes.Equal(long, short) {
		t.Errorf("7 in four bytes: %v, and the same secret: %t", err, bytes.Equal(long, short))
	}
}

func BenchmarkExchange(b *testing.B) {
	for g := FFDHE2048; g <= FFDHE8192; g++ {
		b.Run(g.String(), func(b *testing.B) {
			peer := newDHKey(g).public
			for b.Loop() {
				if _, err := newDHKey(g).shared(peer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
