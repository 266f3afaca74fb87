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
