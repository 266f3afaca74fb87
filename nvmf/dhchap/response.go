package dhchap

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// The directions, which keep what one side has sent from being sent back.
const (
	byHost       = "HostHost"
	byController = "Controller"
)

// proof is all that a response is made of, except for the secret.
type proof struct {
	hash      Hash
	challenge []byte
	shared    []byte // Diffie-Hellman secret; nil with the null group
	seq       uint32
	tid       uint16
	role      string
	owner     string // NQN of the one that responds
	peer      string // NQN of the one that has challenged it
}

// response computes R1 or R2 (base 2.0, sections 8.13.5.4 and 8.13.5.5); nil
// when the secret was wiped.
func (p *proof) response(s *Secret) []byte {
	key := s.bound(p.owner)
	if key == nil {
		return nil
	}
	defer clear(key)
	challenge := p.challenge
	if p.shared != nil {
		h := p.hash.new()
		h.Write(p.shared)
		digest := h.Sum(nil)
		m := hmac.New(p.hash.new, digest)
		m.Write(p.challenge)
		challenge = m.Sum(nil)
		clear(digest)
	}
	m := hmac.New(p.hash.new, key)
	m.Write(challenge)
	var b [7]byte // the last is SC_C: no secure channel is made of this
	binary.LittleEndian.PutUint32(b[:], p.seq)
	binary.LittleEndian.PutUint16(b[4:], p.tid)
	m.Write(b[:])
	m.Write([]byte(p.role))
	m.Write([]byte(p.owner))
	m.Write([]byte{0})
	m.Write([]byte(p.peer))
	return m.Sum(nil)
}

// Sequence gives the sequence numbers of challenges: the first is random, and
// none is 0. It is safe for concurrent use.
type Sequence struct {
	mu   sync.Mutex
	last uint32
}

func (s *Sequence) next() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == 0 {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		s.last = binary.LittleEndian.Uint32(b[:])
	}
	if s.last++; s.last == 0 {
		s.last = 1
	}
	return s.last
}

func newChallenge(h Hash) []byte {
	c := make([]byte, h.Size())
	_, _ = rand.Read(c) // never fails
	return c
}
