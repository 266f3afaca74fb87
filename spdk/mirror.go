package spdk

import (
	"context"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
)

// The methods of this file are vda_tgt's only: IsMethodNotFound on SPDK. What a
// mirror and its legs are: docs/mirror.md.

// MirrorRole is what a leg of a mirror is.
type MirrorRole string

// The roles. A caller gives the first three; MirrorJoining is only reported.
const (
	MirrorMember MirrorRole = "member" // has every acknowledged write, and may be read
	MirrorTarget MirrorRole = "target" // is written and copied to; nobody waits for it
	MirrorAbsent MirrorRole = "absent" // is not used: SQL's stale and leaving
	// MirrorJoining is a target that lacks nothing: writes wait for it, and SQL may
	// make it a member (Ready).
	MirrorJoining MirrorRole = "joining"
)

// MirrorLeg is a leg as SQL has it. Legs are known by their VD: they keep it as
// long as they are named.
type MirrorLeg struct {
	VD   string     `json:"vd_id"`     // UUID of the vd, with or without dashes
	Bdev string     `json:"bdev_name"` // its bdev, which need not be there; must not change while the leg is connected
	Role MirrorRole `json:"role"`
	// Epoch is a UUID that the disk node changes once it may have lost what it had
	// acknowledged and not flushed, as at each start of its data plane. "": nobody
	// knows, and a leg that was lost catches up by a repair.
	Epoch string `json:"epoch,omitempty"`
	// Bare says that the leg may have no label: its bdev has no more than Size
	// bytes, or had until lately. It must be the one member. A mirror of one such
	// leg costs next to nothing: I/O goes straight to the leg. Growing its bdev by 1
	// MiB and VdaMirrorSet give it a label; keep Bare until a Set has returned that
	// found it grown. A target may be copied to while the leg is still bare, with a
	// map in memory: the copy starts over when the mirror is created again, and the
	// target must then be there, or be absent in the set: it might have become a
	// member, so all I/O waits until one or the other is the case.
	Bare bool `json:"bare,omitempty"`
}

// MirrorCreate are the parameters of vda_mirror_create.
type MirrorCreate struct {
	Name   string      `json:"name"` // of the bdev
	UUID   string      `json:"uuid,omitempty"`
	DA     string      `json:"da_id"`     // UUID
	Mirror string      `json:"mirror_id"` // UUID
	Size   uint64      `json:"size"`      // bytes of data, a multiple of 4096
	Term   uint64      `json:"term"`
	Gen    uint64      `json:"gen"`
	Legs   []MirrorLeg `json:"legs"` // 1 to 4, at least one of them a member
	// Fresh says that the mirror may never have been up, so that its legs, which
	// are zeroed, may lack labels. A mirror that was online once must not be Fresh:
	// a leg without a label would pass for an equal one.
	Fresh bool `json:"fresh,omitempty"`
	// CopyMB bounds what is copied, repaired and scrubbed, in MiB per second; 0: no
	// bound.
	CopyMB uint32 `json:"copy_mb_per_sec,omitempty"`
	// Recovered is the gen of the last set by which a user has had the mirror go on with
	// members that may lack writes; 0: none has. I/O waits when labels of a later gen have all members
	// catching up. nil: it never does for that. LacksParameter, of a value, on a vda_tgt of before.
	Recovered *uint64 `json:"recovered,omitempty"`
}

// MirrorSet are the parameters of vda_mirror_set.
type MirrorSet struct {
	Name string      `json:"name"`
	Term uint64      `json:"term"` // that of vda_mirror_create
	Gen  uint64      `json:"gen"`  // not less than before; greater when the members are others
	Legs []MirrorLeg `json:"legs"` // all of them
	// Recovered is MirrorCreate's, for a mirror that is not assembled yet.
	Recovered *uint64 `json:"recovered,omitempty"`
}

// Mirror is the state of a mirror, what all methods of this file but
// VdaMirrorSetOptions and VdaMirrorDelete return.
type Mirror struct {
	Name   string `json:"name"`
	UUID   string `json:"uuid"`
	Mirror string `json:"mirror"` // id, 32 hexadecimal digits
	DA     string `json:"da"`     // id, likewise
	Size   uint64 `json:"size"`   // bytes of data
	Term   uint64 `json:"term"`
	Gen    uint64 `json:"gen"` // of the last set that was taken
	// Assembled: labels of this life are on all members. Until then a lost member may
	// still come back by vda_mirror_set.
	Assembled bool `json:"assembled"`
	// Online: I/O is served. False: it waits for a lost leg, or for labels.
	Online  bool             `json:"online"`
	Changes uint64           `json:"changes"`         // counts changes of all that is said here but numbers of bytes
	Repair  uint64           `json:"repair_bytes"`    // in which legs may differ after an unclean end; being repaired
	CopyMB  uint32           `json:"copy_mb_per_sec"` // MiB per second that are copied at most; 0: no bound
	Legs    []MirrorLegState `json:"legs"`
	Scrub   MirrorScrub      `json:"scrub"` // the one that is running, or the last one
}

// MirrorScrub is how far a scrub is.
type MirrorScrub struct {
	State      string   `json:"state"`      // none, running, done, or stopped before its end
	Done       uint64   `json:"done_bytes"` // of Size
	Mismatches uint64   `json:"mismatches"` // blocks of 4096 bytes in which members differed
	Repaired   uint64   `json:"repaired"`   // of these, blocks that were written again where they were wrong
	Offsets    []uint64 `json:"offsets"`    // in bytes, of the first 64 of them
}

// MirrorLegState is the state of a leg.
type MirrorLegState struct {
	VD   string     `json:"vd"` // id, 32 hexadecimal digits
	Bdev string     `json:"bdev"`
	Role MirrorRole `json:"role"` // as the data plane has it
	// Lost: writes have to wait for it and it does not answer. All I/O waits until
	// vda_mirror_set drops the leg (with a greater gen) or finds it back.
	Lost bool   `json:"lost"`
	Why  string `json:"why"` // it is lost or not connected; for people
	// CatchingUp: a member that may lack writes until the repair is done. It must not
	// become the last one.
	CatchingUp bool `json:"catching_up"`
	// Connected: a member that answers and has all writes. It may become the last.
	Connected bool `json:"connected"`
	// Ready: a joining leg that may be made a member, with a gen one greater.
	Ready bool   `json:"ready"`
	Lack  uint64 `json:"lack_bytes"` // that a target still lacks
}

// Mirror returns the mirror that a bdev is, from its DriverSpecific; nil for other
// bdevs.
func (b *Bdev) Mirror() *Mirror {
	var d struct {
		Mirror *Mirror `json:"mirror"`
	}
	if jsonv2.Unmarshal(b.DriverSpecific, &d, lenient) != nil {
		return nil
	}
	return d.Mirror
}

// VdaMirrorCreate assembles a mirror from the legs whose bdevs are there, and
// makes its bdev. It may not be online yet: I/O waits until members that are not
// there are back or dropped. -17 (IsExists) when the name is taken, -22 for
// parameters that cannot be, -116 when a label is ahead of Term or Gen, which
// says that SQL has gone back in time, -5 when no member can be read.
func (a API) VdaMirrorCreate(ctx context.Context, p MirrorCreate) (*Mirror, error) {
	return ask[*Mirror](ctx, a, "vda_mirror_create", p)
}

// VdaMirrorSet tells a mirror what SQL has made of it, and connects to legs that
// are there: targets are attached, and lost members resume. It may be repeated
// as legs come back. -19 (IsNoSuchDevice): create it. -22 when the set does not
// follow from what the mirror knows; it is as before then. -16 when legs are
// busy, or those that are to stay catch up, and -5 when a mirror that was not assembled cannot be now: call again,
// when a leg is back or after a second.
func (a API) VdaMirrorSet(ctx context.Context, p MirrorSet) (*Mirror, error) {
	return ask[*Mirror](ctx, a, "vda_mirror_set", p)
}

// VdaMirrorGetBdevs lists mirrors: the named one, or all for "". -19
// (IsNoSuchDevice) when no mirror has that name.
func (a API) VdaMirrorGetBdevs(ctx context.Context, mirror string) ([]Mirror, error) {
	return ask[[]Mirror](ctx, a, "vda_mirror_get_bdevs", struct {
		Name string `json:"name,omitempty"`
	}{mirror})
}

// VdaMirrorWait returns the state of a mirror when its Changes are not these, or
// after the timeout: 30 s for 0, 60 s at most.
func (a API) VdaMirrorWait(ctx context.Context, mirror string, changes uint64, timeout time.Duration) (*Mirror, error) {
	return ask[*Mirror](ctx, a, "vda_mirror_wait", struct {
		Name    string `json:"name"`
		Changes uint64 `json:"changes"`
		Timeout int64  `json:"timeout_ms,omitempty"`
	}{mirror, changes, timeout.Milliseconds()})
}

// MirrorNews is what has become of mirrors.
type MirrorNews struct {
	Changes uint64 `json:"changes"` // of the next call
	All     bool   `json:"all"`     // Mirrors has all; false: those that it lacks are as they were
	// Mirrors have changed, or bytes of them are copied, repaired or scrubbed, or they
	// have legs that are lost or not connected.
	Mirrors []Mirror `json:"mirrors"`
}

// VdaMirrorWatch returns mirrors that have changed since a call that returned these
// Changes, when there is one, or after the timeout: 30 s for 0, 60 s at most. All
// mirrors are returned at once for 0, and when the data plane is another process.
func (a API) VdaMirrorWatch(ctx context.Context, changes uint64, timeout time.Duration) (*MirrorNews, error) {
	return ask[*MirrorNews](ctx, a, "vda_mirror_watch", struct {
		Changes uint64 `json:"changes,omitempty"`
		Timeout int64  `json:"timeout_ms,omitempty"`
	}{changes, timeout.Milliseconds()})
}

// MirrorOptions are the parameters of vda_mirror_set_options.
type MirrorOptions struct {
	Name   string `json:"name,omitempty"`  // "": all mirrors of the node together, beside the bound of each
	CopyMB uint32 `json:"copy_mb_per_sec"` // MiB per second that are copied at most; 0: no bound
}

// VdaMirrorSetOptions changes how much is copied per second.
func (a API) VdaMirrorSetOptions(ctx context.Context, p MirrorOptions) error {
	return a.do(ctx, "vda_mirror_set_options", p)
}

// VdaMirrorScrub begins to compare all members of a mirror; the state has what is
// found. Of three members, one that differs from two is repaired. repairFrom is the
// vd that others are repaired from wherever they differ; "": two members that
// differ are counted and left as they are. -16 when a scrub is running, -22 when
// there is one member alone.
func (a API) VdaMirrorScrub(ctx context.Context, mirror, repairFrom string) (*Mirror, error) {
	return ask[*Mirror](ctx, a, "vda_mirror_scrub", struct {
		Name string `json:"name"`
		From string `json:"repair_from,omitempty"`
	}{mirror, repairFrom})
}

// VdaMirrorStopScrub ends a scrub, if one is running; what it has found stays.
func (a API) VdaMirrorStopScrub(ctx context.Context, mirror string) (*Mirror, error) {
	return ask[*Mirror](ctx, a, "vda_mirror_scrub", struct {
		Name string `json:"name"`
		Stop bool   `json:"stop"`
	}{mirror, true})
}

// VdaMirrorDelete takes a mirror apart when its users have let go of it. Its legs
// keep their data, and labels that say whether they are equal.
func (a API) VdaMirrorDelete(ctx context.Context, mirror string) error {
	return a.do(ctx, "vda_mirror_delete", name{mirror})
}
