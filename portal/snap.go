package portal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
)

// CreateSnap takes a snapshot of a disk array. It is taken when the reply says so,
// and none is left when the reply is an error: the order becomes a tombstone in SQL
// before the caller hears that it has failed.
func (s *Server) CreateSnap(ctx context.Context, req *apiv1.CreateSnapRequest) (*apiv1.CreateSnapReply, error) {
	snap := &vda.Snap{ID: store.NewID(), Name: req.SnapName, State: vda.SnapAsked, Asked: time.Now().UTC()}
	if err := snap.Validate(); err != nil {
		return nil, err
	}
	tags, err := vda.NewTags(req.Label, req.Description)
	if err != nil {
		return nil, err
	}
	if req.FromSnap != "" {
		if err := vda.CheckName("from_snap", req.FromSnap); err != nil {
			return nil, err
		}
		if strings.Contains(req.DaName, ",") {
			return nil, invalid("from_snap is given with several das in da_name: a writable snapshot begins with a snapshot of its one da")
		}
	}
	if strings.Contains(req.DaName, ",") {
		return s.createSnaps(ctx, strings.Split(req.DaName, ","), snap.Name, tags)
	}
	now, err := s.takeSnap(ctx, req.DaName, snap, req.FromSnap, tags)
	if err != nil {
		return nil, err
	}
	msg := snapMsg(now, req.DaName, nil)
	msg.FromSnap = req.FromSnap
	msg.LabelList, msg.Description = tags.LabelList(), tags.Description
	return &apiv1.CreateSnapReply{SnapMsg: msg}, nil
}

// takeSnap has a snapshot taken, or a writable one made of the snapshot from; when it returns an
// error, none is left.
func (s *Server) takeSnap(ctx context.Context, daName string, snap *vda.Snap, from string, tags vda.Tags) (*vda.Snap, error) {
	err := s.update(ctx, func(tx store.Tx) error {
		da, err := findDA(tx, daName)
		if err != nil {
			return err
		}
		if err := snapFits(tx, da, snap); err != nil {
			return err
		}
		if from != "" {
			origin, err := writableOrigin(tx, da, from)
			if err != nil {
				return err
			}
			snap.CloneOf, snap.Size = origin.ID, origin.Size
		}
		_, err = array.CreateSnap(tx, snap)
		return setTags(tx, snap.ID, tags, err)
	})
	if err != nil {
		return nil, err
	}
	now, why := s.awaitSnap(ctx, snap)
	if now == nil {
		return s.cancelSnap(ctx, snap, daName, why)
	}
	return now, nil
}

// snapFits refuses a snapshot whose name is taken, and one that is too many, and fills in
// whose it is.
func snapFits(tx store.Tx, da *vda.DA, snap *vda.Snap) error {
	if err := notCopying(da, "snapshotted"); err != nil {
		return err
	}
	snap.DAID, snap.Size = da.ID, da.Size
	old, err := tx.SnapByName(da.ID, snap.Name)
	if err := taken(err, func() error {
		return refuse(codeNameTaken, vda.AlreadyExists, "snap %s of da %s already exists, of %s", old.Name, da.Name, rfc3339(old.Asked))
	}); err != nil {
		return err
	}
	if err := notRolling(tx, da); err != nil {
		return err
	}
	all, err := tx.SnapsOfDA(da.ID)
	if err != nil {
		return err
	}
	most, err := array.MaxSnaps(tx, da)
	if err != nil {
		return err
	}
	if len(all) >= most {
		return vda.Errorf(vda.ResourceExhausted, "da %s has %d snaps, with those that are being deleted; with its physical_size of %d bytes "+
			"it may have %d; delete some first", da.Name, len(all), da.PhysicalSize, most)
	}
	return nil
}

// awaitSnap has the array's primary, whichever node that is by now, take a snapshot,
// and returns the snapshot when it is taken, else why it is not.
func (s *Server) awaitSnap(ctx context.Context, snap *vda.Snap) (now *vda.Snap, why string) {
	return s.awaitRow(ctx, snap, func(row *vda.Snap) bool { return row.State == vda.SnapTaken })
}

// awaitRow has the array's primary be told of a snapshot until its row is as it should.
func (s *Server) awaitRow(ctx context.Context, snap *vda.Snap, good func(*vda.Snap) bool) (now *vda.Snap, why string) {
	ctx, cancel := s.syncTime(ctx)
	defer cancel()
	begin := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var at []node
		row := snap
		err := s.view(ctx, func(tx store.Reader) (err error) {
			at, err = primaryOf(tx, snap.DAID)
			return err
		})
		if err == nil {
			if notes := s.sync(ctx, at); notes != nil {
				why = notes[0]
			}
			err = s.view(ctx, func(tx store.Reader) (err error) {
				row, err = tx.Snap(snap.ID)
				return err
			})
		}
		switch {
		case err != nil:
			why = reason.Of(err)
		case row.State != vda.SnapDeleting && good(row):
			return row, ""
		case row.State == vda.SnapDeleting:
			return nil, "another request has deleted it"
		case row.Health.Error:
			why = row.Health.Msg
			if time.Since(begin) >= s.cfg.SettleTime {
				return nil, why
			}
		}
		select {
		case <-ctx.Done():
			if why == "" {
				why = "the array's primary has not carried it out in time"
				if snap.Writable() {
					why += ", as an agent (vda_cn_agent) of a release without writable snapshots does not"
				}
			}
			return nil, why
		case <-time.After(pause):
		}
	}
}

// primaryOf is the node on which an array's primary is.
func primaryOf(tx store.Reader, daID string) ([]node, error) {
	plan, err := array.Members(tx, daID)
	if err != nil {
		return nil, err
	}
	steps, err := stepsOf(tx, array.Plan{{Role: array.Primary, Nodes: plan.Of(array.Primary)}})
	if err != nil {
		return nil, err
	}
	return steps[0], nil
}

// cancelTime bounds the end of an order that has failed, which outlives its
// request.
const cancelTime = 5 * time.Second

// cancelSnap makes a snapshot that was not taken a tombstone and returns what to
// answer; the snapshot, when it has been taken in the last moment.
func (s *Server) cancelSnap(ctx context.Context, snap *vda.Snap, daName, why string) (*vda.Snap, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	var now *vda.Snap
	var steps [][]node
	err := s.update(ctx, func(tx store.Tx) error {
		now = nil
		if _, err := tx.DA(snap.DAID); err != nil {
			return err
		}
		row, err := tx.Snap(snap.ID)
		switch {
		case err != nil:
			return err
		case row.State == vda.SnapTaken:
			now = row
			return nil
		case row.State == vda.SnapDeleting:
			return nil
		}
		plan, err := array.DeleteSnap(tx, row)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	})
	switch {
	case now != nil && err == nil:
		return now, nil
	case err != nil && !isKind(err, vda.NotFound):
		return nil, refuse(codeDatabase, vda.Unavailable, "it is not known whether snap %s of da %s is or will be %s (%s); snap get says",
			snap.Name, daName, verb(snap), reason.Of(err))
	}
	left := "none is left"
	if notes := s.syncAll(ctx, steps...); notes != nil || s.leftOf(ctx, snap) != nil {
		left = "what there may be of it is deleted when the array's primary can be reached"
	}
	return nil, vda.Errorf(vda.FailedPrecondition, "snap %s of da %s is not %s: %s; %s", snap.Name, daName, verb(snap), why, left)
}

// DeleteSnap deletes a snapshot that no exporter shows. The others keep what they
// share with it.
func (s *Server) DeleteSnap(ctx context.Context, req *apiv1.DeleteSnapRequest) (*apiv1.DeleteSnapReply, error) {
	var steps [][]node
	var snap *vda.Snap
	mark := func(tx store.Tx) error {
		da, row, err := findSnap(tx, req.DaName, req.SnapName)
		if err != nil {
			return err
		}
		snap = row
		if err := snapUnused(tx, da, snap); err != nil {
			return err
		}
		clones, err := clonesOfSnap(tx, snap)
		if err != nil {
			return err
		}
		if clones != nil {
			return inUse("snap", snap.Name+" of da "+da.Name, "writable snaps that were made of it", clones)
		}
		// A rollback that cannot be carried out is given up with its snapshot.
		if err := notRolling(tx, da); err != nil && (snap.Rollback == vda.RollbackNone || !snap.Health.Error) {
			return err
		}
		plan, err := array.DeleteSnap(tx, snap)
		if err != nil {
			return err
		}
		steps, err = stepsOf(tx, plan)
		return err
	}
	if err := s.unlessSpent(ctx, req.DaName, func() error { return s.update(ctx, mark) }); err != nil {
		return nil, err
	}
	notes := s.syncAll(ctx, steps...)
	if notes == nil {
		notes = s.leftOf(ctx, snap)
	}
	return &apiv1.DeleteSnapReply{ReplyInfo: done("the snap is deleted", notes)}, nil
}

// leftOf is why a snapshot that is to go is still there, nil when it is gone.
func (s *Server) leftOf(ctx context.Context, snap *vda.Snap) (notes []string) {
	_ = s.view(ctx, func(tx store.Reader) error {
		row, err := tx.Snap(snap.ID)
		switch {
		case err != nil: // gone, or the database will say so to those who ask
		case row.Health.Error:
			notes = []string{row.Health.Msg}
		default:
			notes = []string{"its space is not given back yet"}
		}
		return nil
	})
	return notes
}

// snapUnused refuses what exporters of a snapshot stand in the way of.
func snapUnused(tx store.Reader, da *vda.DA, snap *vda.Snap) error {
	names, err := expsOfSnap(tx, snap)
	if err != nil || names == nil {
		return err
	}
	if names, err = withoutClones(tx, "snap", snap.Name+" of da "+da.Name, names); err != nil {
		return err
	}
	return inUse("snap", snap.Name+" of da "+da.Name, "exps", names)
}

func expsOfSnap(tx store.Reader, snap *vda.Snap) (names []string, err error) {
	exps, err := tx.ExpsOfDA(snap.DAID)
	for i := range exps {
		if e := &exps[i]; !e.Deleted && e.SnapName == snap.Name {
			names = append(names, e.Name)
		}
	}
	return names, err
}

// liveSnaps are the names of an array's snapshots, nil when it has none.
func liveSnaps(tx store.Reader, daID string) (names []string, err error) {
	snaps, err := tx.SnapsOfDA(daID)
	for i := range snaps {
		if snaps[i].Live() {
			names = append(names, snaps[i].Name)
		}
	}
	return names, err
}

// ModifySnap changes the tags of a snapshot, and renames one that no exporter shows:
// exporters know it by its name.
func (s *Server) ModifySnap(ctx context.Context, req *apiv1.ModifySnapRequest) (*apiv1.ModifySnapReply, error) {
	tags := tagChange{req.Label, req.NewDescription}
	if req.NewSnapName == nil && tags.none() {
		return nil, nothingToModify("new_snap_name, " + tagFields)
	}
	if err := tags.check(); err != nil {
		return nil, err
	}
	if req.NewSnapName != nil {
		if err := vda.CheckNewSnapName("new_snap_name", *req.NewSnapName); err != nil {
			return nil, err
		}
	}
	var msg *apiv1.SnapMsg
	err := s.update(ctx, func(tx store.Tx) error {
		da, snap, err := findSnap(tx, req.DaName, req.SnapName)
		if err != nil {
			return err
		}
		if err := tags.apply(tx, snap.ID); err != nil {
			return err
		}
		if name := req.GetNewSnapName(); req.NewSnapName != nil && snap.Name != name {
			if err := snapUnused(tx, da, snap); err != nil {
				return err
			}
			_, err := tx.SnapByName(da.ID, name)
			if err := taken(err, func() error {
				return refuse(codeNameTaken, vda.AlreadyExists, "snap %s of da %s already exists", name, da.Name)
			}); err != nil {
				return err
			}
			if err := renameShown(tx, snap, name); err != nil {
				return err
			}
			snap.Name = name
			if err := tx.UpdateSnap(snap); err != nil {
				return err
			}
		}
		msg = snapMsg(snap, da.Name, nil)
		if err := showOrigins(tx, []vda.Snap{*snap}, []*apiv1.SnapMsg{msg}); err != nil {
			return err
		}
		return describe(tx, msg)
	})
	return &apiv1.ModifySnapReply{SnapMsg: msg}, err
}

// renameShown has the exporters of a snapshot that are deleted and not gone yet follow it to
// another name: through those of a writable one hosts may still write to it.
func renameShown(tx store.Tx, snap *vda.Snap, name string) error {
	exps, err := tx.ExpsOfDA(snap.DAID)
	if err != nil {
		return err
	}
	for i := range exps {
		e := &exps[i]
		if !e.Deleted || e.SnapName != snap.Name {
			continue
		}
		e.SnapName = name
		if err := tx.UpdateExp(e); err != nil {
			return err
		}
	}
	return nil
}

// ListSnap lists snapshots by name.
func (s *Server) ListSnap(ctx context.Context, req *apiv1.ListSnapRequest) (*apiv1.ListSnapReply, error) {
	p, err := page(req.Limit, req.Token)
	if err != nil {
		return nil, err
	}
	labels, err := vda.ParseLabelMatches(req.Label)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListSnapReply{}
	err = s.view(ctx, func(tx store.Reader) error {
		filter := store.SnapFilter{Error: req.Error, Labels: labels}
		if req.DaName != nil {
			da, err := findDA(tx, *req.DaName)
			if err != nil {
				return err
			}
			filter.DAID = &da.ID
		}
		rows, next, err := tx.ListSnap(filter, p)
		if err != nil {
			return err
		}
		reply.NextToken = next
		das, err := tx.DANames(sortedIDs(rows, func(s vda.Snap) string { return s.DAID }))
		for i := range rows {
			reply.SnapMsgList = append(reply.SnapMsgList, snapMsg(&rows[i], das[rows[i].DAID], nil))
		}
		if err != nil {
			return err
		}
		if err := showOrigins(tx, rows, reply.SnapMsgList); err != nil {
			return err
		}
		return describe(tx, reply.SnapMsgList...)
	})
	return reply, err
}

// GetSnap shows a snapshot.
func (s *Server) GetSnap(ctx context.Context, req *apiv1.GetSnapRequest) (*apiv1.GetSnapReply, error) {
	var msg *apiv1.SnapMsg
	err := s.view(ctx, func(tx store.Reader) error {
		da, snap, err := findSnap(tx, req.DaName, req.SnapName)
		if req.SnapId != "" && da != nil && (isKind(err, vda.NotFound) || err == nil && snap.ID != req.SnapId) {
			snap, err = findDeletingSnap(tx, da, req.SnapName, req.SnapId)
		}
		if err != nil {
			return err
		}
		exps, err := expsOfSnap(tx, snap)
		if err != nil {
			return fmt.Errorf("read snap %s: %w", snap.Name, err)
		}
		msg = snapMsg(snap, da.Name, exps)
		if msg.CloneNameList, err = clonesOfSnap(tx, snap); err != nil {
			return err
		}
		if err := showOrigins(tx, []vda.Snap{*snap}, []*apiv1.SnapMsg{msg}); err != nil {
			return err
		}
		return describe(tx, msg)
	})
	return &apiv1.GetSnapReply{SnapMsg: msg}, err
}

// findDeletingSnap finds a snapshot of that id, whose name may be another's by now.
func findDeletingSnap(tx store.Reader, da *vda.DA, name, id string) (*vda.Snap, error) {
	snap, err := tx.Snap(id)
	if isKind(err, vda.NotFound) || err == nil && (snap.DAID != da.ID || snap.Name != name) {
		return nil, vda.Errorf(vda.NotFound, "da %s has no snap %q with the id %q", da.Name, name, vda.Shorten(id, 80))
	}
	return snap, err
}

func snapMsg(s *vda.Snap, daName string, exps []string) *apiv1.SnapMsg {
	h := seen(s.Health)
	return &apiv1.SnapMsg{SnapId: s.ID, SnapName: s.Name, DaName: daName, DaSize: s.Size, HeldSize: s.Held, Writable: s.Writable(),
		State: s.State.String(), Rollback: s.Rollback.String(), TogetherId: s.Together,
		AskedTime: rfc3339(s.Asked), TakenTime: rfc3339(s.Taken), Error: h.error, ErrorMsg: h.msg, ErrorTime: h.time, ExpNameList: exps}
}

// rfc3339 is a time as users read it, "" for none.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
