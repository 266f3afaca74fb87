package host

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// ANAState is a namespace's asymmetric access state through a controller
// (base 2.0, section 8.1.1).
type ANAState uint8

// The states. Controllers without ANA leave it optimized.
const (
	ANAOptimized      ANAState = 1
	ANANonOptimized   ANAState = 2
	ANAInaccessible   ANAState = 3
	ANAPersistentLoss ANAState = 4
	ANAChange         ANAState = 15
)

// Accessible reports whether I/O may succeed.
func (s ANAState) Accessible() bool { return s == ANAOptimized || s == ANANonOptimized }

// Identity is what a namespace is, as far as it can change: by resizing, or
// by another namespace taking its id.
type Identity struct {
	Blocks    uint64
	BlockSize uint32 // bytes
	UUID      uuid.UUID
	NGUID     uuid.UUID
	EUI64     [8]byte
	ANAGroup  uint32
	OptimalIO uint32 // blocks; 0 unknown
	UnmapUnit uint32 // blocks that are deallocated together, aligned; 0 unknown
	Zeroes    bool   // deallocated blocks read as zeros
	ReadOnly  bool   // takes no writes
	// Epoch is another once the namespace may have lost what it had acknowledged and
	// not flushed; zero: the target does not say.
	Epoch uuid.UUID
}

// Name is the namespace's UUID, else its NGUID, else zero.
func (i *Identity) Name() uuid.UUID {
	if i.UUID != uuid.Nil {
		return i.UUID
	}
	return i.NGUID
}

// Namespace is a namespace of a Controller. It lives on while the controller
// reconnects; once Gone it never comes back, a new one with its id is another
// Namespace.
type Namespace struct {
	ctl  *Controller
	id   uint32
	now  atomic.Pointer[Identity]
	ana  atomic.Uint32
	gone atomic.Bool
}

// ID returns the namespace id.
func (n *Namespace) ID() uint32 { return n.id }

// Controller returns the controller.
func (n *Namespace) Controller() *Controller { return n.ctl }

// Identity returns the identity as of the last look; not to be changed.
func (n *Namespace) Identity() *Identity { return n.now.Load() }

// ANA returns the asymmetric access state as of the last look.
func (n *Namespace) ANA() ANAState { return ANAState(n.ana.Load()) }

// Usable reports whether I/O can be sent now as far as is known: there is a
// session, the namespace is there and its ANA state allows it.
func (n *Namespace) Usable() bool {
	return n.ctl.session.Load() != nil && !n.gone.Load() && n.ANA().Accessible()
}

// Gone reports that the controller no longer has the namespace.
func (n *Namespace) Gone() bool { return n.gone.Load() }

// errMetadata is a namespace this host can not use.
var errMetadata = errors.New("namespace has metadata or a block size that is not a power of two from 512 to 64 KiB")

// lookAgain is the pause before a namespace that is there and could not be
// identified is looked at once more.
const lookAgain = time.Second

// scan brings the namespaces up to date with the controller. It reports
// whether anything changed.
func (s *session) scan(ctx context.Context) (bool, error) {
	found := map[uint32]*Identity{}
	again := false
	for after := uint32(0); ; {
		list := identification(after, nvme.Identify{CNS: nvme.CNSActiveNSList})
		if s.identifyAll(ctx, list); list.err != nil {
			return false, fmt.Errorf("active namespace list: %w", list.err)
		}
		ids := nvme.DecodeNSList(list.data)
		for _, id := range ids {
			if id <= after || len(found) >= maxNamespaces {
				return false, fmt.Errorf("active namespace list: id %d after %d, %d namespaces", id, after, len(found))
			}
			after = id
			ident, err := s.look(ctx, id)
			var status nvme.Status
			switch {
			case err == nil:
				found[id] = ident
			case errors.Is(err, errMetadata):
				s.ctl.cfg.Log.Warn("namespace left out", "subnqn", s.ctl.cfg.SubNQN, "nsid", id, "err", err)
			case !errors.As(err, &status) || s.cause() != nil:
				return false, fmt.Errorf("namespace %d: %w", id, err)
			case status&^nvme.DNR == nvme.InvalidNamespace: // it went away meanwhile
			default:
				// It is there. A controller that hands Identify on to a backend,
				// as SPDK's may, fails it while that one is away.
				again = true
				if n := s.ctl.Namespace(id); n != nil {
					found[id] = n.Identity()
				}
			}
		}
		if len(ids) < 1024 {
			break
		}
	}
	if again {
		s.background.Go(func() {
			select {
			case <-time.After(lookAgain):
				s.ctl.PollNamespaces()
			case <-s.failed:
			}
		})
	}
	return s.ctl.merge(found), nil
}

// maxNamespaces bounds what a controller can make the host keep.
const maxNamespaces = 8192

// look identifies one namespace.
func (s *session) look(ctx context.Context, id uint32) (*Identity, error) {
	of, names := identification(id, nvme.Identify{CNS: nvme.CNSNamespace}), identification(id, nvme.Identify{CNS: nvme.CNSNSDescriptors})
	if s.identifyAll(ctx, of, names); of.err != nil {
		return nil, of.err
	}
	d, err := nvme.DecodeNamespaceData(of.data)
	if err != nil {
		return nil, err
	}
	if d.BlockShift < 9 || d.BlockShift > 16 || d.Metadata != 0 {
		return nil, errMetadata
	}
	i := &Identity{Blocks: d.Size, BlockSize: 1 << d.BlockShift, NGUID: d.NGUID, EUI64: d.EUI64, ANAGroup: d.ANAGroup,
		OptimalIO: uint32(d.NOIOB), Zeroes: d.DLFEAT&7 == nvme.DLFEATZeroes, ReadOnly: d.NSATTR&nvme.NSATTRProtected != 0,
		Epoch: d.Epoch}
	if d.NSFEAT&nvme.NSFEATOptimal != 0 && d.NPDG > 0 {
		i.UnmapUnit = uint32(d.NPDG) + 1
	}
	if d.Size > 1<<63>>d.BlockShift {
		return nil, fmt.Errorf("size of %d blocks of %d bytes", d.Size, i.BlockSize)
	}
	if names.err == nil {
		ids, err := nvme.DecodeNamespaceIDs(names.data)
		if err != nil {
			return nil, err
		}
		i.UUID = ids.UUID
		if ids.NGUID != [16]byte{} {
			i.NGUID = ids.NGUID
		}
		if ids.EUI64 != [8]byte{} {
			i.EUI64 = ids.EUI64
		}
	} else if status := nvme.Status(0); s.cause() != nil || !errors.As(names.err, &status) || status&^nvme.DNR != nvme.InvalidField {
		return nil, names.err // not a controller without descriptors
	}
	return i, nil
}

// refreshANA reads the ANA log. It reports whether a state changed.
func (s *session) refreshANA(ctx context.Context) (bool, error) {
	if s.data.CMIC&nvme.CMICANA == 0 {
		return false, nil
	}
	nn := s.data.MNAN
	if nn == 0 || nn > s.data.NN {
		nn = s.data.NN
	}
	size := 16 + 32*uint64(s.data.NANAGRPID) + 4*uint64(nn)
	b, err := s.readLog(ctx, nvme.LogANA, int(min(size, 1<<20)))
	if err != nil {
		return false, err
	}
	_, groups, err := nvme.DecodeANALog(b)
	if err != nil {
		return false, err
	}
	changed := false
	for _, g := range groups {
		for _, n := range s.ctl.Namespaces() {
			if n.Identity().ANAGroup == g.ID && n.ana.Swap(uint32(g.State)) != uint32(g.State) {
				changed = true
			}
		}
	}
	return changed, nil
}

// merge makes the controller's namespaces those found.
func (c *Controller) merge(found map[uint32]*Identity) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, n := range c.namespaces {
		i := found[id]
		if i == nil || i.Name() != n.Identity().Name() || i.BlockSize != n.Identity().BlockSize {
			n.gone.Store(true)
			delete(c.namespaces, id)
			changed = true
		}
	}
	for id, i := range found {
		n := c.namespaces[id]
		if n == nil {
			n = &Namespace{ctl: c, id: id}
			n.ana.Store(uint32(ANAOptimized))
			n.now.Store(i)
			c.namespaces[id] = n
			changed = true
			continue
		}
		if *n.Identity() != *i {
			n.now.Store(i)
			changed = true
		}
	}
	return changed
}

// Namespaces returns the namespaces in the order of their ids.
func (c *Controller) Namespaces() []*Namespace {
	c.mu.Lock()
	out := make([]*Namespace, 0, len(c.namespaces))
	for _, n := range c.namespaces {
		out = append(out, n)
	}
	c.mu.Unlock()
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// Namespace returns the namespace with an id, or nil.
func (c *Controller) Namespace(id uint32) *Namespace {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.namespaces[id]
}
