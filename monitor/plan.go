package monitor

import (
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// NodeView is what SQL said last of a node.
type NodeView struct {
	At        time.Time // when it was read; too old, and nothing is decided
	ClusterID string
	Version   uint64
	Applied   uint64
	Problem   string // the health message in SQL, "" without an error
}

// Event is one thing that happened to a node.
type Event interface{ event() }

// Beat is the outcome of one heartbeat.
type Beat struct {
	// Answered: the agent replied, be it with an error.
	Answered bool
	// Refused: no agent was listening. It will not answer later either.
	Refused bool
	// HeldUp: the monitor was held up meanwhile, or since the beat before.
	HeldUp bool
	// Reason is why there is no proper reply; "" when there is one.
	Reason string
	// HeardBy is another monitor to which the node answers though it does not
	// to this one; "" for none.
	HeardBy string

	ClusterID        string
	Version          uint64
	AgentStart       string
	PlaneStart       string
	PlaneOK          bool
	PlaneSilent      bool // not OK, but it may only be slow
	PlaneReason      string
	DataPlaneVersion string
	AgentVersion     string
	CanMirror        bool              // of a cn
	CanAuth          bool              // of a cn
	CanReserve       bool              // of a cn
	Errors           map[string]string // objects in error, by id
}

// Synced is the outcome of one Sync.
type Synced struct {
	Full   bool
	Failed bool   // no reply that could be recorded
	Reason string // why the agent refused; "" when it did not, or could not be reached
}

// Reported is the outcome of writing a report.
type Reported struct {
	Fingerprint string
	Failed      bool
}

func (Beat) event()     {}
func (Synced) event()   {}
func (Reported) event() {}

// Memory is what the monitor knows of a node beyond SQL. The zero value is a
// node that has not been seen yet.
type Memory struct {
	Misses     int // heartbeats in a row without an answer, but for those in Unsure
	Unsure     int // likewise, when the monitor was held up
	Down       bool
	Silent     bool // Down, and all that is known is that nothing answered
	AgentStart string
	PlaneStart string
	Seen       bool // a proper reply has come once
	Newer      int  // beats in a row that told of one version SQL has never had
	NewerOne   uint64

	Syncing     bool
	FullNeeded  bool
	BehindSince time.Time // since when Applied < Version; zero: it is not
	BehindAt    uint64    // the Version it is behind of
	NextSync    time.Time // not before
	Pause       time.Duration
	Phase       time.Duration // by which this node's periodic Syncs are closer together than FullPeriod
	NextFull    time.Time     // zero: not yet set
	Refusal     string        // why the last Sync was refused

	Reporting bool
	Report    syncer.Report // the newest picture
	Known     bool          // Report holds something
	Written   string        // fingerprint of the report that SQL has
	WrittenAt time.Time
}

// Step is one thing to do for a node.
type Step interface{ step() }

// SyncStep brings the node to its version; Full with all its objects.
type SyncStep struct {
	Full bool
	Due  bool // nothing is known to be amiss
	Why  string
}

// ReportStep writes the memory's report to SQL.
type ReportStep struct{ Report syncer.Report }

// DownStep says that the node has gone down, UpStep that it is back.
type (
	DownStep struct{ Reason string }
	UpStep   struct{}
)

func (SyncStep) step()   {}
func (ReportStep) step() {}
func (DownStep) step()   {}
func (UpStep) step()     {}

// Plan decides what an event means for a node. It has no effects and reads no
// clock: now is given.
func Plan(t *Timing, now time.Time, v NodeView, m Memory, ev Event) (Memory, []Step) {
	var steps []Step
	switch ev := ev.(type) {
	case Beat:
		m, steps = onBeat(t, now, v, m, ev)
	case Synced:
		m = onSynced(t, now, m, ev)
	case Reported:
		m.Reporting = false
		if !ev.Failed {
			m.Written, m.WrittenAt = ev.Fingerprint, now
		}
	}
	if now.Sub(v.At) > t.StaleAfter {
		// The picture is too old to act upon. What was to be done is still to
		// be done, and is found again with the next event.
		return m, steps
	}
	if s, due := planSync(t, now, v, &m); due {
		steps = append(steps, s)
	}
	if _, ended := ev.(Reported); ended {
		return m, steps // a report that failed waits for the next beat
	}
	if s, due := planReport(v, &m); due {
		steps = append(steps, s)
	}
	return m, steps
}

func onBeat(t *Timing, now time.Time, v NodeView, m Memory, b Beat) (Memory, []Step) {
	var steps []Step
	reason := b.Reason
	silent := !b.Answered && !b.Refused
	if b.Answered && b.Reason == "" && !b.PlaneOK {
		reason, silent = "data plane: "+b.PlaneReason, b.PlaneSilent
	}
	if !b.Answered || silent {
		switch {
		case !silent:
			m.Misses = max(m.Misses, t.Misses)
		case b.HeldUp && !m.Down:
			// It is the monitor that was silent, for all it knows. It judges nobody until
			// a beat went out, and its time passed, that were not held up.
			if m.Unsure++; m.Misses+m.Unsure < unsureMisses*t.Misses {
				return m, nil
			}
			m.Misses = max(m.Misses, t.Misses)
		default:
			m.Misses++
		}
		if m.Misses < t.Misses {
			return m, nil
		}
		if b.HeardBy != "" && !b.Answered && silent && !m.Down {
			// It is this monitor that is cut off.
			m.Known = true
			m.Report.Problem = fmt.Sprintf("monitor %s hears the node, the one that watches it does not: %s", b.HeardBy, reason)
			return m, steps
		}
		m.Silent = silent
		if !m.Down {
			m.Down = true
			steps = append(steps, DownStep{Reason: reason})
		}
		m.Known = true
		m.Report = syncer.Report{Problem: reason, Down: true}
		return m, steps
	}
	m.Misses, m.Unsure, m.Silent = 0, 0, false
	m.Known = true
	r := syncer.Report{Version: b.Version, Errors: b.Errors, DataPlaneVersion: b.DataPlaneVersion, AgentVersion: b.AgentVersion,
		CanMirror: b.CanMirror, CanAuth: b.CanAuth, CanReserve: b.CanReserve}
	switch {
	case b.Reason != "":
		r.Problem, r.Down = b.Reason, true
	case b.ClusterID != "" && b.ClusterID != v.ClusterID:
		r.Problem, r.Down = fmt.Sprintf("the agent belongs to cluster %s, this is cluster %s", b.ClusterID, v.ClusterID), true
	case !b.PlaneOK:
		r.Problem, r.Down = reason, true
	}
	if r.Down != m.Down {
		m.Down = r.Down
		if r.Down {
			steps = append(steps, DownStep{Reason: r.Problem})
		} else {
			steps = append(steps, UpStep{})
		}
	}
	m.Report = r
	if b.Reason != "" {
		return m, steps
	}
	restarted := m.Seen && (b.AgentStart != m.AgentStart || b.PlaneStart != m.PlaneStart && b.PlaneStart != "")
	if restarted || b.Version < v.Applied {
		m.FullNeeded = true
	}
	if restarted { // news; an agent that refuses to be this node says so in every beat
		m.NextSync = now
	}
	m.Seen, m.AgentStart = true, b.AgentStart
	if b.PlaneStart != "" {
		m.PlaneStart = b.PlaneStart
	}
	// The picture may be a moment older than the beat, so once is no proof,
	// and where versions are rising the picture is always behind. A node that
	// is ahead of SQL refuses every request, so its version stands still.
	switch {
	case b.Version <= v.Version:
		m.Newer = 0
	case b.Version == m.NewerOne:
		m.Newer++
	default:
		m.Newer, m.NewerOne = 1, b.Version
	}
	return m, steps
}

// unsureMisses is how many times as many misses it takes when the monitor is held up all the time:
// a node that is dead is found even so.
const unsureMisses = 4

// newerBeats is how many beats in a row must tell of an unknown version.
const newerBeats = 5

func onSynced(t *Timing, now time.Time, m Memory, s Synced) Memory {
	m.Syncing = false
	m.Refusal = s.Reason
	if s.Full && !s.Failed {
		m.FullNeeded = false
		m.NextFull = now.Add(t.FullPeriod - m.Phase)
	}
	m.Pause = min(max(2*m.Pause, t.RetryMin), t.RetryMax)
	m.NextSync = now.Add(m.Pause)
	return m
}

// planSync decides whether a Sync is due.
func planSync(t *Timing, now time.Time, v NodeView, m *Memory) (SyncStep, bool) {
	if v.Version <= v.Applied {
		m.BehindSince, m.BehindAt = time.Time{}, 0
		if !m.FullNeeded && m.Refusal == "" {
			m.Pause = 0
		}
	} else if m.BehindAt != v.Version {
		// Something new: it does not wait for the pause of the old.
		m.BehindSince, m.BehindAt, m.Pause = now, v.Version, 0
		m.NextSync = time.Time{}
	}
	if m.NextFull.IsZero() {
		m.NextFull = now.Add(t.FullPeriod - m.Phase)
	}
	if m.Syncing || m.Down || !m.Seen || m.Misses+m.Unsure > 0 || now.Before(m.NextSync) {
		return SyncStep{}, false
	}
	s := SyncStep{}
	switch {
	case m.FullNeeded:
		s = SyncStep{Full: true, Why: "agent or data plane started again"}
	case !now.Before(m.NextFull):
		s = SyncStep{Full: true, Due: true, Why: "periodic"}
	case v.Version > v.Applied && now.Sub(m.BehindSince) >= t.Grace:
		s = SyncStep{Why: "behind"}
	default:
		return s, false
	}
	m.Syncing = true
	return s, true
}

// planReport decides whether SQL should learn something.
func planReport(v NodeView, m *Memory) (ReportStep, bool) {
	if !m.Known || m.Reporting {
		return ReportStep{}, false
	}
	r := m.Report
	if r.Problem == "" {
		switch {
		case m.Refusal != "":
			r.Problem = m.Refusal
		case m.Newer >= newerBeats:
			r.Problem = fmt.Sprintf("the node holds version %d, the database %d: it is older than the node, as after restoring a backup; see "+
				"vda_db --action restored", r.Version, v.Version)
		}
	}
	if r.Down {
		r.Version = v.Version
	}
	r.Problem = store.CleanMsg(r.Problem)
	// The node's own health in the picture differs when somebody else wrote
	// it, or when the database was restored.
	if r.Fingerprint() == m.Written && (r.Problem == v.Problem || !v.At.After(m.WrittenAt)) {
		return ReportStep{}, false
	}
	m.Reporting = true
	return ReportStep{Report: r}, true
}
