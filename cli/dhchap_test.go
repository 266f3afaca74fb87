package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeysOfHosts: a key is read from a file that nobody else may read, and is in no output.
func TestKeysOfHosts(t *testing.T) {
	addr, token, _ := secured(t)
	h := newHome(t)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad, open := file("bad", "planted", 0o600), file("open", "planted", 0o644)
	create := "--addr-port " + addr + " --token-file " + token +
		" exp create --da-name da0 --exp-name e --initiator-nqn nqn.2016-06.io.spdk:a "
	h.refused(create+"--dhchap-key-file "+open, "others may open it")
	h.refused(create+"--dhchap-key-file "+dir+"/none", "no such file")
	h.refused(create+"--dhchap-key-file - --dhchap-ctrlr-key-file -", "both to be read from standard input")
	h.refused(create+"--curl --dhchap-key-file "+bad, "takes a secret, which is not printed")
	for _, flag := range []string{"--dhchap-key-file " + bad, "--dhchap-ctrlr-key-file " + bad} {
		out, errs, exit := h.run(strings.Fields(create + flag)...)
		if exit == 0 || !strings.Contains(errs, "DHHC-1:HH:BASE64:") || strings.Contains(out+errs, "planted") {
			t.Errorf("%s: exit %d, %s%s", flag, exit, out, errs)
		}
	}
	if out := h.ok(create + "--curl"); !strings.HasPrefix(out, "curl ") {
		t.Error(out)
	}
}
