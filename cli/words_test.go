package cli

import (
	"net"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// TestHungUp: whom a secured portal hangs up on hears of --token-file.
func TestHungUp(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	u := &user{t, lis.Addr().String()}
	if _, stderr, exit := u.run("da list --timeout 1s"); exit != exitUnreachable || !strings.Contains(stderr, "--token-file") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
	_, stderr, _ := u.run("da list --token-file /none")
	if want := "vda_cli: --token-file /none: no such file or directory\n"; stderr != want {
		t.Errorf("%q, want %q", stderr, want)
	}
}

// TestDescriptionsAreOneLine: a description makes no rows of a table.
func TestDescriptionsAreOneLine(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	c.Agent("192.168.0.14:9720")
	u.ok("dn create 192.168.0.14:9720 --traddr 192.168.0.14 --trsvcid 4420 --description 'one\ntwo\tthree'")
	out, _ := u.ok("dn list -o wide")
	if strings.Count(out, "\n") != 2 || !strings.Contains(out, "one two three") {
		t.Errorf("the table is\n%s", out)
	}
}

// TestFlagsWithoutAValue: a flag whose value is missing does not take the next flag for it, and one
// that may stand alone does not leave its value to be a name. Nothing is sent.
func TestFlagsWithoutAValue(t *testing.T) {
	for line, says := range map[string]string{
		"da delete da0 --keep --yes":                       "--keep needs a value, and the word behind it is the flag --yes",
		"da delete --keep --da-name da0":                   "--keep needs a value",
		"da delete da0 --keep --x":                         "--keep needs a value, and the word behind it is the flag --x",
		"da create da0 --da-size 8M --label --strict":      "--label needs a value",
		"dn modify dn0 --new-description --new-online":     "write --new-description=--new-online",
		"dn drain dn0:9720 --wait 30m":                     "--wait 30m: the value of this flag stands behind a =, as in --wait=30m",
		"dn drain --wait 30m":                              "--wait=30m",
		"da create --strict false --da-size 8M":            "--strict=false",
		"pd delete dn0:9720/pd0 --force false":             "--force=false",
		"da recover --accept-data-loss false --da-name da": "--accept-data-loss=false",
		"da list -o --no-headers":                          "--output needs a value",
	} {
		u := &user{t, "127.0.0.1:1"} // where nobody listens
		if _, errs, exit := u.run(line); exit != exitUsage || !strings.Contains(errs, says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
}
