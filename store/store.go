// Package store keeps the cluster's desired state in SQL: SQLite, PostgreSQL
// or MySQL/MariaDB behind one interface.
//
// Everything happens in a transaction: a View gets a Reader, an Update a Tx, which
// is a Reader that can also write. Update retries its function when the
// database reports a conflict, so the function must have no effects outside
// tx. A committed Update is durable. Two Updates never both succeed on stale
// reads of the same row.
package store

import (
	"context"
	"time"

	"github.com/virtual-disk-array/vda"
)

// Store is a cluster's database. Safe for concurrent use.
type Store interface {
	// Update runs fn in a read-write transaction, again after a conflict.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn in a read-only transaction, which sees one moment.
	View(ctx context.Context, fn func(tx Reader) error) error
	// Ping reports whether the database answers.
	Ping(ctx context.Context) error
	Close() error
}

// Page selects rows of a list, in the order of names.
type Page struct {
	Limit int    // rows at most; 0: all
	After string // token of the last page; "" from the start
}

// NodeFilter selects nodes; nil fields select all.
type NodeFilter struct {
	Location *string
	Online   *bool
	Error    *bool
	Labels   []vda.LabelMatch // all hold; likewise below
}

// PDFilter selects physical disks.
type PDFilter struct {
	DNID   *string
	Online *bool
	Error  *bool
	Labels []vda.LabelMatch
}

// DAFilter selects disk arrays.
type DAFilter struct {
	Trash  bool // those with a Purge, instead of those without
	Error  *bool
	Labels []vda.LabelMatch
}

// SnapFilter selects snapshots.
type SnapFilter struct {
	DAID   *string
	Error  *bool
	Labels []vda.LabelMatch
}

// ExpFilter selects exporters. Error: one of its es is in error.
type ExpFilter struct {
	DAID         *string
	InitiatorNQN *string
	Error        *bool
	Labels       []vda.LabelMatch
}

// Reader is a transaction that reads. Single-row getters return a vda.NotFound
// error. Lists leave tombstones out unless the method says otherwise. Every
// value goes in and out as a copy.
type Reader interface {
	// ClusterID returns the cluster's id. A transaction that writes locks its row,
	// before any other.
	ClusterID() (string, error)
	// Unlocked reads in the same transaction and locks nothing: what it returns may
	// have changed when the transaction ends.
	Unlocked() Reader

	// Node and NodeByName return what nodes of both kinds have.
	Node(k vda.NodeKind, id string) (*vda.Node, error)
	NodeByName(k vda.NodeKind, name string) (*vda.Node, error)
	DN(id string) (*vda.DN, error)
	CN(id string) (*vda.CN, error)
	ListDN(f NodeFilter, p Page) (rows []vda.DN, next string, err error)
	ListCN(f NodeFilter, p Page) (rows []vda.CN, next string, err error)

	// NodesListening returns the nodes of a kind that have a listener at an address, as vda.ParseTraddr
	// spells it, on whichever port, in no order; nothing is locked.
	NodesListening(k vda.NodeKind, traddr string) ([]vda.Node, error)
	// NodeStates returns what monitors have to know of all nodes of a kind, in no order;
	// nothing is locked.
	NodeStates(k vda.NodeKind) ([]NodeState, error)
	// NodesAt returns those of nodes whose agents are at an address, likewise.
	NodesAt(k vda.NodeKind, addr string) ([]NodeState, error)
	// DNsByID and CNsByID return those of these that are there, in no order; nothing is
	// locked.
	DNsByID(ids []string) ([]vda.DN, error)
	CNsByID(ids []string) ([]vda.CN, error)
	// SomePDs and SomeCNs return n at random, or all when there are not more; nothing is
	// locked.
	SomePDs(n int) ([]vda.PD, error)
	SomeCNs(n int) ([]vda.CN, error)

	PD(id string) (*vda.PD, error)
	PDByName(dnID, name string) (*vda.PD, error)
	ListPD(f PDFilter, p Page) ([]vda.PD, string, error)

	VD(id string) (*vda.VD, error)
	VDsOfDA(daID string) ([]vda.VD, error) // by GrpIdx, Idx; tombstones too
	// AilingVDs returns the vds of arrays that are in error, by array, GrpIdx and
	// Idx, without tombstones; nothing is locked.
	AilingVDs(daIDs []string) ([]vda.VD, error)
	// LegsOf returns the vds of mirrored arrays among these, by array, GrpIdx and
	// Idx, without tombstones and those of groups that are joining; nothing is locked.
	LegsOf(daIDs []string) ([]vda.VD, error)
	// DAs returns those of these arrays that are there, by ID. VDsOf and the like return the
	// parts of arrays, tombstones too, by array, and then as those of one array; nothing of them is locked,
	// as who changes them has locked the array.
	DAs(ids []string) ([]vda.DA, error)
	VDsOf(daIDs []string) ([]vda.VD, error)
	GrpsOf(daIDs []string) ([]vda.Grp, error)
	CntlrsOf(daIDs []string) ([]vda.Cntlr, error)
	MirrorsOf(daIDs []string) ([]vda.Mirror, error)
	// VDsByID and CntlrsByID return those of these that are there, ESsOfCntlrs those of controllers,
	// likewise: by ID, and by controller.
	VDsByID(ids []string) ([]vda.VD, error)
	CntlrsByID(ids []string) ([]vda.Cntlr, error)
	ESsOfCntlrs(cntlrIDs []string) ([]vda.ES, error)
	VDsOfPD(pdID string) ([]vda.VD, error) // tombstones too
	// UnsettledLegs returns the legs that are not members, or are to leave, or are in
	// error, of all arrays, by array, GrpIdx and Idx, without tombstones; nothing is locked.
	UnsettledLegs() ([]vda.VD, error)
	// BehindOnCN returns the members that lack something, by what was noted last, of the arrays
	// whose primary is on a cn, likewise.
	BehindOnCN(cnID string) ([]vda.VD, error)

	// TrashedVDs returns the vds of arrays that have a Purge, likewise, by array.
	TrashedVDs() ([]vda.VD, error)
	// TrashedSizes are the bytes of these per dn, by its id, added up in the database. Nothing is
	// locked.
	TrashedSizes() (map[string]uint64, error)
	// DrainingVDs returns the vds on dns and pds that are being drained, likewise.
	DrainingVDs() ([]vda.VD, error)

	Cntlr(id string) (*vda.Cntlr, error)
	CntlrsOfDA(daID string) ([]vda.Cntlr, error) // by Idx; tombstones too
	CntlrsOfCN(cnID string) ([]vda.Cntlr, error) // tombstones too
	// CntlrsOfDAs returns the controllers of arrays, by array and Idx, without
	// tombstones; nothing is locked.
	CntlrsOfDAs(daIDs []string) ([]vda.Cntlr, error)

	DA(id string) (*vda.DA, error)
	DAByName(name string) (*vda.DA, error) // live ones only, without a Purge
	ListDA(f DAFilter, p Page) ([]vda.DA, string, error)
	DeletedDAs() ([]vda.DA, error)
	// SuspectDAs returns the arrays with which anything may be wrong, by name, without those
	// in the trash: those in error, those that are nearly full, and those of which a leg is
	// missing, not a member, or not well. Nothing is locked.
	SuspectDAs() ([]vda.DA, error)
	// CountDAs counts the arrays that are neither deleted nor in the trash, and their bytes, in
	// whole MiB each, in the database. Nothing is locked.
	CountDAs() (n, size uint64, err error)
	GrpsOfDA(daID string) ([]vda.Grp, error)
	MirrorsOfDA(daID string) ([]vda.Mirror, error) // by GrpIdx, Idx

	// Snap returns a snapshot, also one that is being deleted; SnapByName a live one.
	Snap(id string) (*vda.Snap, error)
	SnapByName(daID, name string) (*vda.Snap, error)
	ListSnap(f SnapFilter, p Page) ([]vda.Snap, string, error)
	CopyingDAs() ([]vda.DA, error)             // those that are not without their source yet, tombstones too
	AutoGrowDAs() ([]vda.DA, error)            // those that grow by themselves, tombstones too
	CloneExps() ([]vda.Exp, error)             // live exporters that clones are copied from
	TogetherSnaps() ([]vda.Snap, error)        // that are being taken together with those of other arrays
	CloneSnaps() ([]vda.Snap, error)           // live snapshots that were taken for a clone alone
	SnapsOfDA(daID string) ([]vda.Snap, error) // the oldest first; those being deleted too

	Exp(id string) (*vda.Exp, error)
	ExpByName(daID, name string) (*vda.Exp, error)
	ExpByNQN(nqn string) (*vda.Exp, error)
	ListExp(f ExpFilter, p Page) ([]vda.Exp, string, error)
	ExpsOfDA(daID string) ([]vda.Exp, error) // tombstones too
	ESsOfExp(expID string) ([]vda.ES, error)
	ESsOfCntlr(cntlrID string) ([]vda.ES, error)
	// WaysOfExps returns the ways to exporters, in the order of exporters and
	// controllers' Idx, DANames the names of arrays, tombstones too, and NodeNames
	// those of nodes, by id: one query per table, and nothing is locked.
	WaysOfExps(expIDs []string) ([]Way, error)
	DANames(ids []string) (map[string]string, error)
	NodeNames(ids []string) (map[string]string, error)
	// DAsOnNode returns the ids of arrays that have parts on a node, tombstones
	// too. Nothing is locked.
	DAsOnNode(k vda.NodeKind, id string) ([]string, error)

	// DNObjects returns pds and vds of a node, tombstones too, whose
	// Version is above since (0: all).
	DNObjects(dnID string, since uint64) ([]vda.PD, []vda.VD, error)
	// CNObjects returns a node's controllers, tombstones too, likewise.
	CNObjects(cnID string, since uint64) ([]vda.Cntlr, error)

	// DAsOnCN and the like return rows of all arrays that have a controller of a Version above
	// since on a cn (0: all), tombstones too; SnapsOnCN in the order of ids, ExpsOnCN of names, the
	// others by array, and then as those of one array. One statement each, and nothing is locked.
	DAsOnCN(cnID string, since uint64) ([]vda.DA, error)
	PeersOnCN(cnID string, since uint64) ([]vda.Cntlr, error) // all controllers
	SnapsOnCN(cnID string, since uint64) ([]vda.Snap, error)
	ExpsOnCN(cnID string, since uint64) ([]vda.Exp, error)
	// GrpsOnCN, VDsOnCN and MirrorsOnCN return those of arrays whose primary that controller is.
	GrpsOnCN(cnID string, since uint64) ([]vda.Grp, error)
	VDsOnCN(cnID string, since uint64) ([]vda.VD, error)
	MirrorsOnCN(cnID string, since uint64) ([]vda.Mirror, error)
	// ESsOnCN returns those on these controllers alone, in the order of ids.
	ESsOnCN(cnID string, since uint64) ([]vda.ES, error)
	// TermsOnDN returns the terms of arrays, by id, that have a vd of a Version above since on a
	// dn, likewise.
	TermsOnDN(dnID string, since uint64) (map[string]uint64, error)

	Monitors() ([]Monitor, error) // by ID
	// LastBeat is when a monitor last beat, by that monitor's clock; zero: none has a row.
	LastBeat() (time.Time, error)
	// Alerts returns those that are raised, by code, object and name; nothing is locked.
	Alerts() ([]vda.Alert, error)

	// ListEvents returns events in the order of ids; nothing is locked.
	ListEvents(f EventFilter, p EventPage) ([]vda.Event, error)
	// LastEvent is the one of an object, of one of the kinds, with the highest id; nil
	// when there is none.
	LastEvent(objectID string, kinds ...vda.EventKind) (*vda.Event, error)

	// Tags returns what users have noted of dns, pds, cns, das, snaps and exps, by id;
	// those of which nothing is noted are left out. Nothing is locked.
	Tags(ids []string) (map[string]vda.Tags, error)

	// Security is how the cluster is secured; the zero value when it has no CA.
	Security() (Security, error)
	// Members are those that have or had a certificate, by kind and name.
	Members() ([]Member, error)
	// Token returns what a secret stands for whose hash is given, expired or not.
	Token(hash string) (*Token, error)
	Tokens() ([]Token, error) // by kind and name
	// Users are those that have a password, by name.
	Users() ([]User, error)
}

// Tx is a transaction that reads and writes. Inserts return vda.AlreadyExists
// when a unique name is taken. A row that was read is locked until the end, or
// the transaction conflicts and is retried.
type Tx interface {
	Reader

	InsertNode(vda.NodeKind, *vda.Node) error
	UpdateNode(vda.NodeKind, *vda.Node) error // by ID, all but Version, Applied and Health
	DeleteNode(k vda.NodeKind, id string) error
	// BumpNode adds one to the node's Version and returns it; callers stamp
	// changed pds, vds and controllers with it.
	BumpNode(k vda.NodeKind, id string) (uint64, error)
	// RaiseNode makes the node's Version one that lies above another.
	RaiseNode(k vda.NodeKind, id string, above uint64) error
	SetNodeApplied(k vda.NodeKind, id string, version uint64) error
	SetCNMirrors(id string, mirrors bool) error   // a cn's Mirrors
	SetCNAuth(id string, auth bool) error         // a cn's Auth
	SetCNReserves(id string, reserves bool) error // a cn's Reserves
	SetDNDrain(id string, drain bool) error       // a dn's Drain
	SetCNDrain(id string, drain vda.CNDrain) error

	InsertPD(*vda.PD) error
	UpdatePD(*vda.PD) error // all but Health, FreeClusters, VDCount and OrphanClusters
	DeletePD(id string) error
	// TakePD moves clusters from FreeClusters to one more vd;
	// vda.ResourceExhausted when there are not enough.
	TakePD(id string, clusters uint64) error
	GivePD(id string, clusters uint64) error
	// SetPDUsed says how many clusters are in use on the disk: those that no vd
	// accounts for are orphans, and not free.
	SetPDUsed(id string, clusters uint64) error
	// TakeOrphan is TakePD for clusters that are in use already.
	TakeOrphan(id string, clusters uint64) error

	InsertVD(*vda.VD) error
	UpdateVD(*vda.VD) error                        // all but Lack, CopyRate, Applied and Health
	SetVDLack(id string, bytes, rate uint64) error // Lack and CopyRate
	DeleteVD(id string) error
	// SetLegs writes the state of legs, SetVDLacks their Lack and CopyRate, SetMirrorGens the Gen of
	// mirrors, and SetCntlrVersions the Version of controllers: the same of each, with one statement for
	// a thousand. NotFound when one is gone.
	SetLegs(ids []string, s LegState) error
	SetVDLacks(ids []string, bytes, rate uint64) error
	SetMirrorGens(ids []string, gen uint64) error
	SetCntlrVersions(ids []string, version uint64) error
	// SetApplied notes of vds or controllers, o says which, that their nodes have carried out their
	// Version where that is upTo at most; what has a higher one, or is gone, is passed over.
	SetApplied(o Object, ids []string, upTo uint64) error

	InsertCntlr(*vda.Cntlr) error // counts it in its cn's CntlrCount and PrimaryCount
	UpdateCntlr(*vda.Cntlr) error // all but Applied and Health; keeps PrimaryCount
	DeleteCntlr(id string) error

	InsertDA(*vda.DA) error
	UpdateDA(*vda.DA) error // all but Space and Health
	SetDASpace(id string, s vda.Space) error
	DeleteDA(id string) error
	InsertGrp(*vda.Grp) error
	UpdateGrp(*vda.Grp) error
	DeleteGrp(id string) error
	InsertMirror(*vda.Mirror) error
	UpdateMirror(*vda.Mirror) error // its Size, Gen and Recovered
	SetMirrorScrub(id string, s vda.Scrub) error
	DeleteMirror(id string) error

	InsertSnap(*vda.Snap) error // AlreadyExists on the name in its da
	// UpdateSnap writes all but Health. FailedPrecondition when that would take the
	// state back.
	UpdateSnap(*vda.Snap) error
	DeleteSnap(id string) error

	InsertExp(*vda.Exp) error // AlreadyExists on the name in its da and on the NQN
	UpdateExp(*vda.Exp) error
	DeleteExp(id string) error
	InsertES(*vda.ES) error
	DeleteES(id string) error

	// SetTags replaces what is noted of an object, whose row, or that of its array,
	// the caller has locked. It goes when the object's row is deleted.
	SetTags(id string, t vda.Tags) error

	// BeatMonitor adds one to a monitor's Beat; new says that it had no row
	// and has one now.
	BeatMonitor(id, name string) (new bool, err error)
	// SetMonitorHalvings writes a monitor's Halvings.
	SetMonitorHalvings(id string, n int) error
	DeleteMonitor(id string) error

	// UpsertAlert raises an alert, or replaces the text of one that is raised; new says that
	// it was not.
	UpsertAlert(vda.Alert) (new bool, err error)
	// DeleteAlert ends an alert; was says that it was raised.
	DeleteAlert(vda.Alert) (was bool, err error)

	// Record writes an event at the end of the transaction, in which what it tells of is
	// done. ID and At are filled in, and Caller from the context of the transaction
	// (WithCaller) when it is empty and the kind is Caused.
	Record(vda.Event) error
	// DeleteOldEvents deletes those whose ids lie further than keep below the highest, some
	// thousands at a time; more: there are more of them.
	DeleteOldEvents(keep uint64) (more bool, err error)

	// SetSecurity writes how the cluster is secured.
	SetSecurity(Security) error
	UpsertMember(Member) error // inserts or replaces it
	InsertToken(*Token) error
	// DeleteToken takes a token away: vda.NotFound for one that is not there, so
	// that of two that use it one succeeds.
	DeleteToken(hash string) error
	InsertUser(*User) error
	UpdateUser(*User) error       // by Name
	DeleteUser(name string) error // and none of their tokens

	// SetHealth records what the monitor saw of an object; a repeated error
	// keeps its Since.
	SetHealth(o Object, id string, h vda.Health) error
	// SetHealths is SetHealth for many that have the same; those that are gone are passed over.
	SetHealths(o Object, ids []string, h vda.Health) error
}

// Way is one controller's way to an exporter: the state there, and what it
// depends on.
type Way struct {
	ExpID, ESID string
	CntlrIdx    uint32
	CNName      string
	Listener    vda.Listener
	Health      vda.Health // of the ES
	CntlrHealth vda.Health
	CNHealth    vda.Health
}

// Monitor is a running vda_monitor. As long as its Beat changes it is alive;
// its watchers go by their own clocks.
type Monitor struct {
	ID   string // of the process, new at each start
	Name string // where it serves
	Beat uint64
	// Halvings says by how many halvings its share of the nodes is smaller than that of
	// others, because it is slow; -1: it does not say, as a monitor of before.
	Halvings int
}

// Object is a kind of object that has a Health.
type Object uint8

// NodeObject is the object that a node of a kind is.
func NodeObject(k vda.NodeKind) Object {
	if k == vda.DiskNode {
		return ObjDN
	}
	return ObjCN
}

// The kinds of objects.
const (
	ObjDN Object = iota + 1
	ObjPD
	ObjVD
	ObjCN
	ObjCntlr
	ObjDA
	ObjES
	ObjSnap
)
