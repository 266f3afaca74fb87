package csi

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/csi/controller"
	"github.com/virtual-disk-array/vda/csi/node"
	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/store"
)

// make csi runs 50.
var seeds = flag.Int("seeds", defaultSeeds, "seeds of TestFaults")

// TestFaults: an orchestrator makes, copies, publishes, stages and takes away volumes on two
// nodes, takes snapshots of one and of several at an instant, and restores them; calls are
// repeated, plugins die in the middle of them, and a controller's agent dies and is back. A
// volume is never written by two nodes, a copy holds what its source held, and in the end
// nothing is left over: no array, exporter, snapshot, connection or mount.
func TestFaults(t *testing.T) {
	c := newCluster(t, 2)
	const abreast = 5 // share the nodes' faults
	for first := range uint64(min(abreast, *seeds)) {
		t.Run(fmt.Sprint("from ", first), func(t *testing.T) {
			t.Parallel()
			for seed := first; seed < uint64(*seeds) && !t.Failed(); seed += abreast {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { newOrchestrator(t, c, seed).run() })
			}
		})
	}
}

// orchestrator is what Kubernetes is to a driver: it knows what it wants of each volume,
// and repeats calls until they succeed.
type orchestrator struct {
	*testing.T
	c    *cluster
	rnd  *rand.Rand
	ctl  *controller.Controller
	dir  string
	seed uint64

	machines []*machine
	nodes    []*node.Node
	volumes  []*vol

	group  *group // nil for none
	groups int    // that have been
}

// group is a snapshot of several volumes.
type group struct {
	id, name string
	members  map[*vol]part
}

// part is a volume's snapshot in a group.
type part struct{ snap, text string }

// vol is a volume, and how far it has come.
type vol struct {
	name, id string
	block    bool
	stage    stage
	node     int // where it is published
	context  map[string]string
	pub      map[string]string
	snap     string // id of a snapshot
	text     string // what is written to it, "" for nothing yet
	snapText string // what the snapshot holds
	copies   int    // volumes that have been made of it
}

type stage int

const (
	none stage = iota
	created
	attached // ControllerPublish
	staged
	mounted // NodePublish
)

func newOrchestrator(t *testing.T, c *cluster, seed uint64) *orchestrator {
	o := &orchestrator{T: t, c: c, rnd: rand.New(rand.NewPCG(seed, 16)), dir: t.TempDir(), seed: seed}
	ctl, err := controller.New(controller.Config{Portals: []string{c.addr}, Log: planetest.Log()})
	if err != nil {
		t.Fatal(err)
	}
	o.ctl = ctl
	t.Cleanup(ctl.Close)
	for i := range 2 {
		m := newMachine(t, fmt.Sprint("seed ", seed, " node ", i))
		o.machines = append(o.machines, m)
		o.nodes = append(o.nodes, o.plugin(m))
	}
	for i := range 2 {
		o.volumes = append(o.volumes, &vol{name: fmt.Sprintf("vol-%d-%d", seed, i), block: i == 1})
	}
	return o
}

// plugin starts a node's plugin, which knows nothing of what another did before.
func (o *orchestrator) plugin(m *machine) *node.Node {
	return node.New(node.Config{Host: m, FileSystems: m, Log: planetest.Log()})
}

// killed is the code of a call whose plugin has died.
var errKilled = status.Error(codes.Unavailable, "the plugin was killed")

// call makes a call, and may have its plugin die at one of its steps.
func (o *orchestrator) call(i int, fn func(n *node.Node) error) error {
	m := o.machines[i]
	if o.rnd.IntN(3) > 0 {
		return fn(o.nodes[i])
	}
	at := o.rnd.IntN(6) // a step that the call may have or not
	var once sync.Once
	dead := make(chan struct{})
	m.step = func(string) {
		if at--; at < 0 {
			once.Do(func() { close(dead) })
			runtime.Goexit() // as far as it came: nothing of the plugin runs any more
		}
	}
	result := make(chan error, 1)
	n := o.nodes[i]
	go func() {
		err := errKilled
		defer func() { result <- err }()
		err = fn(n)
	}()
	err := <-result
	m.step = nil
	select {
	case <-dead:
		o.nodes[i] = o.plugin(m)
		return errKilled
	default:
		return err
	}
}

// insist repeats a call until it succeeds, as orchestrators do, and once more now and then.
func (o *orchestrator) insist(what string, fn func() error) {
	o.Helper()
	deadline := time.Now().Add(10 * time.Minute)
	again := o.rnd.IntN(3) == 0
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := fn()
		switch status.Code(err) {
		case codes.OK:
			if !again {
				return
			}
			again = false
		case codes.Unavailable, codes.Aborted, codes.FailedPrecondition, codes.DeadlineExceeded, codes.ResourceExhausted:
		default:
			o.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(deadline) {
			o.Fatalf("%s, for minutes: %v", what, err)
		}
		time.Sleep(pause)
	}
}

func (o *orchestrator) run() {
	for range 14 {
		o.step(o.volumes[o.rnd.IntN(len(o.volumes))])
		o.stepGroup()
		if o.rnd.IntN(8) == 0 {
			o.restart(o.c.cns[o.rnd.IntN(len(o.c.cns))])
		}
	}
	for i := range len(o.volumes) { // copies last, or first, whether they have all data or not
		v := o.volumes[i]
		if o.seed%2 == 1 {
			v = o.volumes[len(o.volumes)-1-i]
		}
		for v.stage > none || v.snap != "" {
			o.back(v)
		}
	}
	if o.group != nil {
		o.Errorf("group snapshot %s is there without its volumes", o.group.id)
	}
	o.clean()
}

// restart has the agent of a node die, and be back.
func (o *orchestrator) restart(s *server) {
	s.restarts.Lock()
	defer s.restarts.Unlock()
	s.stopAgent()
	lis, err := net.Listen("tcp", s.name)
	if err != nil {
		o.Fatal(err)
	}
	s.startAgent(lis)
}

// step takes a volume forward, or back, or leaves it and looks at it.
func (o *orchestrator) step(v *vol) {
	switch o.rnd.IntN(9) {
	case 0, 1:
		o.back(v)
	case 2:
		o.snapshot(v)
	case 3:
		o.look(v)
	case 4:
		o.copy(v)
	default:
		o.forward(v)
	}
}

func (o *orchestrator) capability(v *vol) *csi.VolumeCapability {
	am := &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}
	if v.block {
		return &csi.VolumeCapability{AccessMode: am, AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}}
	}
	return &csi.VolumeCapability{AccessMode: am, AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}}
}

func (o *orchestrator) paths(v *vol) (staging, target string) {
	dir := filepath.Join(o.dir, fmt.Sprint("node", v.node), v.name)
	return dir + "-staging", dir + "-target"
}

// ctx is that of a call; one in four ends early, as when the orchestrator restarts.
func (o *orchestrator) ctx() (context.Context, context.CancelFunc) {
	if o.rnd.IntN(4) == 0 {
		return context.WithTimeout(o.Context(), time.Duration(o.rnd.IntN(30))*time.Millisecond)
	}
	return context.WithTimeout(o.Context(), time.Minute)
}

func (o *orchestrator) forward(v *vol) {
	ctx := o.Context()
	switch v.stage {
	case none:
		o.create(v, nil)
		v.text = ""
	case created:
		v.node = o.rnd.IntN(len(o.nodes))
		o.insist("publish "+v.name, func() error {
			ctx, cancel := o.ctx()
			defer cancel()
			r, err := o.ctl.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.id, NodeId: o.machines[v.node].nqn,
				VolumeCapability: o.capability(v), VolumeContext: v.context})
			if err == nil {
				v.pub = r.PublishContext
			}
			return err
		})
		// Another node does not get it.
		_, err := o.ctl.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.id, NodeId: o.machines[1-v.node].nqn,
			VolumeCapability: o.capability(v), VolumeContext: v.context})
		if status.Code(err) != codes.FailedPrecondition {
			o.Fatalf("%s is published to two nodes: %v", v.name, err)
		}
	case attached:
		staging, _ := o.paths(v)
		o.insist("stage "+v.name, func() error {
			return o.call(v.node, func(n *node.Node) error {
				_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: v.id, StagingTargetPath: staging, VolumeContext: v.context,
					PublishContext: v.pub, VolumeCapability: o.capability(v)})
				return err
			})
		})
	case staged:
		staging, target := o.paths(v)
		o.insist("publish "+v.name+" on its node", func() error {
			return o.call(v.node, func(n *node.Node) error {
				_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: v.id, StagingTargetPath: staging, TargetPath: target,
					PublishContext: v.pub, VolumeContext: v.context, VolumeCapability: o.capability(v)})
				return err
			})
		})
	case mounted:
		o.look(v)
		return
	}
	v.stage++
}

func (o *orchestrator) back(v *vol) {
	ctx := o.Context()
	staging, target := o.paths(v)
	switch v.stage {
	case none:
		return
	case created:
		if v.snap != "" {
			o.insist("delete the snapshot of "+v.name, func() error {
				_, err := o.ctl.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: v.snap})
				return err
			})
			v.snap = ""
			return
		}
		if o.group != nil && o.group.members[v].snap != "" {
			o.deleteGroup()
		}
		o.insist("delete "+v.name, func() error {
			ctx, cancel := o.ctx()
			defer cancel()
			_, err := o.ctl.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.id})
			return err
		})
	case attached:
		o.insist("unpublish "+v.name, func() error {
			ctx, cancel := o.ctx()
			defer cancel()
			_, err := o.ctl.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.id, NodeId: o.machines[v.node].nqn})
			return err
		})
	case staged:
		o.insist("unstage "+v.name, func() error {
			return o.call(v.node, func(n *node.Node) error {
				_, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: staging})
				return err
			})
		})
	case mounted:
		// What is published is not unstaged.
		_, err := o.nodes[v.node].NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: staging})
		if status.Code(err) != codes.FailedPrecondition {
			o.Fatalf("%s is unstaged under a workload: %v", v.name, err)
		}
		o.insist("unpublish "+v.name+" on its node", func() error {
			return o.call(v.node, func(n *node.Node) error {
				_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: target})
				return err
			})
		})
	}
	v.stage--
}

func (o *orchestrator) snapshot(v *vol) {
	if v.stage == none || v.snap != "" {
		return
	}
	o.insist("snapshot "+v.name, func() error {
		r, err := o.ctl.CreateSnapshot(o.Context(), &csi.CreateSnapshotRequest{Name: "snap-" + v.name, SourceVolumeId: v.id})
		if err == nil {
			v.snap = r.Snapshot.SnapshotId
		}
		return err
	})
	v.snapText = v.text
}

// stepGroup takes a snapshot of all volumes that there are at one instant, restores or deletes
// it, or leaves all as it is.
func (o *orchestrator) stepGroup() {
	switch o.rnd.IntN(5) {
	case 0, 1:
		o.takeGroup()
	case 2:
		if o.group != nil {
			for _, v := range o.volumes {
				if o.group.members[v].snap != "" {
					o.copy(v)
					return
				}
			}
		}
	case 3:
		if o.group != nil && o.rnd.IntN(3) == 0 {
			o.deleteGroup()
		}
	}
}

func (o *orchestrator) takeGroup() {
	g := &group{name: fmt.Sprintf("group-%d-%d", o.seed, o.groups), members: map[*vol]part{}}
	var ids []string
	for _, v := range o.volumes {
		if v.stage > none {
			ids = append(ids, v.id)
			g.members[v] = part{text: v.text}
		}
	}
	if o.group != nil || len(ids) == 0 {
		return
	}
	o.groups++
	o.insist("take "+g.name, func() error {
		ctx, cancel := o.ctx()
		defer cancel()
		r, err := o.ctl.CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: g.name, SourceVolumeIds: ids})
		if err != nil {
			return err
		}
		if g.id = r.GroupSnapshot.GroupSnapshotId; len(r.GroupSnapshot.Snapshots) != len(ids) || !r.GroupSnapshot.ReadyToUse {
			o.Fatalf("%s of %q is %v", g.name, ids, r.GroupSnapshot)
		}
		for _, s := range r.GroupSnapshot.Snapshots {
			for v, m := range g.members {
				if v.id == s.SourceVolumeId {
					g.members[v] = part{snap: s.SnapshotId, text: m.text}
				}
			}
		}
		return nil
	})
	for v, m := range g.members {
		if m.snap == "" {
			o.Fatalf("%s has no snapshot of %s", g.name, v.name)
		}
	}
	o.group = g
	// None goes alone.
	_, err := o.ctl.DeleteSnapshot(o.Context(), &csi.DeleteSnapshotRequest{SnapshotId: g.members[o.volumeIn(g)].snap})
	if status.Code(err) != codes.InvalidArgument {
		o.Fatalf("a member of %s is deleted alone: %v", g.name, err)
	}
}

// volumeIn is a volume of a group.
func (o *orchestrator) volumeIn(g *group) *vol {
	for _, v := range o.volumes {
		if g.members[v].snap != "" {
			return v
		}
	}
	o.Fatalf("%s has no volume", g.name)
	return nil
}

func (o *orchestrator) deleteGroup() {
	var ids []string
	for _, m := range o.group.members {
		ids = append(ids, m.snap)
	}
	o.insist("delete "+o.group.name, func() error {
		ctx, cancel := o.ctx()
		defer cancel()
		_, err := o.ctl.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: o.group.id, SnapshotIds: ids})
		return err
	})
	o.group = nil
}

// copy makes a volume of another one or of its snapshot, which then goes its own way. Its
// source may be taken away at once, and goes when all is copied.
func (o *orchestrator) copy(v *vol) {
	if v.stage == none || len(o.volumes) > 3 {
		return
	}
	v.copies++
	w := &vol{name: fmt.Sprintf("%s-copy%d", v.name, v.copies), block: v.block, text: v.text, stage: created}
	from := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.id}}}
	if v.snap != "" && o.rnd.IntN(3) > 0 {
		w.text = v.snapText
		from = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{
			SnapshotId: v.snap}}}
	}
	if o.group != nil && o.group.members[v].snap != "" && o.rnd.IntN(3) > 0 {
		m := o.group.members[v]
		w.text = m.text
		from = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{
			SnapshotId: m.snap}}}
	}
	o.create(w, from)
	o.volumes = append(o.volumes, w)
}

// create makes a volume, as large as its source or a little larger.
func (o *orchestrator) create(v *vol, from *csi.VolumeContentSource) {
	size := int64(4 << 20)
	if from != nil {
		size += o.rnd.Int64N(2) << 20
	}
	o.insist("create "+v.name, func() error {
		ctx, cancel := o.ctx()
		defer cancel()
		r, err := o.ctl.CreateVolume(ctx, &csi.CreateVolumeRequest{Name: v.name, VolumeCapabilities: []*csi.VolumeCapability{o.capability(v)},
			CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeContentSource: from,
			Parameters: map[string]string{"cntlrCnt": "2", "stripeCount": "2", "physicalRatio": "500"}})
		if err == nil {
			v.id, v.context = r.Volume.VolumeId, r.Volume.VolumeContext
		}
		return err
	})
}

// look writes to a mounted volume, and reads what was written before.
func (o *orchestrator) look(v *vol) {
	if v.stage != mounted {
		return
	}
	m := o.machines[v.node]
	_, target := o.paths(v)
	mt, there, err := m.At(target)
	if err != nil || !there {
		o.Fatalf("%s is not at %s: %v", v.name, target, err)
	}
	b := make([]byte, 4096)
	const at = 1 << 20
	if v.text != "" {
		err := m.io(mt.Device, func(ctx context.Context, ns *host.Namespace) error { return ns.ReadAt(ctx, b, at) })
		if err != nil || !strings.HasPrefix(string(b), v.text) {
			o.Fatalf("%s holds %.40q and not %q: %v", v.name, b, v.text, err)
		}
	}
	clear(b)
	v.text = fmt.Sprintf("%d of %s", o.rnd.IntN(1000), v.name)
	copy(b, v.text)
	if err := m.io(mt.Device, func(ctx context.Context, ns *host.Namespace) error { return ns.WriteAt(ctx, b, at) }); err != nil {
		o.Fatalf("write to %s: %v", v.name, err)
	}
}

// clean looks for what is left over.
func (o *orchestrator) clean() {
	for i, m := range o.machines {
		m.mu.Lock()
		if len(m.mounts) > 0 || len(m.subs) > 0 {
			o.Errorf("node %d has mounts %v and connections %v", i, m.mounts, m.subs)
		}
		m.mu.Unlock()
	}
	ctx := o.Context()
	ours := fmt.Sprintf("vol-%d-", o.seed)
	list := &apiv1.ListExpRequest{Label: []string{volume.ModeLabel}}
	for exp, err := range o.c.portal.Exps(ctx, list) {
		if err != nil || strings.HasPrefix(exp.DaName, ours) {
			o.Errorf("an exporter is left: %v, %v", exp, err)
		}
	}
	for da, err := range o.c.portal.Das(ctx, nil) {
		if err != nil || strings.HasPrefix(da.DaName, ours) {
			o.Errorf("an array is left: %v, %v", da, err)
		}
	}
	for snap, err := range o.c.portal.Snaps(ctx, nil) {
		if err != nil || strings.HasPrefix(snap.DaName, ours) {
			o.Errorf("a snapshot is left: %v, %v", snap, err)
		}
	}
	// Nodes have confirmed that all is gone, or will.
	st := o.c.open()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		left := 0
		err := st.View(ctx, func(tx store.Reader) error {
			das, err := tx.DeletedDAs()
			left = 0
			for _, da := range das {
				if strings.HasPrefix(da.Name, ours) {
					left++
				}
			}
			return err
		})
		if err != nil {
			o.Fatal(err)
		}
		if left == 0 {
			return
		}
		if time.Since(begin) > 5*time.Minute {
			o.Fatalf("%d deleted arrays are not gone", left)
		}
	}
}
