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

// PasswordCost says how much it costs to try a password.
type PasswordCost struct {
	Passes, KiB uint32
	Threads     uint8
}

// UsualCost is the second of the choices that RFC 9106, section 4, recommends: 64 MiB and
// three passes, which take some 100 ms.
var UsualCost = PasswordCost{Passes: 3, KiB: 64 << 10, Threads: 4}

// dearest bounds what a hash of the database may ask for.
var dearest = PasswordCost{Passes: 16, KiB: 1 << 20, Threads: 16}

const argonKey = 32 // bytes

// Hash is what is kept of a password: Argon2id with a salt of its own, in the form
// "$argon2id$v=19$m=KIB,t=PASSES,p=THREADS$SALT$KEY".
func (c PasswordCost) Hash(password string) string {
	var salt [16]byte
	rand.Read(salt[:]) // never fails
	return c.text(salt[:], c.key(password, salt[:], argonKey))
}

func (c PasswordCost) text(salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.KiB, c.Passes, c.Threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func (c PasswordCost) key(password string, salt []byte, n uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.Passes, c.KiB, c.Threads, n)
}

// Same reports that a password is the one that Hash made hash of, at that or another cost; no
// password is that of "", which is for a user who is not there: it takes as long, so that
// nobody learns from the time which users there are. The error is that of a hash that is none.
func (c PasswordCost) Same(password, hash string) (bool, error) {
	none := hash == ""
	if none {
		hash = c.text(make([]byte, 16), make([]byte, argonKey))
	}
	var version int
	var a PasswordCost
	parts := strings.Split(hash, "$")
	bad := errors.New("what is kept of the password does not decode: set another password")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return false, bad
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &a.KiB, &a.Passes, &a.Threads); err != nil {
		return false, bad
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || err2 != nil || version != argon2.Version || a.Passes < 1 || a.Passes > dearest.Passes || a.Threads < 1 ||
		a.Threads > dearest.Threads || a.KiB < 8 || a.KiB > dearest.KiB || len(want) < 16 || len(want) > 64 {
		return false, bad
	}
	return subtle.ConstantTimeCompare(a.key(password, salt, uint32(len(want))), want) == 1 && !none, nil
}
