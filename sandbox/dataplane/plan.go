// Package dataplane says which data plane a node of a test or a sandbox runs
// on, and how that one is started. It is the one place that knows the
// arguments of both programs.
//
// # Environment
//
//	SPDK_TGT    path of SPDK's spdk_tgt (a script that sets LD_LIBRARY_PATH will do)
//	DATA_PLANE  vda: vda_tgt on every node (the default); spdk: spdk_tgt on every
//	            node; mixed: spdk_tgt on dn0 and cn0, vda_tgt on the others, so that
//	            each stripe lies on one of each and each failover goes from one to
//	            the other; mixed:dn0,dn1: spdk_tgt on the nodes named
//	SPDK_ARGS   arguments in place of "--no-huge -s 1024" (conformance: 2048), such as
//	            "-s 1024" for huge pages
//
// # Cores
//
// spdk_tgt polls: it takes a whole core however little it has to do, and two
// that share a core wait for each other's time slice, 4 ms a hop. So
// controller nodes are spread over the cores from the first on and disk nodes
// from the second on: with two cores, mixed has one polling process a core,
// and spdk a controller node and a disk node on each. Interrupt mode is of no
// use here: a controller node cannot attach over TCP in it (-95), and
// spdk_tgt's iSCSI poll group has no interrupt, so that a disk node polls all
// the same.
package dataplane

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Kind is a data plane.
type Kind string

// The data planes.
const (
	VDA  Kind = "vda"
	SPDK Kind = "spdk"
)

// StartUp are the calls, as words for vda_rpc, that take a data plane started
// with --wait-for-rpc to work. The first is refused until the socket is
// there. An lvstore on a vd must not be found by the disk node, so automatic
// examination is off.
var StartUp = [][]string{{"bdev_set_options", "-d"}, {"framework_start_init"}, {"framework_wait_init"}}

// Plan says which node runs on which data plane. The zero Plan is vda_tgt
// everywhere.
type Plan struct {
	word   string   // of DATA_PLANE; "" when unset
	nodes  []string // on spdk_tgt, when word is "mixed"
	tgt    string   // path of spdk_tgt; "" when there is none
	memory []string // arguments of a node
	roomy  []string // arguments of the one process of a test, which makes many memory disks
	cores  int
	disks  bool // SPDK on disk nodes only
}

// FromEnv reads the plan from the environment. The error is one line.
func FromEnv() (Plan, error) {
	return read(os.Getenv, runtime.NumCPU())
}

func read(getenv func(string) string, cores int) (Plan, error) {
	p := Plan{tgt: getenv("SPDK_TGT"), memory: []string{"--no-huge", "-s", "1024"}, roomy: []string{"--no-huge", "-s", "2048"}, cores: cores}
	if extra := strings.Fields(getenv("SPDK_ARGS")); len(extra) > 0 {
		p.memory, p.roomy = extra, extra
	}
	text := getenv("DATA_PLANE")
	word, list, named := strings.Cut(text, ":")
	p.word = word
	switch {
	case word == "mixed" && !named:
		p.nodes = []string{"dn0", "cn0"}
	case word == "mixed" && list != "":
		p.nodes = strings.Split(list, ",")
	case named || !slices.Contains([]string{"", "vda", "spdk", "mixed"}, word):
		return Plan{}, fmt.Errorf("DATA_PLANE=%q must be one of vda, spdk, mixed, mixed:NODE,NODE", text)
	}
	if (word == "spdk" || word == "mixed") && p.tgt == "" {
		return Plan{}, fmt.Errorf("DATA_PLANE=%s needs SPDK_TGT=/path/to/spdk_tgt", text)
	}
	if p.tgt != "" {
		path, err := exec.LookPath(p.tgt)
		if err != nil {
			return Plan{}, fmt.Errorf("SPDK_TGT=%q is not a program: %w", p.tgt, err)
		}
		p.tgt = path
	}
	return p, nil
}

// Of returns what a node ("dn0", "cn1") runs on.
func (p Plan) Of(node string) Kind {
	if p.disks && !isDisk(node) {
		return VDA
	}
	if p.word == "spdk" || p.word == "mixed" && slices.Contains(p.nodes, node) {
		return SPDK
	}
	return VDA
}

// OnDisks is the plan with SPDK on disk nodes only: the controllers of a mirrored
// array are on vda_tgt.
func (p Plan) OnDisks() Plan {
	p.disks = true
	p.nodes = slices.DeleteFunc(slices.Clone(p.nodes), func(n string) bool { return !isDisk(n) })
	return p
}

func isDisk(node string) bool { return strings.HasPrefix(node, "dn") }

// Check refuses a plan that names nodes that there are not.
func (p Plan) Check(nodes []string) error {
	for _, n := range p.nodes {
		if !slices.Contains(nodes, n) {
			return fmt.Errorf("DATA_PLANE=mixed:%s: there is no node %q; there are %s", strings.Join(p.nodes, ","), n, strings.Join(nodes, ", "))
		}
	}
	return nil
}

// Kinds are the data planes to run one by one, for tests that have no
// cluster: both when SPDK_TGT is set, unless DATA_PLANE names one.
func (p Plan) Kinds() []Kind {
	switch {
	case p.word == "vda" || p.tgt == "":
		return []Kind{VDA}
	case p.word == "spdk":
		return []Kind{SPDK}
	}
	return []Kind{VDA, SPDK}
}

// UsesSPDK reports whether any node runs on SPDK.
func (p Plan) UsesSPDK() bool { return p.word == "spdk" || len(p.nodes) > 0 }

// Describe is the line that says what a run of these nodes ran on.
func (p Plan) Describe(nodes []string) string {
	var on []string
	for _, n := range nodes {
		if p.Of(n) == SPDK {
			on = append(on, fmt.Sprintf("%s (polling on core %d)", n, p.core(n)))
		}
	}
	switch {
	case len(on) == len(nodes):
		return "data plane: spdk_tgt " + strings.Join(p.memory, " ") + " on " + strings.Join(on, ", ")
	case len(on) > 0:
		return "data plane: spdk_tgt " + strings.Join(p.memory, " ") + " on " + strings.Join(on, ", ") + "; vda_tgt on the others"
	case p.tgt == "":
		return "data plane: vda_tgt only, as SPDK_TGT is not set"
	}
	return "data plane: vda_tgt only, as DATA_PLANE is neither spdk nor mixed"
}

// DescribeKinds is the line that says what a run of Kinds ran on.
func (p Plan) DescribeKinds() string {
	switch k := p.Kinds(); {
	case len(k) == 2:
		return "data plane: vda_tgt, and spdk_tgt " + strings.Join(p.roomy, " ")
	case k[0] == SPDK:
		return "data plane: spdk_tgt only, as DATA_PLANE=spdk"
	case p.tgt == "":
		return "data plane: vda_tgt only, as SPDK_TGT is not set"
	}
	return "data plane: vda_tgt only, as DATA_PLANE=vda"
}

// Argv is the command that starts a node's data plane, waiting for StartUp.
// vdaTgt is the path of vda_tgt.
func (p Plan) Argv(node, vdaTgt, socket string) []string {
	if p.Of(node) == VDA {
		return []string{vdaTgt, "--rpc-socket", socket, "--wait-for-rpc"}
	}
	return p.spdkArgv(socket, p.core(node), p.memory)
}

// KindArgv is the command that starts a data plane of some kind, on the first
// core when it polls.
func (p Plan) KindArgv(k Kind, vdaTgt, socket string) []string {
	if k == VDA {
		return []string{vdaTgt, "--rpc-socket", socket, "--wait-for-rpc"}
	}
	return p.spdkArgv(socket, 0, p.roomy)
}

// spdkArgv: no PCI devices are looked for; core locks are of the machine, and
// cores are shared here; without trace entries nothing is left in /dev/shm,
// which hosts of a lab share.
func (p Plan) spdkArgv(socket string, core int, memory []string) []string {
	argv := []string{p.tgt, "-r", socket, "--wait-for-rpc", "-m", fmt.Sprintf("%#x", 1<<core), "--disable-cpumask-locks",
		"--no-pci", "--iova-mode=va", "--num-trace-entries", "0"}
	return append(argv, memory...)
}

// core spreads cns over the cores from the first on, dns from the second on.
func (p Plan) core(node string) int {
	n, _ := strconv.Atoi(strings.TrimLeft(node, "abcdefghijklmnopqrstuvwxyz"))
	if strings.HasPrefix(node, "dn") {
		n++
	}
	return n % max(p.cores, 1)
}
