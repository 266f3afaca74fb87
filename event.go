package vda

import "time"

// Event is something that happened in the cluster: to what, why, by whom. Events are
// rows; the oldest go.
type Event struct {
	// ID grows with time; what has been committed later may have a lower one for a moment.
	ID   uint64
	At   time.Time // by the clock of the program that recorded it
	Kind EventKind

	Object   string // kind of object: "dn", "pd", "vd", "cn", "da", "snap", "exp", "orphan"; "" for the cluster
	Name     string // of the object, as users know it
	Parent   string // the name of the dn of a pd, and of the da of a vd, a snap or an exp; "" for others
	ObjectID string // its id, where it is known
	Text     string // what happened and why, in one sentence

	Caller        // who made a change; empty when VDA itself did
	Code   uint32 // of the kind EventRefused: the reply's code

	// Took is how long what has ended was under way; 0 for others.
	Took time.Duration
	// Since, when it is set as the event is recorded, gives Took: the time until now.
	Since time.Time
}

// FullName is the object's name with that of its parent: "dn0:9720/pd0", "da0/exp0".
func (e *Event) FullName() string {
	if e.Parent == "" {
		return e.Name
	}
	return e.Parent + "/" + e.Name
}

// Caller is who asked for a change, and how.
type Caller struct {
	Method string // of the portal, like "CreateDa"
	User   string // "" when nobody has proven who they are
	Peer   string // the address that the request came from, "host:port"
	ReqID  string // of the request, as in the logs
}

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventChange         EventKind = "change"
	EventRefused        EventKind = "change_refused"
	EventNodeDown       EventKind = "node_down"
	EventNodeUp         EventKind = "node_up"
	EventFailoverBegin  EventKind = "failover_started"
	EventFailoverEnd    EventKind = "failover_ended"
	EventDAError        EventKind = "da_error"
	EventDAOK           EventKind = "da_ok"
	EventLegLost        EventKind = "leg_lost"
	EventRebuildBegin   EventKind = "rebuild_started"
	EventRebuildEnd     EventKind = "rebuild_ended"
	EventDiskFault      EventKind = "disk_fault"
	EventDiskOK         EventKind = "disk_ok"
	EventDrainEnd       EventKind = "drain_ended"
	EventScrubEnd       EventKind = "scrub_ended"
	EventScrubDiffers   EventKind = "scrub_mismatch"
	EventCntlrReplaced  EventKind = "controller_replaced"
	EventLegReplacement EventKind = "leg_added"
	EventAlertRaised    EventKind = "alert_raised"
	EventAlertCleared   EventKind = "alert_cleared"
	EventCloneDone      EventKind = "clone_done"
	EventDAGrows        EventKind = "da_grows"
	EventDACannotGrow   EventKind = "da_cannot_grow"
)

// Severity is how much an event matters.
type Severity string

// The severities, least first.
const (
	SeverityInfo    Severity = "info"
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error"
)

// AtLeast reports that s matters as much as another, or more.
func (s Severity) AtLeast(o Severity) bool { return s.rank() >= o.rank() }

func (s Severity) rank() int {
	switch s {
	case SeverityError:
		return 2
	case SeverityWarning:
		return 1
	}
	return 0
}

// EventKinds has all kinds, with what they say; docs/events.md is made from it.
var EventKinds = []struct {
	Kind     EventKind
	Severity Severity
	Means    string
}{
	{EventChange, SeverityInfo, "A user's request has changed something. `method`, `user`, `peer` and `req_id` say by whom."},
	{EventRefused, SeverityWarning, "A user's request for a change failed or was refused, or any request of somebody who may not " +
		"make it, at a portal, a monitor or an agent; `code` is the reply's, `text` its message. " +
		"The same refusal to the same user and address is recorded once per minute."},
	{EventNodeDown, SeverityError, "A dn or cn does not answer, or cannot do its work."},
	{EventNodeUp, SeverityInfo, "It can again; `took_ms` is for how long it could not."},
	{EventFailoverBegin, SeverityWarning, "An array gets another primary, since the one before is lost, or somebody wants it elsewhere."},
	{EventFailoverEnd, SeverityInfo, "The array's new primary serves; `took_ms` counts from the decision."},
	{EventDAError, SeverityError, "Something is wrong with an array, so that hosts may lack a path or all of them."},
	{EventDAOK, SeverityInfo, "Nothing is wrong with it now; `took_ms` is for how long it was."},
	{EventLegLost, SeverityWarning, "A leg of a mirror has missed writes and is not a member any more."},
	{EventRebuildBegin, SeverityInfo, "What a leg of a mirror lacks is being copied to it."},
	{EventRebuildEnd, SeverityInfo, "The leg has all data and is a member; `took_ms` counts from when it was last let in."},
	{EventLegReplacement, SeverityInfo, "A mirror gets one more leg, to replace one that is lost or leaves."},
	{EventDiskFault, SeverityError, "A pd does not work, though its dn does."},
	{EventDiskOK, SeverityInfo, "It works again."},
	{EventDrainEnd, SeverityInfo, "The last vd has left a dn or pd that is being drained."},
	{EventScrubEnd, SeverityInfo, "The legs of an array have been compared, or the comparison was stopped."},
	{EventScrubDiffers, SeverityError, "A comparison has found blocks that differ between legs."},
	{EventCntlrReplaced, SeverityInfo, "A controller whose cn is gone for long has a successor on another cn."},
	{EventAlertRaised, SeverityWarning, "Something has been wrong for as long as docs/alerts.md has it; `text` begins with the alert's code."},
	{EventAlertCleared, SeverityInfo, "It is not so any more, or an operator has it so on purpose; `took_ms` is for how long it was."},
	{EventCloneDone, SeverityInfo, "All of what a clone began with is copied to it; nothing ties it to its source any more."},
	{EventDAGrows, SeverityInfo, "A thin array runs low, and gets more physical size by itself (`--auto-grow`)."},
	{EventDACannotGrow, SeverityWarning, "A thin array runs low, and gets no more by itself, as `text` says: its limit is reached, or there " +
		"is no room. It is not said again while that lasts, but for a restart of its monitor."},
}

// Severity is that of all events of the kind; info for a kind that is not known.
func (k EventKind) Severity() Severity {
	for _, e := range EventKinds {
		if e.Kind == k {
			return e.Severity
		}
	}
	return SeverityInfo
}

// Caused reports that events of the kind have a caller, when the transaction that they are
// recorded in has one: others are found out in a caller's request, but not done by it.
func (k EventKind) Caused() bool {
	return k == EventChange || k == EventRefused || k == EventFailoverBegin || k == EventLegReplacement
}

// Known reports that there is such a kind.
func (k EventKind) Known() bool {
	for _, e := range EventKinds {
		if e.Kind == k {
			return true
		}
	}
	return false
}
