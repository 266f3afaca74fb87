package nvmftgt

import (
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// ControllerInfo describes the controller of a connected host.
type ControllerInfo struct {
	CNTLID    uint16
	HostNQN   string
	HostID    uuid.UUID
	KeepAlive time.Duration
	Listener  Addr
	IOQueues  int
}

// QpairInfo describes a connection of a controller.
type QpairInfo struct {
	CNTLID       uint16
	QID          uint16
	HostNQN      string
	Listener     Addr
	Peer         Addr
	QueueDepth   uint32
	HeaderDigest bool
	DataDigest   bool
	State        string // SPDK's words: "enabled", "authenticating"
}

// Stats are the target's counters; SPDK's nvmf_get_stats.
type Stats struct {
	AdminQpairs, IOQpairs               uint64 // since the start
	CurrentAdminQpairs, CurrentIOQpairs uint64
	PendingBdevIO                       uint64
	CompletedIO                         uint64
	Panics                              uint64 // connections ended by a fault of ours
	Rejected                            uint64 // connections ended by a fault of the peer, or refused
	Unauthentic                         uint64 // authentications that have failed
	Refused                             uint64 // times that a limit of connections or descriptors was met
}

type stats struct {
	admin, io, completed, panics, rejected, refused, unauthentic atomic.Uint64
}

// Referral is another discovery service that this one points to.
type Referral struct {
	Addr         Addr
	SubNQN       string // default: the discovery NQN
	SecureAccess bool
}

// Stats returns the target's counters.
func (t *Target) Stats() Stats {
	v := &t.stats
	out := Stats{AdminQpairs: v.admin.Load(), IOQpairs: v.io.Load(), CompletedIO: v.completed.Load(),
		Panics: v.panics.Load(), Rejected: v.rejected.Load(), Refused: v.refused.Load(), Unauthentic: v.unauthentic.Load()}
	for _, s := range t.Subsystems() {
		s.mu.Lock()
		for conn := range s.conns {
			if conn.q.id == 0 {
				out.CurrentAdminQpairs++
			} else {
				out.CurrentIOQpairs++
			}
			out.PendingBdevIO += uint64(max(conn.q.inflight.Load(), 0))
			conn.mu.Lock()
			out.CompletedIO += conn.q.completed
			conn.mu.Unlock()
		}
		s.mu.Unlock()
	}
	return out
}
