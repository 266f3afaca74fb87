package cn_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

const (
	cluster = "c1057e00000000000000000000000001"
	daID    = "da000000000000000000000000000001"
	grpID   = "e0000000000000000000000000000001"
	expID   = "ee000000000000000000000000000001"
	expNQN  = "nqn.2016-06.io.spdk:vda-exp-da0-exp0"
	host0   = "nqn.2016-06.io.spdk:host0"
)

func id(kind string, n int) string { return fmt.Sprintf("%s%030x", kind, n) }

// lab is two disk nodes and some controller nodes with a data plane each.
type lab struct {
	*testing.T
	dns  []*dnNode
	cns  []*cnNode
	term uint64
	spec *apiv1.CntlrSpec // what all controllers' specs have in common

	vdSize uint64   // bytes; default 12 MiB
	secret string   // what keys are made of; "": connections do not authenticate
	pdConf []string // by dn; malloc when empty
}

type node struct {
	id, port string
	version  uint64
	config   planetest.NodeConfig
}

type dnNode struct {
	node
	a         *dn.Agent
	plane     *planetest.Plane // of a model
	formatted bool             // its pd
}

type cnNode struct {
	node
	idx     int
	cntlr   string
	a       *cn.Agent
	plane   *planetest.Plane // of a model
	stopped bool
	through string // "", or the port on its back-end address at which others are to come
}

// fakes makes a lab on models of data planes.
func fakes(t *testing.T, cns int, swaps bool) (*lab, *planetest.Cluster) {
	c := planetest.NewCluster()
	l := &lab{T: t, term: 1}
	for i := range 2 {
		p := planetest.NewPlane(t, c, swaps)
		l.addDN(i, planetest.NodeConfig{Socket: p.Socket, Port: fmt.Sprint(4420 + i), OpenRaw: c.OpenRaw, Disks: c.Machine()})
		l.dns[i].plane = p
	}
	for i := range cns {
		p := planetest.NewPlane(t, c, swaps)
		l.addCN(i, planetest.NodeConfig{Socket: p.Socket, Port: fmt.Sprint(4430 + i), OpenRaw: c.OpenRaw, Reach: p.Reach})
		l.cns[i].plane = p
	}
	l.array()
	return l, c
}

// inBubble runs a test on a lab of models in fake time: what the agents do takes
// none, whatever the machine does.
func inBubble(t *testing.T, cns int, swaps bool, test func(l *lab)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // calls end that a closed agent has left under way
		c := planetest.NewCluster()
		l := &lab{T: t, term: 1}
		place := func(name, port string) (*planetest.Plane, planetest.NodeConfig) {
			p := c.Place(name, swaps)
			p.Boot()
			connect := func() (agent.Client, error) { return p.Direct(), nil }
			return p, planetest.NodeConfig{
				Socket: name, Connect: connect, Port: port, OpenRaw: c.OpenRaw, Disks: c.Machine(), Reach: p.Reach,
			}
		}
		for i := range 2 {
			p, config := place(fmt.Sprint("dn", i), fmt.Sprint(4420+i))
			l.addDN(i, config)
			l.dns[i].plane = p
		}
		for i := range cns {
			p, config := place(fmt.Sprint("cn", i), fmt.Sprint(4430+i))
			l.addCN(i, config)
			l.cns[i].plane = p
		}
		l.array()
		test(l)
	})
}

func (l *lab) addDN(i int, c planetest.NodeConfig) {
	c.Kind, c.StateDir = "dn", l.TempDir()
	n := &dnNode{node: node{id: id("d0", i), config: c, port: c.Port}}
	a, err := dn.Start(context.Background(), planetest.Node(l, c))
	if err != nil {
		l.Fatal(err)
	}
	n.a = a
	l.Cleanup(func() { _ = a.Close() })
	l.dns = append(l.dns, n)
}

func (l *lab) addCN(i int, c planetest.NodeConfig) {
	c.Kind, c.StateDir = "cn", l.TempDir()
	n := &cnNode{node: node{id: id("c0", i), config: c, port: c.Port}, idx: i, cntlr: id("cc", i)}
	l.cns = append(l.cns, n)
	n.start(l)
	l.Cleanup(func() { n.stop(l) })
}

func (n *cnNode) start(l *lab) {
	l.Helper()
	a, err := cn.Start(context.Background(), planetest.Node(l, n.config))
	if err != nil {
		l.Fatal(err)
	}
	n.a, n.stopped = a, false
}

func (n *cnNode) stop(l *lab) {
	if n.stopped {
		return
	}
	n.stopped = true
	if err := n.a.Close(); err != nil {
		l.Error(err)
	}
}

func at(port string) *apiv1.ListenerConf {
	return &apiv1.ListenerConf{Trtype: "tcp", Traddr: "127.0.0.1", Adrfam: "ipv4", Trsvcid: port}
}

// array makes the specs of one array, striped over a vd on each dn.
func (l *lab) array() {
	g := &apiv1.GrpSpec{Id: grpID, StripeSizeKb: 64}
	for i, d := range l.dns {
		v := id("b0", i)
		vd := &apiv1.VdTarget{VdId: v, Listener: at(d.port), Nqn: "nqn.2016-06.io.spdk:vda-vd-" + v, Uuid: v}
		g.Vds = append(g.Vds, vd)
		g.Columns = append(g.Columns, oneLeg(i, vd, cmp.Or(l.vdSize, 12<<20)))
	}
	l.spec = &apiv1.CntlrSpec{
		DaId: daID, DaName: "da0", Size: 16 << 20, ClusterSize: 1 << 20, Create: true, Grps: []*apiv1.GrpSpec{g},
		Exps: []*apiv1.ExpSpec{{
			Id: expID, Name: "exp0", Nqn: expNQN, InitiatorNqn: host0, Serial: "00000000000000000001", NsUuid: id("f0", 1),
		}},
	}
}

// oneLeg is a column of one vd.
func oneLeg(i int, vd *apiv1.VdTarget, size uint64) *apiv1.MirrorSpec {
	return &apiv1.MirrorSpec{Id: id("ab", i), Gen: 1, DataSize: size, Fresh: true, Legs: []*apiv1.LegSpec{
		{Vd: vd, Role: apiv1.LegRole_LEG_ROLE_MEMBER, Bare: true}}}
}

func (l *lab) hostNQN() string {
	return fmt.Sprintf("nqn.2016-06.io.spdk:vda-cntlr-%s-%d", daID, l.term)
}

// key is that of a vd or a controller in the present term.
func (l *lab) key(id string) agent.HopKey {
	return agent.HopKey(l.secret).For(fmt.Sprint(id, " ", l.term))
}

// fence syncs the dns: vds admit the primary of the present term.
func (l *lab) fence(deleted bool) {
	l.Helper()
	for i := range l.dns {
		for _, s := range untilNotLate(func() []*apiv1.ObjectState { return l.syncDN(i, deleted) }) {
			if s.Error || s.Gone != deleted {
				l.Fatalf("dn%d: %v", i, s)
			}
		}
		l.dns[i].formatted = true
	}
}

// syncDN sends dn i its pd and its vd.
func (l *lab) syncDN(i int, deleted bool) []*apiv1.ObjectState {
	l.Helper()
	d := l.dns[i]
	d.version++
	conf := `{"type":"malloc","size":67108864}`
	if l.pdConf != nil {
		conf = l.pdConf[i]
	}
	pd := &apiv1.PdSpec{Id: id("a0", i), Name: "pd0", ConfJson: conf, Format: !d.formatted, Deleted: deleted, Version: d.version}
	var epoch uint64
	for _, g := range l.spec.Grps {
		for _, v := range g.Vds {
			if v.VdId == id("b0", i) {
				epoch = v.Epoch
			}
		}
	}
	vd := &apiv1.VdSpec{Id: id("b0", i), PdId: id("a0", i), Size: cmp.Or(l.vdSize, 12<<20), Nqn: "nqn.2016-06.io.spdk:vda-vd-" + id("b0", i),
		Term: l.term, Epoch: epoch, HostNqn: vda.LegHostNQN(l.hostNQN(), epoch), DaId: daID, Uuid: id("b0", i),
		Deleted: deleted, Version: d.version, HopKey: l.key(id("b0", i))}
	vds := []*apiv1.VdSpec{vd}
	for _, g := range l.spec.Grps {
		for _, m := range g.Columns {
			v := m.Legs[0].Vd
			if v.VdId == vd.Id || !proto.Equal(v.Listener, at(d.port)) {
				continue
			}
			more := proto.CloneOf(vd)
			more.Id, more.Nqn, more.Uuid, more.HostNqn, more.Epoch = v.VdId, v.Nqn, v.Uuid, vda.LegHostNQN(l.hostNQN(), v.Epoch), v.Epoch
			more.HopKey = l.key(v.VdId)
			vds = append(vds, more)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := d.a.Sync(ctx, &apiv1.SyncDnRequest{ClusterId: cluster, NodeId: d.id, Version: d.version, Listener: at(d.port),
		AllowEmpty: deleted, Pds: []*apiv1.PdSpec{pd}, Vds: vds})
	if err != nil {
		l.Fatal(err)
	}
	return r.States
}

// cntlr is the spec of controller i while controller primary is primary.
func (l *lab) cntlr(i, primary int) *apiv1.CntlrSpec {
	n, c := l.cns[i], proto.CloneOf(l.spec)
	c.Id, c.CntlrIdx, c.Term, c.Version = n.cntlr, uint32(i), l.term, n.version
	c.MinCntlid, c.MaxCntlid = uint32(i*1000+1), uint32(i*1000+1000)
	c.HopKey = l.key(n.cntlr)
	for _, g := range c.Grps {
		for k, v := range g.Vds {
			v.HopKey = l.key(v.VdId)
			g.Columns[k].Legs[0].Vd.HopKey = v.HopKey
		}
	}
	for k, e := range c.Exps {
		e.EsId = id("e5", i+16*k)
	}
	defer l.keepApart(c, i, primary)
	if i != primary {
		c.Grps, c.Snaps, c.Create, c.PrimaryListener = nil, nil, false, at(l.cns[primary].port)
		return c
	}
	c.Primary, c.HostNqn = true, l.hostNQN()
	for j, o := range l.cns {
		if j != i {
			c.SecondaryHostNqns = append(c.SecondaryHostNqns, "nqn.2016-06.io.spdk:vda-px-"+o.cntlr)
			if key := l.key(o.cntlr); key != nil {
				c.SecondaryHopKeys = append(c.SecondaryHopKeys, key)
			}
		}
	}
	return c
}

// sync sends controller i's spec and returns the reply.
func (l *lab) sync(i int, c *apiv1.CntlrSpec) *apiv1.SyncReply {
	l.Helper()
	n := l.cns[i]
	n.version++
	c = proto.CloneOf(c) // the agent keeps what it was sent, and this may be sent once more
	c.Version = n.version
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := n.a.Sync(ctx, &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version, Listener: at(n.port),
		Cntlrs: []*apiv1.CntlrSpec{c}, AllowEmpty: c.Deleted, BackendListener: n.backend()})
	if err != nil {
		l.Fatal(err)
	}
	return r
}

// good is sync where nothing may be wrong.
func (l *lab) good(i int, c *apiv1.CntlrSpec) {
	l.Helper()
	for _, s := range l.settled(i, c) {
		if s.Error || s.Gone != c.Deleted {
			l.Fatalf("cn%d: %v", i, s)
		}
	}
}

// settled is sync, and returns what is so when no time limit of the product ran
// out.
func (l *lab) settled(i int, c *apiv1.CntlrSpec) []*apiv1.ObjectState {
	l.Helper()
	return untilNotLate(func() []*apiv1.ObjectState { return l.sync(i, c).States })
}

func untilNotLate(sync func() []*apiv1.ObjectState) []*apiv1.ObjectState {
	states := sync()
	for begin := time.Now(); slices.ContainsFunc(states, late) && time.Since(begin) < time.Minute; states = sync() {
		time.Sleep(100 * time.Millisecond)
	}
	return states
}

// late reports that a time limit of the product ran out, as happens on a busy
// machine; the agent goes on with its work.
func late(s *apiv1.ObjectState) bool {
	return s.Error && (strings.Contains(s.ErrorMsg, "no answer in time") || strings.Contains(s.ErrorMsg, "the agent is still at work on it") ||
		strings.Contains(s.ErrorMsg, "the data plane is still at it"))
}

// up brings the array up with controller primary as primary.
func (l *lab) up(primary int) {
	l.Helper()
	l.fence(false)
	l.good(primary, l.cntlr(primary, primary))
	for i := range l.cns {
		if i != primary {
			l.good(i, l.cntlr(i, primary))
		}
	}
}

// states are what controller node i's heartbeat says is wrong.
func (l *lab) states(i int) map[string]string {
	l.Helper()
	r, err := l.cns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: l.cns[i].id})
	if err != nil {
		l.Fatal(err)
	}
	m := map[string]string{}
	for _, s := range r.States {
		m[s.Id] = s.ErrorMsg
	}
	return m
}

// healthy waits until controller node i has nothing to complain of.
func (l *lab) healthy(i int) {
	l.Helper()
	planetest.Eventually(l, func() string {
		if s := l.states(i); len(s) > 0 {
			return fmt.Sprintf("cn%d: %v", i, s)
		}
		return ""
	})
}

// checked has every agent look after all that it has once more.
func (l *lab) checked() {
	l.Helper()
	var loops []*agent.Loop
	for _, n := range l.dns {
		loops = append(loops, n.a.Loop)
	}
	for _, n := range l.cns {
		loops = append(loops, n.a.Loop)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, loop := range loops {
		for _, key := range loop.Keys() {
			if _, done := loop.Wait(ctx, key, loop.Kick(key, false)); !done {
				l.Fatalf("no pass over %s has ended", key)
			}
		}
	}
}

type state = apiv1.ObjectState

func request(n *cnNode, version, base uint64, c *apiv1.CntlrSpec) *apiv1.SyncCnRequest {
	c.Version = version
	return &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, Version: version, BaseVersion: base, Cntlrs: []*apiv1.CntlrSpec{c}}
}
