package vdatgt

import (
	"context"
	"slices"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

func iostatMethods() []*Method {
	return []*Method{
		method("vda_get_iostat", "Returns what was read and written through some bdevs, and through the namespaces of some subsystems by their "+
			"hosts, with how long that took. Bdevs and subsystems that there are not are left out. Counters only grow, but those of a "+
			"namespace begin at 0 when another bdev is put behind it.", ioStats, optional, returns(ioStatsJSON{})),
	}
}

type ioStatsParams struct {
	Bdevs []string `rpc:"bdevs,optional" doc:"names, aliases or UUIDs; default none"`
	NQNs  []string `rpc:"nqns,optional" doc:"of subsystems; default none"`
}

type ioStatsJSON struct {
	Bounds     []uint64          `json:"latency_bounds_ns" doc:"upper bounds of the elements of the latencies but the last, which has what took longer"`
	Bdevs      []bdevIOJSON      `json:"bdevs" doc:"with the names that were asked for"`
	Subsystems []subsystemIOJSON `json:"subsystems"`
}

type bdevIOJSON struct {
	Name string `json:"name"`
	ioJSON
}

type subsystemIOJSON struct {
	NQN        string         `json:"nqn"`
	Hosts      []hostConnJSON `json:"hosts"`
	Namespaces []nsIOJSON     `json:"namespaces"`
}

type hostConnJSON struct {
	NQN         string `json:"nqn"`
	Controllers int    `json:"controllers"`
	Queues      int    `json:"io_queues"`
}

type nsIOJSON struct {
	NSID     uint32 `json:"nsid"`
	BdevName string `json:"bdev_name"`
	ioJSON
}

// ioJSON is what was done through one bdev or namespace. Failed requests are in Errors alone.
type ioJSON struct {
	Reads          uint64   `json:"reads"`
	Writes         uint64   `json:"writes"`
	ReadBytes      uint64   `json:"read_bytes"`
	WrittenBytes   uint64   `json:"written_bytes"`
	ReadNanos      uint64   `json:"read_ns"`
	WriteNanos     uint64   `json:"write_ns"`
	Errors         uint64   `json:"errors"`
	Throttled      uint64   `json:"throttled_ns"`
	ReadLatencies  []uint64 `json:"read_latencies"`
	WriteLatencies []uint64 `json:"write_latencies"`
}

func toIO(s *bdev.IOStat) ioJSON {
	r, w := &s.Op[bdev.OpRead], &s.Op[bdev.OpWrite]
	return ioJSON{r.Ops, w.Ops, r.Bytes, w.Bytes, r.Settled, w.Settled, s.Fails, uint64(s.Throttled), s.Reads[:], s.Writes[:]}
}

func ioStats(_ context.Context, t *Target, p ioStatsParams) (any, error) {
	out := ioStatsJSON{Bdevs: []bdevIOJSON{}, Subsystems: []subsystemIOJSON{}}
	for i := range len(bdev.Latencies{}) - 1 {
		out.Bounds = append(out.Bounds, bdev.LatencyBound(i))
	}
	for _, name := range p.Bdevs {
		if s, err := t.reg.IOStat(name); err == nil {
			out.Bdevs = append(out.Bdevs, bdevIOJSON{name, toIO(&s)})
		}
	}
	for _, nqn := range p.NQNs {
		s, ok := t.nvmf.Subsystem(nqn)
		if !ok {
			continue
		}
		sub := subsystemIOJSON{NQN: nqn, Hosts: hostsOf(s), Namespaces: []nsIOJSON{}}
		for _, n := range s.IO() {
			sub.Namespaces = append(sub.Namespaces, nsIOJSON{n.NSID, n.Bdev, toIO(&n.IOStat)})
		}
		out.Subsystems = append(out.Subsystems, sub)
	}
	return out, nil
}

// hostsOf are the hosts that are connected to a subsystem.
func hostsOf(s *nvmftgt.Subsystem) []hostConnJSON {
	out := []hostConnJSON{}
	for _, c := range s.Controllers() {
		i := slices.IndexFunc(out, func(h hostConnJSON) bool { return h.NQN == c.HostNQN })
		if i < 0 {
			i = len(out)
			out = append(out, hostConnJSON{NQN: c.HostNQN})
		}
		out[i].Controllers++
		out[i].Queues += c.IOQueues
	}
	return out
}
