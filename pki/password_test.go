package pki

import (
	"strings"
	"testing"
)

// TestPasswords: what is kept of a password lets that one in and no other, and
// does not have it.
func TestPasswords(t *testing.T) {
	const word = "correct horse battery"
	hash := UsualCost.Hash(word)
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=65536,t=3,p=4$") || strings.Contains(hash, "horse") {
		t.Errorf("the hash is %s", hash)
	}
	for text, want := range map[string]bool{word: true, word + " ": false} {
		if got, err := UsualCost.Same(text, hash); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if got, err := UsualCost.Same(word, ""); err != nil || got {
		t.Errorf("without a hash: %v, %v", got, err)
	}
	for _, bad := range []string{"x", strings.Replace(hash, "argon2id", "argon2i", 1), strings.Replace(hash, "v=19", "v=16", 1),
		strings.Replace(hash, "m=65536", "m=99999999", 1), strings.Replace(hash, "t=3", "t=0", 1), strings.Replace(hash, "p=4", "p=0", 1),
		hash[:strings.LastIndex(hash, "$")+1], hash + "$"} {
		if got, err := UsualCost.Same(word, bad); err == nil || got {
			t.Errorf("the hash %q is taken: %v", bad, got)
		}
	}
	for text, want := range map[string]string{word: "", "short": "has 5 characters", strings.Repeat("x", 257): "has 257",
		"my name is Ann, really": "name in it", "bad utf8 \xff\xff\xff": "UTF-8"} {
		err := CheckPassword("ann", text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
