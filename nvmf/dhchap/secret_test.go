package dhchap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const (
	testHost = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
	testSub  = "nqn.2016-06.io.spdk:test"
)

// The secrets and responses were computed by Python's hmac, hashlib and pow,
// from challenge bytes 80h, 81h …, sequence number 01020304h, transaction 0506h,
// and g^xy with x of 29 bytes 5Ah and y of 40 bytes 33h.
var known = []struct {
	secret           string
	hash             Hash
	group            Group
	host, controller string
}{
	{"DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", SHA256, Null,
		"a311fa955b96565f9b3439fa39265c46421027a7d2b3a1da8a84b1967f7cd548",
		"24509f9972569809c6474fcefa2b19bd1e72900544d5a6b7537bf63ceda86dd4"},
	{"DHHC-1:02:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:", SHA384, FFDHE2048,
		"f0b3b172caded9510338865ababf03d2754bb9940ad3d0ef5335934e5b1ffd7f09720070ecf90e8116af13c8ea74b6fa",
		"c7b4ee25fe52bb43178ae1550fb11fd1e611c446bee4be135b342af71dd545a171abafd655d95b35d0b65e1f5566d4ff"},
	{"DHHC-1:03:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P4zODhA=:", SHA512, FFDHE3072,
		"ca650050aacd71e556d7e14ac3c1d980f0a70b51578dffb72a83c8f65c9794d9e3c021dccfb06d0d0f6be860426d374b893841e02e5286ba253196415c0b5b90",
		"343128d092a2a709eba37bdbb8bfa75db77550a650cb290421cab6b0e1d635ad51046a33482edecf8c347d9ca13ff0d7046f730def31ebc6be94f95f8077b8c6"},
	{"DHHC-1:03:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P4zODhA=:", SHA256, FFDHE8192,
		"49caac3343c376e417d241d3c8bec80ab1aadf0974ae3923c24b284e088c64ff",
		"bbcfaf675f63be61ae0f7c0c06e638deb3dfa2e8a9276d128b94fa51872a339a"},
}

func TestKnownResponses(t *testing.T) {
	for _, k := range known {
		s, err := ParseSecret(k.secret)
		if err != nil {
			t.Fatal(err)
		}
		if s.Reveal() != k.secret {
			t.Errorf("%s comes back as %s", k.secret, s.Reveal())
		}
		p := proof{hash: k.hash, seq: 0x01020304, tid: 0x0506, role: byHost, owner: testHost, peer: testSub}
		for i := range k.hash.Size() {
			p.challenge = append(p.challenge, byte(0x80+i))
		}
		if k.group != Null {
			y := &dhKey{group: k.group, exponent: bytes.Repeat([]byte{0x33}, 40)}
			public, err := y.shared([]byte{2}) // 2^y
			if err != nil {
				t.Fatal(err)
			}
			x := &dhKey{group: k.group, exponent: bytes.Repeat([]byte{0x5a}, 29)}
			if p.shared, err = x.shared(public); err != nil {
				t.Fatal(err)
			}
		}
		if got := hex.EncodeToString(p.response(s)); got != k.host {
			t.Errorf("%v, %v: R1 is %s, want %s", k.hash, k.group, got, k.host)
		}
		p.role, p.owner, p.peer = byController, testSub, testHost
		if got := hex.EncodeToString(p.response(s)); got != k.controller {
			t.Errorf("%v, %v: R2 is %s, want %s", k.hash, k.group, got, k.controller)
		}
	}
}

func TestSecretText(t *testing.T) {
	for h := SHA256; h <= SHA512; h++ {
		s := NewSecret(h)
		again, err := ParseSecret(" " + s.Reveal() + "\n")
		if err != nil || !again.Equal(s) || NewSecret(h).Equal(s) || s.Equal(nil) {
			t.Errorf("%v: %v", h, err)
		}
		s.Wipe()
		if s.key != nil || s.usable() {
			t.Errorf("%v: a wiped secret has its key", h)
		}
	}
	good := known[0].secret
	body := strings.TrimSuffix(strings.TrimPrefix(good, "DHHC-1:00:"), ":")
	for _, c := range []struct{ text, why string }{
		{"", "begin"},
		{"NVMeTLSkey-1:01:" + body + ":", "begin"},
		{"DHHC-1:04:" + body + ":", "digits"},
		{"DHHC-1:1:" + body + ":", "digits"},
		{"DHHC-1:10:" + body + ":", "digits"},
		{"DHHC-1:00:" + body, "colon"},
		{"DHHC-1:00:*" + body[1:] + ":", "base64"},
		{"DHHC-1:00:B" + body[1:] + ":", "CRC-32"},
		{"DHHC-1:00:AAECAwQ=:", "32, 48 or 64"},
		{good + strings.Repeat(" ", SecretMax), "more than"},
	} {
		_, err := ParseSecret(c.text)
		if !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q: %v, want an error about %q", c.text, err, c.why)
		}
		if err != nil && strings.Contains(err.Error(), body[4:12]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

// TestSecretHides: no way to print a secret prints its key.
func TestSecretHides(t *testing.T) {
	s, err := ParseSecret(known[0].secret)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "keys", Keys{Host: s}, "pointer", &Keys{Host: s})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+"\n", s, Keys{Host: s, Controller: s})
	}
	j, err := json.Marshal(Keys{Host: s})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	for _, leak := range []string{"AAECAwQF", "000102030405", "0 1 2 3 4 5", "[0 1 2", "0x0, 0x1", `\x00\x01\x02`} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is shown in:\n%s", leak, out.String())
		}
	}
}
