package cli

import (
	"strings"
	"testing"
)

// TestPoint6Names: the name of what a command is about stands beside the flags, as -o
// name prints it, and verbs have the words that users of other programs type.
func TestPoint6Names(t *testing.T) {
	_, u := well(t)
	u.ok("da create da1 --da-size 16M --physical-size 8M")
	u.ok("exp create da1/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok("snap create monday --da-name da1")
	for line, want := range map[string]string{
		"da get da1 -o name":                    "da1\n",
		"da show da1 -o name":                   "da1\n",
		"da ls -o name":                         "da0\nda1\n",
		"dn get -o name dn0:9720":               "dn0:9720\n",
		"pd get dn0:9720/pd0 -o name":           "dn0:9720/pd0\n",
		"cn get cn1:9820 -o name":               "cn1:9820\n",
		"exp get da1/exp0 -o name":              "da1/exp0\n",
		"snap get da1/monday -o name":           "da1/monday\n",
		"snap list -o name":                     "da1/monday\n",
		"da get --da-name da0 -o name":          "da0\n",
		"pd get pd0 --dn-name dn1:9720 -o name": "dn1:9720/pd0\n",
	} {
		if out, _ := u.ok(line); out != want {
			t.Errorf("%s prints %q, want %q", line, out, want)
		}
	}
	u.ok("syncup da da0")
	for line, says := range map[string]string{
		"da get da0 --da-name da1":         `"da0" and --da-name "da1": give the name once, as DA-NAME`,
		"exp get da1/exp0 --exp-name exp0": "DA-NAME/EXP-NAME",
		"exp get exp0":                     "--da-name is required",
		"exp get da1/":                     "no part of it may be empty",
		"da get da0 da1":                   `unexpected argument "da1"`,
		"da list da0":                      "every value belongs to a flag",
		"pd list pd0":                      "every value belongs to a flag",
		"da get":                           "--da-name is required",
	} {
		if _, errs, exit := u.run(line); exit != exitUsage || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
	u.ok("exp rm da1/exp0")
	u.ok("snap rm da1/monday")
	u.ok("da rm da1")
	if out, _ := u.ok("da ls -o name"); out != "da0\n" {
		t.Errorf("after da rm: %q", out)
	}
	if out, _ := u.ok("exp get --help"); !strings.Contains(out, "vda_cli exp get [DA-NAME/EXP-NAME] [flags]") {
		t.Errorf("help does not show the name:\n%s", out)
	}
}
