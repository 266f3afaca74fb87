package pki

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Lengths of passwords, characters.
const (
	MinPassword = 12
	MaxPassword = 256
)

// CheckPassword says what a password lacks; it does not repeat it.
func CheckPassword(user, password string) error {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return errors.New("the password is not valid UTF-8")
	case n < MinPassword || n > MaxPassword:
		return fmt.Errorf("the password has %d characters; it must have from %d to %d", n, MinPassword, MaxPassword)
	case strings.Contains(strings.ToLower(password), strings.ToLower(user)):
		return errors.New("the password has the user's name in it; it must not")
	}
	return nil
}

// argon says how much it costs to try a password.
type argon struct {
	passes, kib uint32
	threads     uint8
}

// usual is the second of the choices that RFC 9106, section 4, recommends: 64 MiB and three
// passes.
var usual = argon{passes: 3, kib: 64 << 10, threads: 4}

// dearest bounds what a hash of the database may ask for.
var dearest = argon{passes: 16, kib: 1 << 20, threads: 16}

const argonKey = 32 // bytes

// HashPassword is what is kept of a password: Argon2id with a salt of its own, in the form
// "$argon2id$v=19$m=KIB,t=PASSES,p=THREADS$SALT$KEY". It takes 64 MiB and some 100 ms.
func HashPassword(password string) string {
	var salt [16]byte
	rand.Read(salt[:]) // never fails
	key := usual.key(password, salt[:], argonKey)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, usual.kib, usual.passes, usual.threads,
		base64.RawStdEncoding.EncodeToString(salt[:]), base64.RawStdEncoding.EncodeToString(key))
}

func (a argon) key(password string, salt []byte, n uint32) []byte {
	return argon2.IDKey([]byte(password), salt, a.passes, a.kib, a.threads, n)
}

// nobody is the hash that a password is compared with when there is no such user: it takes
// as long, so that nobody learns from the time which users there are.
var nobody = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, usual.kib, usual.passes, usual.threads,
	base64.RawStdEncoding.EncodeToString(make([]byte, 16)), base64.RawStdEncoding.EncodeToString(make([]byte, argonKey)))

// SamePassword reports that a password is the one that HashPassword made hash of; no password
// is that of "". It takes as long either way. The error is that of a hash that is none.
func SamePassword(password, hash string) (bool, error) {
	none := hash == ""
	if none {
		hash = nobody
	}
	var version int
	var a argon
	parts := strings.Split(hash, "$")
	bad := errors.New("what is kept of the password does not decode: set another password")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return false, bad
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &a.kib, &a.passes, &a.threads); err != nil {
		return false, bad
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || err2 != nil || version != argon2.Version || a.passes < 1 || a.passes > dearest.passes || a.threads < 1 ||
		a.threads > dearest.threads || a.kib < 8 || a.kib > dearest.kib || len(want) < 16 || len(want) > 64 {
		return false, bad
	}
	return subtle.ConstantTimeCompare(a.key(password, salt, uint32(len(want))), want) == 1 && !none, nil
}
