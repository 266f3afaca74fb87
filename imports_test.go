package vda_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// may says for each package which others of this module it may import. A name
// stands for the package and those in its folder, unless they have a line of
// their own; within one name everything may be imported. A line may name only
// what stands below it, so that all arrows point down. The root package, which
// has the nouns, may be imported by all, and imports the standard library only.
var may = []struct{ name, imports string }{
	{"cmd", "agent/cn agent/dn cli csi monitor portal program sandbox spdk/rpccli store store/dbcli vdatgt/tgtcli"},
	{"packaging", ""},
	{"test", "csi csi/linux csi/node nvmf/dhchap nvmf/host program sandbox/dataplane sandbox/stamp spdk"},
	{"sim", "agent agent/cn agent/dn agent/planetest api array client member module/mirror/core monitor nvmf/dhchap pki portal rpc spdk " +
		"store store/dbcli syncer sim/ledger sim/simnet"},
	{"sim/ledger", ""},
	{"sim/simnet", ""},
	{"sandbox", "nvmf/host program sandbox/dataplane sandbox/stamp"},
	{"sandbox/dataplane", ""},
	{"sandbox/stamp", ""},
	{"cli", "api client pki program reason"},

	// volumes of orchestrators
	{"csi", "api client csi/controller csi/linux csi/node csi/volume daemon daemon/httpd pki program reason"},
	{"csi/controller", "api client csi/volume pki reason"},
	{"csi/linux", "csi/node csi/volume reason"},
	{"csi/node", "csi/volume reason"},
	{"csi/volume", "nvmf/dhchap"},

	// control plane
	{"portal/portaltest", "api client placement portal reason rpc store syncer"},
	{"portal", "api array daemon daemon/httpd member nvmf/dhchap pki placement portal/discovery portal/guess portal/oidc portal/web program " +
		"reason rpc store support syncer"},
	{"portal/web", "api portal/guess"},
	{"portal/oidc", "reason"},
	{"portal/guess", ""},
	{"portal/discovery", "bdev nvme nvmf/dhchap nvmf/nvmftgt reason"},
	{"monitor", "api array daemon daemon/httpd member pki program reason rpc store syncer"},
	{"store/dbcli", "pki program reason store syncer"},
	{"syncer", "api array member pki placement reason rpc store"},
	{"array", "placement store"},
	{"placement", "blobstore/format"},
	{"store", "pki program reason"},

	// agents
	{"agent/dn", "agent api blobstore/format disk nvme reason spdk"},
	{"agent/cn", "agent agent/plane api blobstore/format nvme reason spdk"},
	{"agent/agenttest", "api"},
	{"agent/planetest", "agent bdev blobstore/format disk module/mirror module/mirror/core module/mirror/label nvme spdk"},
	{"agent", "agent/plane api daemon daemon/httpd disk member nvme nvmf/host pki program reason rpc spdk support"},
	{"agent/plane", "spdk"},
	{"disk", "blobstore/format"},

	// data plane
	{"vdatgt/tgtcli", "bdev blobstore blobstore/check blobstore/format daemon module program vdatgt"},
	{"vdatgt", "bdev daemon daemon/httpd module module/bdevnvme module/lvol module/mirror module/mirror/label nvme nvmf/dhchap " +
		"nvmf/nvmftgt spdk"},
	{"nvmf/nvmftgt", "bdev nvme nvmf/dhchap nvmf/tcp"},
	{"module/lvol", "bdev blobstore blobstore/format nvme"},
	{"module/bdevnvme", "bdev nvme nvmf/dhchap nvmf/host"},
	{"module/mirror", "bdev module/mirror/core module/mirror/label nvme"},
	{"module/mirror/core", "module/mirror/label"},
	{"module/mirror/label", ""},
	{"module", "bdev nvme"},
	{"nvmf/host", "bdev nvme nvmf/dhchap nvmf/tcp"},
	{"nvmf/tcp", "bdev"},
	{"nvmf/dhchap", ""},
	{"blobstore/check", "bdev blobstore blobstore/format"},
	{"blobstore", "bdev blobstore/format nvme"},
	{"bdev", "nvme"},

	// ground
	{"blobstore/format", ""},
	{"client", "api pki reason rpc"},
	{"spdk/rpccli", "docs program reason spdk"},
	{"member", "api pki program reason rpc"},
	{"rpc", "api daemon daemon/httpd pki program reason support"},
	{"daemon/httpd", "daemon program reason"},
	{"program", "daemon reason"},
	{"pki", ""},
	{"daemon", "reason"},
	{"docs", ""},
	{"reason", ""},
	{"support", ""},
	{"spdk/spdktest", "spdk"},
	{"spdk", ""},
	{"nvme", ""},
	{"api", ""},
	{"vda", ""}, // the root
}

// line returns the index in may of the line that a package belongs to, -1 for
// none.
func line(rel string) int {
	best := -1
	for i, l := range may {
		if (rel == l.name || strings.HasPrefix(rel, l.name+"/")) && (best < 0 || len(l.name) > len(may[best].name)) {
			best = i
		}
	}
	return best
}

func TestImports(t *testing.T) {
	for i, l := range may {
		for _, to := range strings.Fields(l.imports) {
			if j := line(to); j < 0 || may[j].name != to {
				t.Errorf("%s may import %s, which has no line", l.name, to)
			} else if j <= i {
				t.Errorf("%s may import %s, which does not stand below it", l.name, to)
			}
		}
	}
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(module))
	// rel is a package's path below the module's, "vda" for its root.
	rel := func(path string) (string, bool) {
		if path == root {
			return "vda", true
		}
		return strings.CutPrefix(path, root+"/")
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(l)
		pkg, _ := rel(words[0])
		from := line(pkg)
		if from < 0 {
			t.Errorf("%s has no line: give it one here, and a place in ARCHITECTURE.md", pkg)
			continue
		}
		for _, path := range words[1:] {
			imported, ours := rel(path)
			switch to := line(imported); {
			case !ours:
				if pkg == "vda" && strings.Contains(path, ".") {
					t.Errorf("the root imports %s: the nouns use the standard library only", path)
				}
			case to == from || imported == "vda":
			case to < 0 || !slices.Contains(strings.Fields(may[from].imports), may[to].name):
				t.Errorf("%s imports %s, which it may not", pkg, imported)
			}
		}
	}
}

// TestDataPlaneLinksNoGRPC: vda_tgt is driven by JSON-RPC and serves HTTP; a
// package that it shares with the daemons must not bring gRPC into it.
func TestDataPlaneLinksNoGRPC(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/vda_tgt", "./cmd/vda_rpc").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.ContainsFunc(deps, func(d string) bool { return strings.HasSuffix(d, "/daemon/httpd") }) {
		t.Error("vda_tgt does not serve HTTP by daemon/httpd")
	}
	for _, d := range deps {
		if d == "google.golang.org/grpc" || strings.HasPrefix(d, "google.golang.org/grpc/") {
			t.Errorf("vda_tgt or vda_rpc links %s", d)
		}
	}
}
