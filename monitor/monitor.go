package monitor

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// Monitor watches all nodes of a cluster.
type Monitor struct {
	refusals *rpc.Refusals // of its own port

	cfg     Config
	log     *slog.Logger
	syncer  *syncer.Syncer
	metrics *metrics
	gate    *gate // of Syncs
	pulse   *pulse
	reports chan *filed // to be written

	self    string
	roster  *roster      // Run's own
	pace    pace         // likewise
	started time.Time    // what picture times count from, so that they are monotonic
	fresh   atomic.Int64 // when the picture was read, nanoseconds after started; 0: never

	cnDown chan struct{} // a cn has gone down

	beatsDone, beatsLate atomic.Int64 // heartbeats since beatsSlow looked
	hold                 func()       // of a test that holds the monitor up; nil: none

	mu      sync.Mutex
	nodes   map[string]*node     // this monitor's, by id
	well    map[string]bool      // by id, of all nodes: healthy as SQL has it
	offline map[string]bool      // cns that the administrator took offline
	moving  map[string]bool      // cns with a failover under way
	moved   map[string]time.Time // when the last one of a cn ended
	tried   map[string]time.Time // when better places were last looked for, for primaries of a cn
	all     map[string]vda.At    // all nodes, by id
	cluster string
	peers   []string // where other live monitors serve
	shares  []share  // of the monitors that shared the nodes when owners were computed
	owners  map[string]string
	// alerting: this one of the monitors looks for what is wrong.
	alerting bool
	wg       sync.WaitGroup
}

// New returns a monitor; Run starts it.
func New(cfg Config) (*Monitor, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s, err := syncer.New(syncer.Config{Store: cfg.Store, Dial: cfg.Dial, Timeout: cfg.Timing.SyncTimeout, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	m := &Monitor{cfg: cfg, log: cfg.Log, syncer: s, nodes: map[string]*node{}, owners: map[string]string{},
		moving: map[string]bool{}, moved: map[string]time.Time{}, tried: map[string]time.Time{},
		cnDown: make(chan struct{}, 1), gate: newGate(cfg.Parallel), reports: make(chan *filed, reportBatch)}
	m.refusals = rpc.NewRefusals()
	m.self, m.started = store.NewID(), time.Now()
	m.pulse = newPulse(m.started)
	m.roster = newRoster(m.self, cfg.Timing.Lease, 2*cfg.Timing.Refresh)
	m.metrics = newMetrics(m)
	return m, nil
}

// Run watches until ctx ends and all that was under way has stopped.
func (m *Monitor) Run(ctx context.Context) {
	defer m.wg.Wait()
	m.pulse.beat(time.Now())
	m.wg.Go(func() { m.watchPulse(ctx) })
	for range reportWriters {
		m.wg.Go(func() { m.writeReports(ctx) })
	}
	m.wg.Go(func() { m.watchFailover(ctx) })
	m.wg.Go(func() { m.watchHeal(ctx) })
	m.wg.Go(func() { m.watchDrainCN(ctx) })
	m.wg.Go(func() { m.watchEvents(ctx) })
	m.wg.Go(func() { m.watchTrash(ctx) })
	m.wg.Go(func() { m.watchAlerts(ctx) })
	m.wg.Go(func() { m.watchClones(ctx) })
	m.wg.Go(func() {
		m.every(ctx, clonePeriod, "snapshots of several arrays that were not taken in time stay for now", m.dropOverdue)
	})
	m.wg.Go(func() { m.watchGrowth(ctx) })
	m.wg.Go(func() {
		m.every(ctx, m.cfg.Timing.Period, "calls that were refused are not in the audit yet", m.noteOwnRefusals)
	})
	tick := time.NewTicker(m.cfg.Timing.Refresh)
	defer tick.Stop()
	defer m.leave()
	lost := false
	for {
		pic, err := m.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if lost {
				m.log.Info("the database answers again")
			}
			lost = false
			m.fresh.Store(max(int64(pic.at.Sub(m.started)), 1))
			m.adopt(ctx, pic)
		default:
			m.metrics.storeErrors.Inc()
			if !lost {
				m.log.Error("the database does not answer; nothing is decided until it does", "err", err)
			}
			lost = true
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leave tells the others, so that they needn't wait for the lease to end.
func (m *Monitor) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := m.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.DeleteMonitor(m.self) })
	if err != nil && vda.KindOf(err) != vda.NotFound {
		m.log.Warn("the other monitors will wait for this one's lease to end", "err", err)
	}
}

// picture is the cluster as SQL had it at a moment.
type picture struct {
	at      time.Time
	cluster string
	dns     []store.NodeState
	cns     []store.NodeState
	alive   []share  // monitors that share the nodes; none: too early to say
	peers   []string // where the others of them serve
}

func (m *Monitor) look(ctx context.Context) (*picture, error) {
	ctx, cancel := context.WithTimeout(store.Urgent(ctx), m.cfg.Timing.StaleAfter)
	defer cancel()
	// The time before our beat: others count our lease from a later one.
	p := &picture{at: time.Now()}
	joins := false
	pace := m.pace
	other := pace.look(p.at, m.pulse.heldUp(p.at))
	err := m.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		joins, err = tx.BeatMonitor(m.self, m.cfg.Name)
		if err == nil && (joins || other) {
			err = tx.SetMonitorHalvings(m.self, pace.halvings)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if m.pace = pace; other {
		m.log.Info("this monitor's share of the nodes becomes another, by how much it is held up", "halvings", pace.halvings)
	}
	if joins {
		m.roster.join(p.at)
	}
	var monitors []store.Monitor
	err = m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		if p.cluster, err = tx.ClusterID(); err != nil {
			return err
		}
		if p.dns, err = tx.NodeStates(vda.DiskNode); err != nil {
			return err
		}
		if p.cns, err = tx.NodeStates(vda.ControllerNode); err != nil {
			return err
		}
		monitors, err = tx.Monitors()
		return err
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	alive, dead := m.roster.observe(now, monitors)
	shares := m.roster.weigh(now, monitors, alive)
	if m.roster.mayAct(p.at, len(monitors)) {
		p.alive = shares
	}
	for _, o := range monitors {
		if o.ID != m.self && slices.Contains(alive, o.ID) && isAddress(o.Name) {
			p.peers = append(p.peers, o.Name)
		}
	}
	if len(dead) > 0 {
		m.sweep(ctx, dead)
	}
	return p, nil
}

// sweep deletes the rows of monitors that ended without a word long ago. One
// that wakes up finds that out at its next beat and joins again.
func (m *Monitor) sweep(ctx context.Context, ids []string) {
	err := m.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, id := range ids {
			if err := tx.DeleteMonitor(id); err != nil && vda.KindOf(err) != vda.NotFound {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.metrics.storeErrors.Inc()
		m.log.Warn("rows of dead monitors stay", "err", err)
	}
}

// adopt starts to watch nodes that are new or have become this monitor's,
// ends it for those that are gone or another's, and tells the rest what SQL
// says.
func (m *Monitor) adopt(ctx context.Context, p *picture) {
	m.mu.Lock()
	defer m.mu.Unlock()
	here := map[string]bool{}
	ats := map[vda.At]bool{}
	m.well, m.offline, m.all = map[string]bool{}, map[string]bool{}, map[string]vda.At{}
	m.cluster, m.peers = p.cluster, p.peers
	m.alerting = owner(p.alive, alertsKey) == m.self
	for _, name := range p.peers {
		ats[vda.MonitorAt(name)] = true
	}
	if !slices.Equal(p.alive, m.shares) {
		m.shares, m.owners = slices.Clone(p.alive), map[string]string{}
	}
	see := func(k vda.NodeKind, row *store.NodeState) {
		id, at := row.ID, row.At(k)
		m.well[id], ats[at], m.all[id] = !row.Error, true, at
		if m.ownerOf(id) != m.self {
			return
		}
		n := m.nodes[id]
		if n != nil && n.at != at {
			return // it is adopted again, at its new address, when this has ended
		}
		here[id] = true
		if n == nil {
			n = &node{m: m, kind: k, id: id, at: at, events: make(chan Event, 2), done: make(chan struct{})}
			n.lease.adopted = time.Now()
			n.mem.Phase = rand.N(m.cfg.Timing.FullPeriod/4 + 1)
			m.nodes[id] = n
			var own context.Context
			own, n.cancel = context.WithCancel(ctx)
			defer m.wg.Go(func() { n.run(own) })
		}
		n.setView(NodeView{At: p.at, ClusterID: p.cluster, Version: row.Version, Applied: row.Applied, Problem: row.Msg})
	}
	for i := range p.dns {
		see(vda.DiskNode, &p.dns[i])
	}
	for i := range p.cns {
		c := &p.cns[i]
		m.offline[c.ID] = !c.Online
		see(vda.ControllerNode, c)
	}
	if len(m.owners) > len(m.all) {
		maps.DeleteFunc(m.owners, func(id, _ string) bool { return m.all[id].Addr == "" })
	}
	for id, n := range m.nodes {
		if !here[id] {
			n.cancel()
			delete(m.nodes, id)
		}
	}
	if keeper, ok := m.cfg.Dial.(interface{ Keep(map[vda.At]bool) }); ok {
		keeper.Keep(ats)
	}
}

// ownerOf is the owner of a node among those that share the nodes now; m.mu is held.
func (m *Monitor) ownerOf(id string) string {
	at, known := m.owners[id]
	if !known {
		at = owner(m.shares, id)
		m.owners[id] = at
	}
	return at
}

// Ready reports whether the monitor's picture of the cluster is fresh enough
// to act upon.
func (m *Monitor) Ready() bool {
	at := m.fresh.Load()
	return at != 0 && time.Since(m.started)-time.Duration(at) <= m.cfg.Timing.StaleAfter
}
