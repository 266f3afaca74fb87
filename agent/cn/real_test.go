package cn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/aio"
	"github.com/virtual-disk-array/vda/module/lvol"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/program/child"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/vdatgt"
)

// tgt is a data plane: a vda_tgt inside the test, or the spdk_tgt that
// SPDK_TGT names.
type tgt struct {
	t      testing.TB
	socket string
	spdk   bool
	apart  bool // a vda_tgt in a process of its own, which stop kills
	cancel context.CancelFunc
	done   chan error
	proc   *os.Process // of one of its own
}

func newTgt(t testing.TB, isSPDK bool) *tgt {
	dir, err := os.MkdirTemp("", "tgt") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	g := &tgt{t: t, socket: dir + "/s", spdk: isSPDK}
	g.start()
	t.Cleanup(func() {
		g.stop()
		_ = os.RemoveAll(dir)
	})
	return g
}

// nextCore spreads the processes of SPDK, which poll.
var nextCore atomic.Int32

func (g *tgt) start() {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel, g.done = cancel, make(chan error, 1)
	if g.spdk || g.apart {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), apartEnv+"="+g.socket)
		if g.spdk {
			core := int(nextCore.Add(1)-1) % runtime.NumCPU()
			cmd = exec.CommandContext(ctx, os.Getenv("SPDK_TGT"), "--rpc-socket", g.socket, "--wait-for-rpc", "--no-pci", "--no-huge", "-s", "1024",
				"-m", fmt.Sprintf("%#x", 1<<core), "--disable-cpumask-locks")
		}
		if os.Getenv("VDA_TEST_LOG") != "" {
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		}
		if err := child.Start(cmd); err != nil {
			g.t.Fatal(err)
		}
		g.proc = cmd.Process
		go func() {
			_ = cmd.Wait() // killed
			_ = os.Remove(g.socket)
			g.done <- nil
		}()
	} else {
		log := slog.DiscardHandler
		if os.Getenv("VDA_TEST_LOG") != "" {
			log = planetest.Log().With("tgt", g.socket).Handler()
		}
		x, err := vdatgt.New(vdatgt.Config{RPCSocket: g.socket, WaitForRPC: true, BufferMemory: 64 << 20, Log: slog.New(log)})
		if err != nil {
			g.t.Fatal(err)
		}
		go func() { g.done <- x.Run(ctx) }()
	}
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	wait, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if _, err := c.WaitReady(wait); err != nil {
		g.t.Fatal(err)
	}
	if err := c.BdevSetOptions(wait, spdk.BdevSetOptions{AutoExamine: spdk.Ptr(false)}); err != nil {
		g.t.Fatal(err)
	}
	if err := c.FrameworkStartInit(wait); err != nil {
		g.t.Fatal(err)
	}
}

func (g *tgt) stop() {
	if g.cancel == nil {
		return
	}
	g.cancel()
	g.cancel = nil
	if err := <-g.done; err != nil {
		g.t.Errorf("vda_tgt: %v", err)
	}
}

// objects returns the names of all that the data plane holds.
func (g *tgt) objects() []string {
	g.t.Helper()
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	var names []string
	bdevs, err1 := c.BdevGetBdevs(ctx)
	for _, b := range bdevs {
		names = append(names, "bdev "+b.Name)
	}
	ctrlrs, err2 := c.BdevNvmeGetControllers(ctx)
	for _, x := range ctrlrs {
		names = append(names, "controller "+x.Name)
	}
	subs, err3 := c.NvmfGetSubsystems(ctx)
	for _, s := range subs {
		if s.Subtype != "Discovery" {
			names = append(names, "subsystem "+s.NQN)
		}
	}
	stores, err4 := c.BdevLvolGetLvstores(ctx)
	for _, s := range stores {
		names = append(names, "lvstore "+s.Name)
	}
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			g.t.Fatal(err)
		}
	}
	return names
}

// paths are the states of the paths of an attached controller.
func (g *tgt) paths(name string) (states []string) {
	g.t.Helper()
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	all, err := c.BdevNvmeGetControllers(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, x := range all {
		for i := range x.Ctrlrs {
			if x.Name == name {
				states = append(states, x.Ctrlrs[i].State)
			}
		}
	}
	return states
}

// olderThan reports that the data plane is of a version before major.minor.
func (g *tgt) olderThan(major, minor int) bool {
	g.t.Helper()
	c, err := spdk.New(spdk.Config{Socket: g.socket})
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	v, err := c.GetVersion(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	return !v.AtLeast(major, minor)
}

var nextPort atomic.Int32

// freePort returns a port that nothing listens on now, from below those that
// the system gives to connections.
func freePort(t testing.TB) string {
	for range 1000 {
		port := fmt.Sprint(21000 + (int(nextPort.Add(1))+os.Getpid()*61)%11000)
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// planes runs a test on vda_tgt, and once more with an spdk_tgt as the data
// plane of the first cn (or dn) when SPDK_TGT names one.
func planes(t *testing.T, test func(t *testing.T, dn0, cn0 bool)) {
	if os.Getenv("SPDK_TGT") == "" {
		t.Parallel()
		test(t, false, false)
		return
	}
	// One after the other: each spdk_tgt takes a core to itself.
	t.Run("vda_tgt", func(t *testing.T) { test(t, false, false) })
	t.Run("spdk_tgt on cn0", func(t *testing.T) { test(t, false, true) })
	t.Run("spdk_tgt on dn0", func(t *testing.T) { test(t, true, false) })
}

// unhurried is a keep-alive time-out of connections in tests. Data planes and hosts of
// one process, on a machine that does not let it run for seconds, would give one
// another up, and hosts would meet path errors and closed paths, as they must. A data
// plane that a test ends closes its connections.
const unhurried = 10 * time.Minute

// reals makes a lab on real data planes; pds are aio files when aio is set.
func reals(t *testing.T, cns int, aio, spdkDN, spdkCN bool) (l *lab, dnTgts, cnTgts []*tgt) {
	return realsOn(t, cns, aio, firsts(spdkDN, spdkCN), unhurried, func(*tgt, string) {})
}

// firsts puts the first dn, or cn, on SPDK.
func firsts(spdkDN, spdkCN bool) func(node string) bool {
	return func(node string) bool { return spdkDN && node == "dn0" || spdkCN && node == "cn0" }
}

// realsOn is reals on data planes that configure has changed before the agents
// come; it is given the port that they will listen on. onSPDK says which nodes
// ("dn0", "cn1") are on SPDK. A keepAlive of 0 is the agents' own.
func realsOn(t *testing.T, cns int, aio bool, onSPDK func(node string) bool, keepAlive time.Duration,
	configure func(g *tgt, port string)) (l *lab, dnTgts, cnTgts []*tgt) {
	l = &lab{T: t, term: 1}
	for i := range 2 {
		g, port := newTgt(t, onSPDK(fmt.Sprint("dn", i))), freePort(t)
		configure(g, port)
		dnTgts = append(dnTgts, g)
		l.addDN(i, planetest.NodeConfig{Socket: g.socket, Port: port})
		if aio {
			l.pdConf = append(l.pdConf, fmt.Sprintf(`{"type":"aio","filename":%q}`, usedPD(t, i)))
		}
	}
	for i := range cns {
		g, port := newTgt(t, onSPDK(fmt.Sprint("cn", i))), freePort(t)
		configure(g, port)
		cnTgts = append(cnTgts, g)
		l.addCN(i, planetest.NodeConfig{Socket: g.socket, Port: port, KeepAlive: keepAlive})
	}
	l.array()
	return l, dnTgts, cnTgts
}

// usedDisk returns a file of 64 MiB on which somebody has left data.
func usedDisk(t *testing.T) string {
	t.Helper()
	name := t.TempDir() + "/disk"
	left := bytes.Repeat([]byte("left by the last tenant "), 1<<20)
	if err := errors.Join(os.WriteFile(name, left, 0o600), os.Truncate(name, 64<<20)); err != nil {
		t.Fatal(err)
	}
	return name
}

// usedPD returns the file of pd i, which carries its stamp, and data that
// somebody has left where its vds will be.
func usedPD(t *testing.T, i int) string {
	t.Helper()
	name := t.TempDir() + "/disk"
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 64<<20)); err != nil {
		t.Fatal(err)
	}
	reg := bdev.NewRegistry()
	d, err := aio.New(aio.Config{Name: "pd", Filename: name, BlockSize: 4096, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(d); err != nil {
		t.Fatal(err)
	}
	stores, opts := lvol.New(lvol.Config{Registry: reg}), lvol.StoreOpts{ClusterSize: 1 << 20, Clear: lvol.ClearNone}
	if _, err := stores.CreateStore("pd", "vda-"+cluster[:16]+"-"+id("a0", i), opts); err != nil {
		t.Fatal(err)
	}
	reg.Close()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// One cluster of 1 MiB is the lvstore's own.
	_, err = f.WriteAt(bytes.Repeat([]byte("left by the last tenant "), 1<<20), 1<<20)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// disk connects to the exporter on controller node i.
func (l *lab) disk(i int) *host.Namespace {
	l.Helper()
	ns, err := l.reach(i)
	if err != nil {
		l.Fatal(err)
	}
	return ns
}

func (l *lab) reach(i int) (*host.Namespace, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: l.cns[i].port, SubNQN: expNQN, HostNQN: host0, Queues: 1,
		KeepAlive: unhurried})
	if err != nil {
		return nil, err
	}
	l.Cleanup(c.Close)
	ns := c.Namespace(1)
	if ns == nil {
		return nil, fmt.Errorf("cn%d shows no namespace", i)
	}
	return ns, nil
}

const ioSize = 1 << 20

// write fills the disk with a pattern of seed.
func write(t *testing.T, ns *host.Namespace, seed byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for off := int64(0); off < ns.Size(); off += ioSize {
		if err := ns.WriteAt(ctx, pattern(seed, off), off); err != nil {
			t.Fatal(err)
		}
	}
}

func pattern(seed byte, off int64) []byte {
	p := bytes.Repeat([]byte{seed}, ioSize)
	for i := 0; i < len(p); i += 512 {
		copy(p[i:], fmt.Sprintf("%016x", off+int64(i)))
	}
	return p
}

// verify reads all of the disk: the pattern of seed, or zeros for 0.
func verify(t *testing.T, ns *host.Namespace, seed byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	got := make([]byte, ioSize)
	for off := int64(0); off < ns.Size(); off += ioSize {
		if err := ns.ReadAt(ctx, got, off); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, ioSize)
		if seed != 0 {
			want = pattern(seed, off)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("wrong data in the MiB at byte %d", off)
		}
	}
}

func TestRealFullPath(t *testing.T) { planes(t, realFullPath) }

func realFullPath(t *testing.T, spdkDN, spdkCN bool) {
	l, dnTgts, cnTgts := reals(t, 2, false, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	a, b := l.disk(0), l.disk(1)
	if a.Size() != 16<<20 || b.Size() != 16<<20 || a.BlockSize() != 4096 {
		t.Fatalf("sizes %d and %d, block size %d", a.Size(), b.Size(), a.BlockSize())
	}
	verify(t, a, 0)
	write(t, a, 0xa5)
	verify(t, b, 0xa5)
	write(t, b, 0x5a)
	verify(t, a, 0x5a)
	if a.ANA() != host.ANAOptimized || b.ANA() != host.ANANonOptimized {
		t.Errorf("ANA %v and %v", a.ANA(), b.ANA())
	}
	for _, i := range []int{1, 0} {
		c := l.cntlr(i, 0)
		c.Deleted, c.DestroyData = true, i == 0
		l.good(i, c)
	}
	l.fence(true)
	for _, g := range append(dnTgts, cnTgts...) {
		if o := g.objects(); len(o) > 0 {
			t.Errorf("left: %v", o)
		}
	}
}

func TestRealSwitchOfPrimary(t *testing.T) { planes(t, realSwitchOfPrimary) }

func realSwitchOfPrimary(t *testing.T, spdkDN, spdkCN bool) {
	l, _, cnTgts := reals(t, 2, false, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	write(t, l.disk(0), 1)
	l.spec.Create = false
	all := func(primary int, want byte) {
		for i, g := range cnTgts {
			ns := l.disk(i)
			if i != primary && g.spdk && g.olderThan(23, 9) { // hosts cannot use its proxies
				if ns.ANA() != host.ANAInaccessible {
					t.Errorf("cn%d is secondary, on an SPDK before 23.09, and its path is %v", i, ns.ANA())
				}
				continue
			}
			verify(t, ns, want)
		}
	}
	for round, primary := range []int{1, 0, 1} {
		l.term++
		l.up(primary)
		all(primary, byte(round+1))
		write(t, l.disk(primary), byte(round+2))
		all(primary, byte(round+2))
	}
}

func TestRealRestarts(t *testing.T) { planes(t, realRestarts) }

func realRestarts(t *testing.T, spdkDN, spdkCN bool) {
	l, dnTgts, cnTgts := reals(t, 2, true, spdkDN, spdkCN)
	l.leased()
	l.up(0)
	verify(t, l.disk(0), 0)
	write(t, l.disk(0), 7)
	l.spec.Create = false

	for i, g := range cnTgts {
		g.stop()
		g.start()
		planetest.Eventually(t, func() string {
			if o := g.objects(); !strings.Contains(fmt.Sprint(o), expNQN) {
				return fmt.Sprintf("cn%d holds %v", i, o)
			}
			return ""
		})
		l.checked() // else what is not noticed yet is taken for well
		l.healthy(i)
	}
	l.healthy(1)
	verify(t, l.disk(1), 7)

	for _, g := range dnTgts {
		g.stop()
		g.start()
	}
	l.checked()
	l.healthy(0)
	l.healthy(1)
	verify(t, l.disk(0), 7)

	l.cns[0].stop(l)
	cnTgts[0].stop()
	cnTgts[0].start()
	l.cns[0].start(l)
	l.leased()
	l.checked()
	l.healthy(0)
	l.healthy(1)
	verify(t, l.disk(1), 7)
}

// The smallest array that a portal takes comes up.
func TestRealSmallestArray(t *testing.T) { planes(t, realSmallestArray) }

func realSmallestArray(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 1, false, spdkDN, spdkCN)
	l.vdSize, l.spec.Size = 1<<20, 1<<20 // striped over two vds
	for _, m := range l.spec.Grps[0].Columns {
		m.DataSize = l.vdSize
	}
	l.leased()
	l.up(0)
	ns := l.disk(0)
	write(t, ns, 0x5a)
	verify(t, ns, 0x5a)
}

func TestRealDiskInUseIsNotFormatted(t *testing.T) {
	t.Parallel()
	l, _, _ := reals(t, 0, true, false, false)
	name := t.TempDir() + "/xfs"
	if err := errors.Join(os.WriteFile(name, []byte("XFSB and more of it"), 0o600), os.Truncate(name, 64<<20)); err != nil {
		t.Fatal(err)
	}
	r, err := l.dns[0].a.Sync(context.Background(), &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: l.dns[0].id, Version: 1,
		Pds: []*apiv1.PdSpec{{Id: id("a0", 0), Name: "pd0", ConfJson: fmt.Sprintf(`{"type":"aio","filename":%q}`, name), Format: true}}})
	if err != nil || len(r.States) != 1 || !strings.Contains(r.States[0].ErrorMsg, "XFS") {
		t.Errorf("%v, %v", r, err)
	}
	if head, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(head, []byte("XFSB and more of it")) {
		t.Errorf("the disk has changed: %v", err)
	}
}
