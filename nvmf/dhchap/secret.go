package dhchap

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// Secret is what a host or a controller proves to know. Its text (base 2.0,
// section 8.13.5.8) is
//
//	DHHC-1:HH:base64 of the key and its CRC-32, little-endian:
//
// HH 00 has the key be used as it is; 01, 02 and 03 an HMAC with SHA-256, 384 or
// 512 bind it to the NQN of its owner first. It never shows itself: its String
// and its log value say only of what kind it is.
//
// It is safe for concurrent use.
type Secret struct {
	transform Hash // 0: none

	mu  sync.RWMutex
	key []byte // 32, 48 or 64 bytes; nil when it was wiped
}

const (
	secretPrefix = "DHHC-1:"
	// SecretMax is more than any secret's text has, in bytes.
	SecretMax = 256
)

// ErrSecret is a text that is not a secret. The errors that wrap it say what is
// wrong with it without repeating any of it.
var ErrSecret = errors.New("not a DH-HMAC-CHAP secret (DHHC-1:HH:BASE64:, as nvme gen-dhchap-key makes them)")

// ParseSecret reads a secret's text; white space around it is ignored.
func ParseSecret(text string) (*Secret, error) {
	bad := func(why string) (*Secret, error) { return nil, fmt.Errorf("%w: %s", ErrSecret, why) }
	if len(text) > SecretMax {
		return bad(fmt.Sprintf("it has more than %d bytes", SecretMax))
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	if !ok {
		return bad("it does not begin with " + secretPrefix)
	}
	kind, rest, _ := strings.Cut(rest, ":")
	code := slices.Index([]string{"00", "01", "02", "03"}, kind)
	if code < 0 {
		return bad("the two digits behind " + secretPrefix + " are not 00, 01, 02 or 03")
	}
	encoded, ok := strings.CutSuffix(rest, ":")
	if !ok {
		return bad("it does not end with a colon")
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return bad("what stands between the last two colons is not base64")
	}
	n := len(key) - 4
	if n != 32 && n != 48 && n != 64 {
		clear(key)
		return bad(fmt.Sprintf("it is for %d bytes; keys have 32, 48 or 64, and 4 of CRC-32", n+4))
	}
	if binary.LittleEndian.Uint32(key[n:]) != crc32.ChecksumIEEE(key[:n]) {
		clear(key)
		return bad("its CRC-32 is wrong, so that a character has been lost or changed")
	}
	return &Secret{key: key[:n:n], transform: Hash(code)}, nil
}

// NewSecret makes a random secret that is bound by a hash, and as long as that.
func NewSecret(h Hash) *Secret {
	s := &Secret{key: make([]byte, h.Size()), transform: h}
	_, _ = rand.Read(s.key) // never fails
	return s
}

// Reveal returns the secret's text, for the one file that it is kept in.
func (s *Secret) Reveal() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := binary.LittleEndian.AppendUint32(append(make([]byte, 0, len(s.key)+4), s.key...), crc32.ChecksumIEEE(s.key))
	defer clear(b)
	return fmt.Sprintf("%s%02d:%s:", secretPrefix, s.transform, base64.StdEncoding.EncodeToString(b))
}

// Equal reports in constant time whether two secrets are the same; nil equals
// nil alone.
func (s *Secret) Equal(o *Secret) bool {
	if s == nil || o == nil || s == o {
		return s == o
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o.mu.RLock()
	defer o.mu.RUnlock()
	return s.transform == o.transform && hmac.Equal(s.key, o.key)
}

// Wipe zeroes the secret: from now on it proves nothing, and nothing is proven
// by it.
func (s *Secret) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.key)
	s.key = nil
}

// usable reports that there is a secret which was not wiped.
func (s *Secret) usable() bool {
	if s == nil {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.key != nil
}

// String says what kind of a secret this is.
func (s *Secret) String() string { return "a DH-HMAC-CHAP secret" }

// GoString is String, so that no verb of fmt shows the key.
func (s *Secret) GoString() string { return s.String() }

// Format is String, so that no verb of fmt shows the key.
func (s *Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue is String.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, so that no encoder shows the key.
func (s *Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// bound is the key as its owner uses it (base 2.0, section 8.13.5.7); nil when
// it was wiped.
func (s *Secret) bound(owner string) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.key == nil {
		return nil
	}
	if s.transform == 0 {
		return append([]byte(nil), s.key...)
	}
	m := hmac.New(s.transform.new, s.key)
	m.Write([]byte(owner))
	m.Write([]byte("NVMe-over-Fabrics"))
	return m.Sum(nil)
}

// Keys are the secrets of one host and one subsystem.
type Keys struct {
	Host       *Secret // which the host proves to know; nil: there is no authentication
	Controller *Secret // which the controller proves to know, if the host asks; may be nil
}
