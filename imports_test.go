package vda_test

import (
	"os/exec"
	"strings"
	"testing"
)

// layers is the block diagram: a package may import what stands below it, and
// its own sub-folders' packages on the same line. Each line is a layer;
// packages of different names on one line must not import each other.
var layers = []string{
	"cmd test sim",
	"sandbox cli",
	"portal monitor",
	"syncer", // desired state of a node, from rows to the wire and back
	"placement store",
	"agent/dn agent/cn agent/agenttest",
	"agent",
	"disk",                    // what is on a disk, and whether it may be formatted
	"target",                  // vda_tgt: JSON-RPC over everything below
	"bdev/lvol bdev/bdevnvme", // block devices with a protocol or a format of their own
	"blobstore nvmf/target",   //
	"nvmf/host",               //
	"bdev/malloc bdev/null bdev/aio bdev/raid bdev/delay bdev/errorinj bdev/bdevtest", //
	"bdev",        // what a block device is
	"spdk",        // JSON-RPC, both sides
	"nvme daemon", // wire formats; what gRPC daemons share
	"reason",      // errors in the words of a person
	"api",         // gRPC contract
	"vda",         // the nouns
}

// place returns the layer and the name on it that a package belongs to.
func place(pkg string) (layer int, name string) {
	if pkg == "vda" {
		return len(layers) - 1, "vda"
	}
	rel := strings.TrimPrefix(pkg, "vda/")
	layer = -1
	for i, line := range layers {
		for _, n := range strings.Fields(line) {
			if (rel == n || strings.HasPrefix(rel, n+"/")) && len(n) > len(name) {
				layer, name = i, n
			}
		}
	}
	return layer, name
}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		from, name := place(words[0])
		if from < 0 {
			t.Errorf("%s has no layer: give it one in this test and in ARCHITECTURE.md", words[0])
			continue
		}
		for _, imported := range words[1:] {
			if imported != "vda" && !strings.HasPrefix(imported, "vda/") {
				if name == "vda" && strings.Contains(imported, ".") {
					t.Errorf("%s imports %s: the nouns use the standard library only", words[0], imported)
				}
				continue
			}
			to, toName := place(imported)
			if to < from || to == from && toName != name {
				t.Errorf("%s imports %s, which does not stand below it", words[0], imported)
			}
		}
	}
}
