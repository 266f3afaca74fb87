package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

const ownCluster = "c1057e00000000000000000000000001"

func node(n int) string { return fmt.Sprintf("d0%030x", n) }

// contender is an agent that wants a data plane: its state says that it is
// node n, or nothing for 0.
type contender struct {
	*agent.Node
	err error // of Connect
}

func contend(t *testing.T, socket, kind, dir string, n int) *contender {
	t.Helper()
	state, err := agent.OpenState(dir, kind)
	if err != nil {
		t.Fatal(err)
	}
	if n != 0 {
		accept(t, state, n, 1)
	}
	cfg := agent.Config{Socket: socket, StateDir: dir, Log: planetest.Log(), Address: vda.Listener{TrType: "tcp", TrAddr: "127.0.0.1",
		AdrFam: "ipv4", TrSvcID: "4420"}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := agent.NewPlane(cfg, kind)
	if err != nil {
		t.Fatal(err)
	}
	p.State = state
	c := &contender{Node: &agent.Node{Cfg: cfg, State: state, Plane: p, Log: cfg.Log}}
	c.err = p.Connect(context.Background())
	t.Cleanup(c.end)
	return c
}

func accept(t *testing.T, s *agent.State, n int, version uint64) {
	t.Helper()
	if err := s.Accept(agent.Claim{ClusterID: ownCluster, NodeID: node(n), Version: version, Vacant: true}, func() (proto.Message, error) {
		return &apiv1.SyncDnRequest{Pds: []*apiv1.PdSpec{{Id: "a0"}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (c *contender) end() {
	_ = c.Plane.Close()
	_ = c.State.Close()
}

func refusedFor(t *testing.T, err error, words ...string) {
	t.Helper()
	var foreign *agent.ForeignError
	if err == nil || !errors.As(err, &foreign) {
		t.Errorf("got %v", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// alias is another path to a socket, by which no lock is met.
func alias(t *testing.T, socket string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.sock")
	if err := os.Link(socket, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Two agents run on one data plane: the second one is refused and says whose it
// is, by whichever path it comes.
func TestADataPlaneHasOneOwner(t *testing.T) {
	t.Parallel()
	for _, vda := range []bool{true, false} {
		plane := planetest.NewPlane(t, planetest.NewCluster(), vda)
		first := contend(t, plane.Socket, "dn", t.TempDir(), 1)
		if first.err != nil {
			t.Fatal(first.err)
		}
		link := filepath.Join(t.TempDir(), "link.sock")
		if err := os.Symlink(plane.Socket, link); err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		plane.Changes()
		for _, socket := range []string{plane.Socket, link} {
			for _, kind := range []string{"dn", "cn"} {
				c := contend(t, socket, kind, filepath.Join(other, kind), 2)
				refusedFor(t, c.err, socket, "vda_dn_agent", fmt.Sprint("process ", os.Getpid()), first.Cfg.StateDir, node(1), ownCluster)
				c.end()
			}
		}
		c := contend(t, alias(t, plane.Socket), "cn", filepath.Join(other, "cn"), 2)
		refusedFor(t, c.err, "dn "+node(1), ownCluster[:16], "cn "+node(2), c.Cfg.StateDir)
		if n := plane.Changes(); n != 0 {
			t.Errorf("agents that were refused made %d changes", n)
		}
	}
}

// While its owner is down, the mark keeps others away, and the owner comes back
// as if nothing had been. A data plane that was restarted is anybody's.
func TestTheMarkWaitsForItsOwner(t *testing.T) {
	t.Parallel()
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	own, other, fresh := t.TempDir(), t.TempDir(), t.TempDir()
	c := contend(t, plane.Socket, "dn", own, 1)
	if c.err != nil {
		t.Fatal(c.err)
	}
	c.end()
	c = contend(t, plane.Socket, "dn", other, 2)
	refusedFor(t, c.err, "dn "+node(1), "dn "+node(2))
	c.end()
	c = contend(t, plane.Socket, "dn", fresh, 0) // it does not know who it is
	if c.err != nil {
		t.Error(c.err)
	}
	if err := c.MayServe(t.Context(), ownCluster, node(2)); vda.KindOf(err) != vda.FailedPrecondition ||
		!strings.Contains(err.Error(), "dn "+node(1)) {
		t.Errorf("a new agent may become node 2: %v", err)
	}
	if err := c.MayServe(t.Context(), ownCluster, node(1)); err != nil {
		t.Errorf("a new agent may not become node 1: %v", err)
	}
	c.end()
	c = contend(t, plane.Socket, "dn", own, 0)
	if c.err != nil {
		t.Error(c.err)
	}
	c.end()
	plane.Stop()
	plane.Start()
	if c = contend(t, plane.Socket, "dn", other, 0); c.err != nil {
		t.Error(c.err)
	}
}

// A node that holds nothing may be created again under another id; its data
// plane stays its own, also when the agent dies before the mark says so.
func TestTheMarkFollowsTheNode(t *testing.T) {
	t.Parallel()
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	dir := t.TempDir()
	c := contend(t, plane.Socket, "dn", dir, 1)
	if c.err != nil {
		t.Fatal(c.err)
	}
	accept(t, c.State, 2, 1)
	c.end()
	if c = contend(t, plane.Socket, "dn", dir, 0); c.err != nil {
		t.Fatal(c.err)
	}
	c.end()
	c = contend(t, plane.Socket, "dn", t.TempDir(), 1)
	refusedFor(t, c.err, "dn "+node(2))
}

// TestLockHelper is the process that TestADeadOwnerLocksNobodyOut kills.
func TestLockHelper(t *testing.T) {
	socket, dir := os.Getenv("VDA_LOCK_SOCKET"), os.Getenv("VDA_LOCK_DIR")
	if socket == "" {
		return
	}
	if c := contend(t, socket, "dn", dir, 1); c.err != nil {
		t.Fatal(c.err)
	}
	fmt.Println("owner")
	select {}
}

// An agent that is killed locks its successor out by nothing.
func TestADeadOwnerLocksNobodyOut(t *testing.T) {
	t.Parallel()
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockHelper$")
	cmd.Env = append(os.Environ(), "VDA_LOCK_SOCKET="+plane.Socket, "VDA_LOCK_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 5)
	if _, err := io.ReadFull(out, word); err != nil || string(word) != "owner" {
		t.Fatalf("%q, %v", word, err)
	}
	c := contend(t, plane.Socket, "dn", t.TempDir(), 2)
	refusedFor(t, c.err, fmt.Sprint("process ", cmd.Process.Pid))
	c.end()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if c = contend(t, plane.Socket, "dn", dir, 0); c.err != nil {
		t.Error(c.err)
	}
}

// What a second agent does to the mark while the owner runs is found out by
// the owner's next look at the data plane.
func TestAnOwnerThatWasReplacedStops(t *testing.T) {
	t.Parallel()
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	c := contend(t, plane.Socket, "dn", t.TempDir(), 1)
	if c.err != nil {
		t.Fatal(c.err)
	}
	if err := c.Plane.DropSubsystem(t.Context(), vda.OwnerNQN); err != nil {
		t.Fatal(err)
	}
	if other := contend(t, alias(t, plane.Socket), "dn", t.TempDir(), 2); other.err != nil {
		t.Fatal(other.err)
	}
	_, err := c.Inventory(t.Context())
	refusedFor(t, err, "dn "+node(2))
	if s := c.Plane.Status(); s.Ready || !strings.Contains(s.Why, node(2)) {
		t.Errorf("status %+v", s)
	}
}

// marked reports whether the data plane carries a mark.
func (c *contender) marked(t *testing.T) bool {
	t.Helper()
	subs, err := c.Plane.NvmfGetSubsystems(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subs {
		if s.NQN == vda.OwnerNQN {
			return true
		}
	}
	return false
}

// stall has the first call of a method on the mark wait, and later ones
// answered by then; begun is closed when the first is there.
func stall(plane *planetest.Plane, method string, then error) (begun, goOn chan struct{}) {
	begun, goOn = make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	plane.SetHook(func(m string, params map[string]any) error {
		if m != method || params["nqn"] != vda.OwnerNQN {
			return nil
		}
		if !first.CompareAndSwap(false, true) {
			return then
		}
		close(begun)
		<-goOn
		return nil
	})
	return begun, goOn
}

// A caller that is told that the last object is gone finds no mark, also when a look at
// the data plane was about to make one, or to take it off, at that moment.
func TestReleaseMeetsALook(t *testing.T) {
	t.Parallel()
	for method, markFirst := range map[string]bool{"nvmf_create_subsystem": false, "nvmf_delete_subsystem": true} {
		plane := planetest.NewPlane(t, planetest.NewCluster(), false)
		c := contend(t, plane.Socket, "dn", t.TempDir(), 1)
		if c.err != nil {
			t.Fatal(c.err)
		}
		var holds atomic.Bool
		c.Plane.Holds = holds.Load
		if !markFirst {
			if err := c.Plane.DropSubsystem(t.Context(), vda.OwnerNQN); err != nil {
				t.Fatal(err)
			}
		}
		holds.Store(!markFirst)
		begun, goOn := stall(plane, method, planetest.Refuse(syscall.ENODEV))
		looked, released := make(chan error, 1), make(chan struct{})
		go func() {
			_, err := c.Inventory(context.Background())
			looked <- err
		}()
		<-begun
		holds.Store(false)
		left := false
		go func() {
			defer close(released)
			c.Plane.Release(context.Background())
			left = c.marked(t)
		}()
		select { // it does not end before the look has; a while will do to see that
		case <-released:
		case <-time.After(200 * time.Millisecond):
		}
		close(goOn)
		<-released
		if err := <-looked; err != nil {
			t.Errorf("%s: %v", method, err)
		}
		if left || c.marked(t) {
			t.Errorf("%s: the mark is left", method)
		}
	}
}

// A pass that has carried out the last tombstone and is cut short, as by a
// lease that runs out, takes the mark off: the next one finds nothing to do.
func TestReleaseOfAPassThatWasCutShort(t *testing.T) {
	t.Parallel()
	plane := planetest.NewPlane(t, planetest.NewCluster(), false)
	c := contend(t, plane.Socket, "cn", t.TempDir(), 1)
	if c.err != nil || !c.marked(t) {
		t.Fatal(c.err, "or no mark")
	}
	c.Plane.Holds = func() bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Plane.Release(ctx)
	if c.marked(t) {
		t.Error("the mark is left")
	}
}
