package fakeagent

import (
	"maps"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

type kind int

const (
	kindPD kind = iota
	kindVD
	kindCntlr
)

// object is a pd, a vd or a controller of the desired set.
type object struct {
	kind    kind
	id      string
	da      string // "" of a pd
	term    uint64
	epoch   uint64 // of a vd
	deleted bool
	gone    bool // a tombstone that has been carried out
	spec    proto.Message
}

// request is what a Sync of either service says.
type request struct {
	cluster, node string
	version, base uint64 // base 0: a full set
	marks         vda.VersionMarks
	allowEmpty    bool
	objects       []object
}

// clusterSize is that of all pds, in bytes.
const clusterSize = 1 << 20

// set is what an agent has been told to have, and how that goes. The agent's
// mutex guards it.
type set struct {
	cluster, node string
	version       uint64
	mark          string            // of the version
	terms         map[string]uint64 // by da
	objects       map[string]object // by id
	orphans       map[string]object // what a full set did not name any more

	capacity func(conf string) uint64 // clusters of a pd
	occupied uint64                   // clusters on each pd that no vd accounts for

	epochs    map[string]uint64 // by vd, of those that have been let in under one above 0
	errs      map[string]string // by id
	snaps     map[string]bool   // snapshots that are on media, by id
	taken     int               // how often one was taken
	holds     map[string]bool   // snapshots for which I/O is held
	holdFails string            // what asks for a hold is answered with
	holdsEnd  bool              // by themselves, before they are released
	rolled    int               // how often an array was rolled back
	lazy      bool              // it says nothing of groups that are joining
	snapError string            // of every snapshot
	snapSize  uint64
	noClones  bool            // it leaves writable snapshots alone
	done      map[string]bool // of errs: they are as desired
	failAll   string          // error of every object
	cache     string          // PdCapacity.WriteCache of every pd
	fails     int             // Syncs that still fail so; below 0: all
	vdError   string          // error of every live vd
}

func (s *set) reset() {
	s.cluster, s.node, s.version, s.mark = "", "", 0, ""
	s.terms, s.objects, s.orphans = map[string]uint64{}, map[string]object{}, map[string]object{}
	s.errs, s.done, s.epochs = map[string]string{}, map[string]bool{}, map[string]uint64{}
	s.snaps, s.holds = map[string]bool{}, map[string]bool{}
}

// vacant reports that there is nothing left to do for any object.
func (s *set) vacant() bool {
	for _, o := range s.objects {
		if !o.gone {
			return false
		}
	}
	return true
}

// accept checks a request as agents do and takes it. After an error nothing
// has changed.
func (s *set) accept(r request) error {
	if err := s.check(r); err != nil {
		return err
	}
	terms := maps.Clone(s.terms)
	if r.base == 0 {
		// What is said about an array that neither set knows is older than both.
		held := map[string]bool{}
		for _, o := range s.objects {
			held[o.da] = true
		}
		maps.DeleteFunc(terms, func(da string, _ uint64) bool { return !held[da] })
	}
	named := map[string]bool{}
	live := 0
	for _, o := range r.objects {
		named[o.id] = true
		if !o.deleted {
			live++
		}
		if o.da != "" && !o.deleted {
			terms[o.da] = max(terms[o.da], o.term)
		}
	}
	vanished := map[string]object{}
	for id, o := range s.objects {
		if r.base == 0 && !named[id] && !o.deleted {
			vanished[id] = o
		}
	}
	if live == 0 && len(vanished) > 0 && !r.allowEmpty {
		return status.Error(codes.FailedPrecondition, "the request would leave this node without any of its objects; that takes allow_empty")
	}
	if r.base == 0 {
		maps.DeleteFunc(s.objects, func(id string, _ object) bool { return !named[id] })
		maps.DeleteFunc(s.epochs, func(id string, _ uint64) bool { return !named[id] })
	}
	maps.Copy(s.orphans, vanished)
	for _, o := range r.objects {
		delete(s.orphans, o.id)
		o.gone = o.deleted && s.objects[o.id].gone
		s.objects[o.id] = o
	}
	s.cluster, s.node, s.version, s.mark, s.terms = r.cluster, r.node, r.version, r.marks.Of(r.version), terms
	return nil
}

func (s *set) check(r request) error {
	held := s.version // of this node
	switch {
	case r.cluster == "" || r.node == "":
		return status.Errorf(codes.InvalidArgument, "cluster_id %q and node_id %q must both be set", r.cluster, r.node)
	case s.cluster != "" && s.cluster != r.cluster:
		return status.Errorf(codes.FailedPrecondition, "this agent belongs to cluster %s", s.cluster)
	case s.node != "" && s.node != r.node && !s.vacant():
		return status.Errorf(codes.FailedPrecondition, "this agent is node %s; the request is for node %s", s.node, r.node)
	case s.node != r.node:
		if held = 0; r.base != 0 {
			return stale(0, "this agent holds no set yet; send a full one")
		}
	case r.version < s.version:
		return stale(s.version, "version %d is older than version %d", r.version, s.version)
	case r.base > s.version:
		return stale(s.version, "delta to version %d, but this agent holds version %d", r.base, s.version)
	}
	if mark := r.marks.Of(held); held != 0 && mark != "" && s.mark != "" && mark != s.mark {
		return status.Errorf(codes.FailedPrecondition, "version %d was another one: the database was restored from a backup", held)
	}
	if vda.TooFar(r.version, max(held, vda.FirstVersionMax), vda.MaxVersionAhead) {
		return status.Errorf(codes.FailedPrecondition, "version %d is refused: it lies too far above version %d", r.version, held)
	}
	for _, o := range r.objects {
		switch seen := s.terms[o.da]; {
		case o.da == "" || o.deleted:
		case o.term < seen:
			return status.Errorf(codes.FailedPrecondition, "term %d of %s: %d has been seen", o.term, o.da, seen)
		case vda.TooFar(o.term, max(seen, vda.MaxTermAhead), vda.MaxTermAhead):
			return status.Errorf(codes.FailedPrecondition, "term %d of %s lies too far above %d", o.term, o.da, seen)
		}
		if was := s.objects[o.id]; !o.deleted && o.term == was.term && o.epoch < was.epoch {
			return status.Errorf(codes.FailedPrecondition, "epoch %d of vd %s: %d has been seen", o.epoch, o.id, was.epoch)
		}
	}
	return nil
}

// stale is the error of a request that does not fit the version held.
func stale(held uint64, format string, args ...any) error {
	st, err := status.Newf(codes.FailedPrecondition, format, args...).WithDetails(&apiv1.SyncReply{Version: held})
	if err != nil {
		return err
	}
	return st.Err()
}

// carryOut makes the objects of a request so and returns their states.
func (s *set) carryOut(r request) *apiv1.SyncReply {
	if s.fails == 0 {
		s.failAll = ""
	}
	s.fails--
	reply := &apiv1.SyncReply{Version: r.version}
	for _, o := range r.objects {
		st := s.state(o.id, o.deleted)
		if o.kind == kindVD && s.vdError != "" && !o.deleted {
			st.Error, st.ErrorMsg = true, s.vdError
		}
		switch {
		case st.Gone:
			o.gone = true
			s.objects[o.id] = o
			delete(s.epochs, o.id)
		case o.kind == kindVD && !st.Error && o.epoch > 0:
			s.epochs[o.id] = o.epoch
		case o.kind == kindVD && !st.Error:
			delete(s.epochs, o.id)
		}
		st.Epoch = s.epochs[o.id]
		reply.States = append(reply.States, st)
		switch spec := o.spec.(type) {
		case *apiv1.CntlrSpec:
			for _, e := range spec.Exps {
				reply.States = append(reply.States, s.state(e.EsId, e.Deleted || spec.Deleted))
			}
			for _, g := range spec.Grps {
				if g.Joining && !s.lazy {
					st := s.state(g.Id, false)
					st.Found = !st.Error
					reply.States = append(reply.States, st)
				}
			}
			for _, snap := range spec.Snaps {
				reply.States = append(reply.States, s.snapshot(snap))
			}
		case *apiv1.PdSpec:
			if !st.Error && !st.Gone {
				reply.Capacities = append(reply.Capacities, s.capacityOf(spec))
			}
		}
	}
	return reply
}

func (s *set) state(id string, deleted bool) *apiv1.ObjectState {
	st := &apiv1.ObjectState{Id: id, Done: s.done[id]}
	if st.ErrorMsg, st.Error = s.errs[id]; s.failAll != "" {
		st.Error, st.ErrorMsg = true, s.failAll
	}
	st.Gone = deleted && !st.Error
	return st
}

// snapshot has a snapshot taken or deleted.
func (s *set) snapshot(snap *apiv1.SnapSpec) *apiv1.ObjectState {
	stage := snap.Stage()
	if s.noClones { // as an agent of before clones within arrays
		stage = snap.State
	}
	deleting := stage == apiv1.SnapState_SNAP_STATE_DELETING
	st := s.state(snap.Id, deleting)
	if s.snapError != "" && !deleting && !st.Error {
		st.Error, st.ErrorMsg, st.Gone = true, s.snapError, false
	}
	if st.Error || stage == apiv1.SnapState_SNAP_STATE_TOGETHER || stage == apiv1.SnapState_SNAP_STATE_UNSPECIFIED {
		return st
	}
	if deleting {
		delete(s.snaps, snap.Id)
		return st
	}
	if stage == apiv1.SnapState_SNAP_STATE_ASKED && !s.snaps[snap.Id] {
		s.taken++
	}
	s.snaps[snap.Id] = true
	st.Found, st.HeldBytes, st.SizeBytes, st.Rolled = true, clusterSize, s.snapSize, snap.Rollback
	if snap.Rollback == apiv1.SnapRollback_SNAP_ROLLBACK_ASKED {
		s.rolled++
	}
	return st
}

func (s *set) capacityOf(pd *apiv1.PdSpec) *apiv1.PdCapacity {
	total, used := s.capacity(pd.ConfJson), s.occupied
	for _, objects := range []map[string]object{s.objects, s.orphans} {
		for _, o := range objects {
			if vd, is := o.spec.(*apiv1.VdSpec); is && vd.PdId == pd.Id && !o.gone {
				used += vd.Size / clusterSize
			}
		}
	}
	return &apiv1.PdCapacity{PdId: pd.Id, ClusterSize: clusterSize, TotalClusters: total, FreeClusters: total - min(used, total),
		WriteCache: s.cache}
}
