package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/sim/ledger"
	"github.com/virtual-disk-array/vda/sim/simnet"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbcli"
)

// Config says what to simulate.
type Config struct {
	// Seed decides the cluster's shape, the faults and their times.
	Seed uint64
	// Dir is an empty directory for the database and the agents' state; best
	// in memory.
	Dir string
	// Schema is a database file with a new cluster's schema, copied to Dir.
	Schema string
	// Faults is how long faults are made. Default 60 s of fake time.
	Faults time.Duration
	// Settle is how long everything may take to be well again after the last
	// fault. Default 150 s, and 20 min with mirrors or when vds have moved: a leg that
	// flaps rejoins later and later.
	Settle time.Duration
	// Kinds restricts the faults to some kinds; empty: all.
	Kinds []string
	// Changes has an administrator change redundancies and move vds beside the faults.
	Changes bool
	// Volumes has him snapshot arrays, one or all at once, roll back to snapshots, delete them, have
	// arrays grow and get more disks, and clone them. One more array grows by itself.
	Volumes bool
	// Redundancy is that of the hosts' arrays: "none", "mirror:2", "mirror:3", or
	// "any" for what the seed decides. Default "none". Data planes of SPDK's kind have
	// no mirrors, and two dns no mirror:3.
	Redundancy string
	// Debug logs every call to a data plane.
	Debug bool
	// NoFence and NoSettle break the data planes' fence, see planetest.Live.
	NoFence, NoSettle bool
	// NoCopy and OldData break their snapshots, and what is added to volumes, likewise.
	NoCopy, OldData bool
	// NoFill and ZeroOutside break what clones read, likewise, and Unguarded what keeps a snapshot from
	// which a clone is copied.
	NoFill, ZeroOutside, Unguarded bool
	// NoRoom breaks what more disks are for, likewise.
	NoRoom bool
	// NoHold breaks their hold of I/O, likewise.
	NoHold bool
	// CopyRate bounds what a mirror copies and repairs, in bytes per second. Default:
	// the seed decides between no bound and 1 MiB.
	CopyRate uint64
	// CloneRate bounds what a clone copies, in bytes per second. Default: the seed decides between no bound
	// and 512 KiB.
	CloneRate uint64
	// Long has faults last 20 to 45 s.
	Long bool
	// Break leaves a rule of mirrors out.
	Break core.Breach
	// NoProof has data planes let hosts in without a key, and NoRoles agents take orders from all members, likewise.
	NoProof, NoRoles bool
	// ForGood has data planes refuse for good what is not there, likewise.
	ForGood bool

	story *story // is played instead of faults that the seed draws
}

// Outcome is what a run found.
type Outcome struct {
	ledger.Count
	Wrongs []string // what must never happen and did
	Log    string
	Faults map[string]int // by kind
	Healed time.Duration  // from the last fault's end until all was well
	// Redundancy is that of the hosts' arrays, as Config has it; never "any".
	Redundancy string
	// Changes is how many changes of redundancies, drains, moves, snapshots, rollbacks and growths
	// were begun.
	Changes int
	// Refused is how often somebody was refused who may not.
	Refused int
}

// sim is one run.
type sim struct {
	cfg    Config
	dir    string
	rng    *rand.Rand // of the shape and the faults; one goroutine's
	log    *journal
	ledger *ledger.Ledger
	net    *simnet.Network
	db     *database
	planes *planetest.Cluster
	swaps  bool        // the data planes are vda_tgt's kind, not SPDK's
	moved  atomic.Bool // an administrator has asked for another redundancy, or vds to move

	changed atomic.Int64 // how often that was granted

	mu     sync.Mutex
	arrays map[string]string        // by mirror
	disks  map[string]time.Duration // by machine: what a command takes while that is a fault
	gate   func(a planetest.Access) planetest.Fate

	daemons    []*daemon
	nodes      []*simNode
	hosts      []*host
	clones     []*clone
	filled     *filling // nil: there is none
	admin      *client.Client
	faults     map[string]int
	looks      int        // hosts that looked at snapshots
	groups     int        // snapshots of several arrays that were asked for
	churned    int        // arrays made by faults
	redundancy string     // of the hosts' arrays; "": none
	power      *rand.Rand // of what write caches lose
	intruder   *intruder
	thieves    []*pki.Identity // copies of certificates that were revoked
	end        []func()
}

// simNode is a dn or a cn: a machine with a data plane and an agent.
type simNode struct {
	kind, name, machine string
	plane, agent        *daemon
	model               *planetest.Plane
}

const (
	dbMachine     = "10.0.0.1"
	portalMachine = "10.0.0.2"
	adminMachine  = "10.0.0.3"
)

// Run simulates one cluster. It must be called in a bubble of
// testing/synctest.
func Run(cfg Config) (*Outcome, error) {
	if cfg.Faults == 0 {
		cfg.Faults = time.Minute
	}
	s := &sim{cfg: cfg, dir: cfg.Dir, rng: rand.New(rand.NewPCG(cfg.Seed, 0)), power: rand.New(rand.NewPCG(cfg.Seed, 2)),
		net: simnet.New(cfg.Seed), disks: map[string]time.Duration{}, arrays: map[string]string{}, faults: map[string]int{}}
	s.log = &journal{begun: time.Now(), level: slog.LevelInfo}
	if cfg.Debug {
		s.log.level = slog.LevelDebug
	}
	s.ledger = ledger.New(s.log.printf)
	defer s.close()
	if err := s.build(); err != nil {
		return s.outcome(0), fmt.Errorf("seed %d: before the first fault: %w", cfg.Seed, err)
	}
	if cfg.story == nil {
		stop := make(chan struct{})
		lurks := begin(func() { s.intruder.lurk(stop) })
		s.makeFaults()
		close(stop)
		lurks()
	} else {
		cfg.story.tell(s)
	}
	healed := s.settle()
	s.tryThieves(s.intruder)
	s.intruder.atDoors()
	return s.outcome(healed), nil
}

func (s *sim) outcome(healed time.Duration) *Outcome {
	wrongs, count := s.ledger.Verdict()
	refused := 0
	if s.intruder != nil {
		refused = s.intruder.tries
	}
	return &Outcome{Refused: refused, Wrongs: wrongs, Count: count, Log: s.log.String(), Faults: s.faults, Healed: healed,
		Redundancy: cmp.Or(s.redundancy, "none"), Changes: int(s.changed.Load())}
}

// build makes the cluster, its arrays and its hosts, as an administrator
// does.
func (s *sim) build() error {
	s.swaps = s.rng.IntN(5) > 0 || s.cfg.story != nil
	s.planes = planetest.NewLive(planetest.Live{
		Path: s.net.Path, Service: s.service, Wrote: s.ledger.Wrote, Admitted: s.ledger.Admitted, Removed: s.removed, NoFence: s.cfg.NoFence,
		NoSettle: s.cfg.NoSettle, ForGood: s.cfg.ForGood, Acked: s.acked, Break: s.cfg.Break, CopyRate: s.copyRate(), Meets: s.meets,
		NoCopy: s.cfg.NoCopy, OldData: s.cfg.OldData, NoHold: s.cfg.NoHold, NoFill: s.cfg.NoFill, NoRoom: s.cfg.NoRoom, NoProof: s.cfg.NoProof,
		ZeroOutside: s.cfg.ZeroOutside, CloneRate: s.cloneRate(), DiskBytes: s.diskBytes(),
	})
	if err := s.openDB(); err != nil {
		return err
	}
	s.daemons = append(s.daemons, s.portal(portalMachine))
	for i := range 3 {
		s.daemons = append(s.daemons, s.monitor(i, fmt.Sprintf("10.0.0.%d", 11+i)))
	}
	dns, cns := 2+s.rng.IntN(2), 2+s.rng.IntN(3)
	if s.cfg.story != nil {
		dns, cns = s.cfg.story.dns, s.cfg.story.cns
	}
	for i := range dns {
		s.addNode("dn", i, fmt.Sprintf("10.0.1.%d", i+1))
	}
	for i := range cns {
		s.addNode("cn", i, fmt.Sprintf("10.0.2.%d", i+1))
	}
	s.redundancy = s.drawRedundancy()
	for _, d := range s.daemons {
		if err := s.issue(d); err != nil {
			return err
		}
		d.start()
	}
	admin := s.net.Start("admin", adminMachine)
	portal, err := s.user(admin, "admin")
	if err != nil {
		return err
	}
	s.end = append(s.end, func() {
		admin.Kill()
		_ = portal.Close()
	})
	s.admin = portal
	if err := s.create(); err != nil {
		return err
	}
	for _, h := range s.hosts {
		if s.cfg.story == nil {
			h.run()
		}
	}
	if s.filled != nil {
		s.filled.h.work.Go(s.fill)
	}
	go s.discover()
	if s.intruder, err = s.newIntruder(); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // the first beats
	return nil
}

func (s *sim) openDB() error {
	raw, err := os.ReadFile(s.cfg.Schema)
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "vda.db")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	db, err := store.Open(context.Background(), s.uri())
	if err != nil {
		return err
	}
	s.db = &database{Store: db, net: s.net, machine: dbMachine}
	s.end = append(s.end, func() { _ = db.Close() })
	_, err = s.vdaDB(dbcli.Main{Action: "make-ca", CADir: s.caDir()})
	return err
}

func (s *sim) addNode(kind string, i int, machine string) {
	n := &simNode{kind: kind, name: fmt.Sprint(kind, i), machine: machine}
	n.plane, n.model = s.plane(n.name, machine)
	if kind == "dn" {
		n.agent = s.dnAgent(n.name, machine, n.model)
	} else {
		n.agent = s.cnAgent(n.name, machine, n.model)
	}
	s.nodes = append(s.nodes, n)
	s.daemons = append(s.daemons, n.plane, n.agent)
}

func (s *sim) of(kind string) []*simNode {
	var all []*simNode
	for _, n := range s.nodes {
		if n.kind == kind {
			all = append(all, n)
		}
	}
	return all
}

// service is Live.Service.
func (s *sim) service(addr string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.disks[addr]; d > 0 {
		return d
	}
	return s.net.Between(20*time.Microsecond, 220*time.Microsecond)
}

// close ends everything, so that the bubble can end.
func (s *sim) close() {
	for _, h := range s.hosts {
		h.end()
	}
	for _, c := range s.clones {
		c.h.end()
	}
	if s.filled != nil {
		s.filled.h.end()
	}
	for _, d := range s.daemons {
		d.kill()
	}
	for _, d := range s.daemons {
		d.wait()
	}
	for i := range s.end {
		s.end[len(s.end)-1-i]()
	}
	// Timers of what has ended: a bubble's time stands still once this returns.
	time.Sleep(2 * time.Minute)
}

// replied turns a portal's reply into an error.
func replied(info *apiv1.ReplyInfo, err error) error {
	if err == nil && info.GetReplyMsg() != "success" {
		return errors.New(info.ReplyMsg)
	}
	return err
}
