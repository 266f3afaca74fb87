package portal

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/reason"
)

const (
	// countTime bounds one reading of the counters of all nodes: a data plane has 5 s.
	countTime = 6 * time.Second

	topInterval    = 1000  // ms, when none is asked for
	minTopInterval = 100   // ms
	maxTopInterval = 10000 // ms
	topLimit       = 20    // arrays and pds, when none is asked for
	maxTopLimit    = 1000
)

// GetTop reads the counters of all nodes, waits, and reads them again: nothing is kept between
// calls. A node that does not answer is in the warnings and costs some seconds.
func (s *Server) GetTop(ctx context.Context, req *apiv1.GetTopRequest) (*apiv1.GetTopReply, error) {
	interval := cmp.Or(req.IntervalMs, topInterval)
	if interval < minTopInterval || interval > maxTopInterval {
		return nil, invalid("interval_ms is %d; it must be %d to %d, or 0 for %d", req.IntervalMs, minTopInterval, maxTopInterval, topInterval)
	}
	limit := int(cmp.Or(req.Limit, topLimit))
	if limit > maxTopLimit {
		return nil, invalid("limit is %d; it must be 1 to %d, or 0 for %d", req.Limit, maxTopLimit, topLimit)
	}
	var c census
	if err := s.view(ctx, c.read); err != nil {
		return nil, err
	}
	nodes := c.counting()
	s.count(ctx, nodes, func(n *counting) *reading { return &n.before })
	wait := time.NewTimer(time.Duration(interval) * time.Millisecond)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
	}
	s.count(ctx, nodes, func(n *counting) *reading { return &n.after })
	return topOf(nodes, limit), nil
}

// counting is a node of which the counters are read twice.
type counting struct {
	vda.At
	before, after reading
}

// reading is one, or why there is none.
type reading struct {
	*apiv1.CountersReply
	problem string
}

// counting are the nodes that count.
func (c *census) counting() []*counting {
	var all []*counting
	for i := range c.cns {
		all = append(all, &counting{At: c.cns[i].At(vda.ControllerNode)})
	}
	for i := range c.dns {
		all = append(all, &counting{At: c.dns[i].At(vda.DiskNode)})
	}
	return all
}

// count reads all nodes' counters; those that have not answered once are not asked again.
func (s *Server) count(ctx context.Context, nodes []*counting, to func(*counting) *reading) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	var all errgroup.Group
	all.SetLimit(askParallel)
	for _, n := range nodes {
		if n.before.problem != "" {
			continue
		}
		all.Go(func() error {
			*to(n) = s.countersOf(ctx, n.At)
			return nil
		})
	}
	_ = all.Wait() // none fails as a whole
}

func (s *Server) countersOf(ctx context.Context, at vda.At) reading {
	if s.cfg.Programs == nil {
		return reading{problem: "this portal asks nobody"}
	}
	p, err := s.cfg.Programs.Program(at)
	if err != nil {
		return reading{problem: reason.Of(err)}
	}
	reply, err := p.Counters(ctx, &apiv1.CountersRequest{})
	switch status.Code(err) {
	case codes.OK:
		if !reply.Counted {
			return reading{problem: "its data plane does not answer"}
		}
		return reading{CountersReply: reply}
	case codes.Unimplemented:
		return reading{problem: "it is too old to tell its I/O"}
	case codes.DeadlineExceeded, codes.Canceled:
		return reading{problem: "it does not answer"}
	}
	return reading{problem: reason.Of(err)}
}

// perSecond is n in a time, per second.
func perSecond(n uint64, in time.Duration) uint64 {
	hi, lo := bits.Mul64(n, uint64(time.Second))
	if hi >= uint64(in) { // nobody counts so fast
		return 0
	}
	q, _ := bits.Div64(hi, lo, uint64(in))
	return q
}

// tally is what went on in a time.
type tally struct {
	apiv1.TopMsg
	reads, writes, readNsec, writeNsec uint64
}

// add adds what was counted between two readings; of what counts from zero again, since it does.
func (t *tally) add(was, is *apiv1.Counters, in time.Duration) {
	if was == nil || is.Reads < was.Reads || is.Writes < was.Writes || is.Errors < was.Errors {
		was = &apiv1.Counters{}
	}
	more := func(is, was uint64) uint64 { return is - min(is, was) }
	reads, writes := more(is.Reads, was.Reads), more(is.Writes, was.Writes)
	t.reads, t.writes = t.reads+reads, t.writes+writes
	t.readNsec += more(is.ReadNsec, was.ReadNsec)
	t.writeNsec += more(is.WriteNsec, was.WriteNsec)
	t.ReadsPerSec += perSecond(reads, in)
	t.WritesPerSec += perSecond(writes, in)
	t.ReadBytesPerSec += perSecond(more(is.ReadBytes, was.ReadBytes), in)
	t.WrittenBytesPerSec += perSecond(more(is.WrittenBytes, was.WrittenBytes), in)
	t.ErrorsPerSec += perSecond(more(is.Errors, was.Errors), in)
	t.ThrottledPercent = uint32(min(100, more(is.ThrottledNsec, was.ThrottledNsec)*100/uint64(in)))
}

// msg is the tally as users are told it.
func (t *tally) msg() *apiv1.TopMsg {
	if t.reads > 0 {
		t.ReadUsec = t.readNsec / t.reads / 1000
	}
	if t.writes > 0 {
		t.WriteUsec = t.writeNsec / t.writes / 1000
	}
	return &t.TopMsg
}

// topOf compares the readings of all nodes.
func topOf(nodes []*counting, limit int) *apiv1.GetTopReply {
	reply := &apiv1.GetTopReply{}
	for _, n := range nodes {
		if why := cmp.Or(n.before.problem, n.after.problem); why != "" {
			reply.WarningList = append(reply.WarningList, "the I/O of "+n.Kind+" "+n.Name+" is not known: "+why)
			continue
		}
		in := time.Duration(n.after.StampNsec - n.before.StampNsec)
		restarted := n.before.StartId != n.after.StartId
		if in <= 0 {
			reply.WarningList = append(reply.WarningList, "the I/O of "+n.Kind+" "+n.Name+" is not known: its agent has been started again")
			continue
		}
		was := map[[3]string]*apiv1.Counters{}
		if !restarted {
			for _, c := range n.before.CountersList {
				was[[3]string{c.Kind, c.Name, c.ExpName}] = c
			}
		}
		node := &tally{}
		node.Kind, node.Name = n.Kind, n.Name
		for _, c := range n.after.CountersList {
			before := was[[3]string{c.Kind, c.Name, c.ExpName}]
			if before == nil && !restarted {
				continue // it came meanwhile: since when is not known
			}
			if c.Kind != "da" {
				node.add(before, c, in)
			}
			one := &tally{}
			one.Kind, one.Name, one.NodeName = c.Kind, c.Name, n.Name
			switch one.add(before, c, in); c.Kind {
			case "da":
				reply.DaTopMsgList = append(reply.DaTopMsgList, one.msg())
			case "pd":
				reply.PdTopMsgList = append(reply.PdTopMsgList, one.msg())
			}
		}
		node.ThrottledPercent = 0
		reply.NodeTopMsgList = append(reply.NodeTopMsgList, node.msg())
	}
	for _, l := range []*[]*apiv1.TopMsg{&reply.DaTopMsgList, &reply.NodeTopMsgList, &reply.PdTopMsgList} {
		slices.SortFunc(*l, busier)
	}
	reply.DaCnt, reply.PdCnt = uint32(len(reply.DaTopMsgList)), uint32(len(reply.PdTopMsgList))
	reply.DaTopMsgList = reply.DaTopMsgList[:min(limit, len(reply.DaTopMsgList))]
	reply.PdTopMsgList = reply.PdTopMsgList[:min(limit, len(reply.PdTopMsgList))]
	return reply
}

// busier orders what has more I/O first: bytes count, and requests as 4 KiB each at least.
func busier(a, b *apiv1.TopMsg) int {
	load := func(m *apiv1.TopMsg) uint64 {
		return max(m.ReadBytesPerSec+m.WrittenBytesPerSec, 4096*(m.ReadsPerSec+m.WritesPerSec))
	}
	return cmp.Or(cmp.Compare(load(b), load(a)), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name),
		strings.Compare(a.NodeName, b.NodeName))
}
