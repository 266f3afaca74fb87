package cli

import (
	"strings"
	"testing"
)

// TestPoint7Completion: shells complete the names that the portal knows, and formats.
func TestPoint7Completion(t *testing.T) {
	_, u := well(t)
	u.ok("da create da1 --da-size 16M --physical-size 8M")
	u.ok("exp create da0/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok("exp create da1/exp1 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok("snap create da1/monday")
	// Flags that are required are offered too.
	complete := func(line string) string {
		out, _ := u.ok("__complete " + line)
		var words []string
		for l := range strings.Lines(out) {
			if word := strings.TrimSpace(l); !strings.HasPrefix(word, ":") && !strings.HasPrefix(word, "--") {
				words = append(words, word)
			}
		}
		return strings.Join(words, " ")
	}
	for line, want := range map[string]string{
		"da get --da-name ''":                     "da0 da1",
		"da get --da-name da1":                    "da1",
		"da get ''":                               "da0 da1",
		"da get da0 ''":                           "",
		"da delete d":                             "da0 da1",
		"da create ''":                            "",
		"da create --da-name ''":                  "",
		"dn get --dn-name dn":                     "dn0:9720 dn1:9720",
		"cn get ''":                               "cn0:9820 cn1:9820",
		"pd get ''":                               "dn0:9720/pd0 dn1:9720/pd0",
		"pd get --pd-name ''":                     "pd0",
		"pd create --dn-name ''":                  "dn0:9720 dn1:9720",
		"exp get ''":                              "da0/exp0 da1/exp1",
		"exp get --exp-name ''":                   "exp0 exp1",
		"exp get --da-name da1 --exp-name ''":     "exp1",
		"exp create --da-name ''":                 "da0 da1",
		"snap get ''":                             "da1/monday",
		"exp create --da-name da1 --snap-name ''": "monday",
		"da failover da0 --to-cn ''":              "cn0:9820 cn1:9820",
		"syncup dn ''":                            "dn0:9720 dn1:9720",
		"da list -o ''":                           "json yaml table wide name jsonpath=",
		"da get --addr-port nowhere --da-name ''": "",
		"da get --timeout 0 --da-name ''":         "",
		"da create --da-name x --redundancy ''":   "none mirror:2 mirror:3",
	} {
		if got := complete(line); got != want {
			t.Errorf("%s offers %q, want %q", line, got, want)
		}
	}
}
