package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// nobody is the host of exporters that nobody uses; it has no key.
const nobody = "nqn.2016-06.io.spdk:nobody"

func listenerConf(machine, port string) string {
	return fmt.Sprintf(`{"trtype":"tcp","traddr":%q,"adrfam":"ipv4","trsvcid":%q}`, machine, port)
}

// create registers the nodes and makes arrays and exporters.
func (s *sim) create() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, n := range s.nodes {
		if err := s.register(ctx, n); err != nil {
			return err
		}
	}
	if err := s.secure(ctx); err != nil {
		return err
	}
	if s.redundancy != "" {
		if err := s.awaitMirrors(ctx); err != nil {
			return err
		}
		s.log.printf("arrays are %s", s.redundancy)
	}
	if err := s.createFilling(ctx); err != nil {
		return err
	}
	cns, dns := len(s.of("cn")), len(s.of("dn"))
	arrays := 1 + s.rng.IntN(2)
	if s.cfg.story != nil {
		arrays = max(s.cfg.story.arrays, 1)
	}
	for i := range arrays {
		name := fmt.Sprint("da", i)
		size := uint64(8 << 20)
		if s.redundancy != "" {
			size = 16 << 20 // several regions per mirror
		}
		req := &apiv1.CreateDaRequest{DaName: name, CntlrCnt: uint32(2 + s.rng.IntN(cns-1)), DaSize: size, Redundancy: s.redundancy,
			DaConf: fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, 1+s.rng.IntN(dns), strip>>10)}
		if s.cfg.story != nil {
			req.CntlrCnt = uint32(cns)
			req.DaConf = fmt.Sprintf(`{"stripe_count":%d,"stripe_size_kb":%d}`, max(s.cfg.story.stripes, 1), strip>>10)
		} else if err := s.former(ctx, req); err != nil {
			return err
		}
		if s.cfg.Volumes {
			physical := roomFor * size
			req.PhysicalSize = &physical
		}
		r, err := s.admin.CreateDa(ctx, req)
		if err := replied(r.GetReplyInfo(), err); err != nil {
			return fmt.Errorf("da create: %w", err)
		}
		if err := s.addHost(ctx, i, name, size); err != nil {
			return err
		}
	}
	return nil
}

// former makes an array, exports it and deletes it again: the one that hosts
// use has its names.
func (s *sim) former(ctx context.Context, req *apiv1.CreateDaRequest) error {
	r, err := s.admin.CreateDa(ctx, req)
	if err := replied(r.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("da create: %w", err)
	}
	e, err := s.admin.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: req.DaName, ExpName: "exp0", InitiatorNqn: nobody})
	if err := replied(e.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("exp create: %w", err)
	}
	for !s.remove(req.DaName, "exp0") {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *sim) register(ctx context.Context, n *simNode) error {
	location := fmt.Sprint("room", s.rng.IntN(2))
	if n.kind == "cn" {
		r, err := s.admin.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: n.machine + ":" + cnPort, CnListenerConf: listenerConf(n.machine,
			cnSvc), Location: location})
		return replied(r.GetReplyInfo(), err)
	}
	r, err := s.admin.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: n.machine + ":" + dnPort, DnListenerConf: listenerConf(n.machine,
		dnSvc), Location: location})
	if err := replied(r.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("dn create: %w", err)
	}
	disk := s.disk(n)
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		return err
	}
	s.planes.Blank(disk)
	p, err := s.admin.CreatePd(ctx, &apiv1.CreatePdRequest{DnName: n.machine + ":" + dnPort, PdName: "pd0", PdConf: fmt.Sprintf(`{"type":"aio","filename":%q}`, disk)})
	if err := replied(p.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("pd create: %w", err)
	}
	return nil
}

// disk is the file name of a dn's disk.
func (s *sim) disk(n *simNode) string { return filepath.Join(s.dir, n.name+".disk") }

// addHost makes an exporter of an array and the host that uses it.
func (s *sim) addHost(ctx context.Context, i int, array string, size uint64) error {
	h := s.newHost(i)
	h.array, h.vol.size, h.vol.physical = array, size, roomFor*size
	h.turns = s.redundancy != "" && h.rng.IntN(2) == 0
	r, err := s.admin.CreateExp(ctx, h.exporter(array))
	if err := replied(r.GetReplyInfo(), err); err != nil {
		return fmt.Errorf("exp create: %w", err)
	}
	h.sub = r.ExpMsg.ExpNqn
	s.hosts = append(s.hosts, h)
	return s.lookUp(h)
}

// newHost makes a host, which uses nothing yet.
func (s *sim) newHost(i int) *host {
	h := &host{s: s, name: fmt.Sprint("host", i), nqn: fmt.Sprintf("nqn.2016-06.io.spdk:host%d", i),
		rng: rand.New(rand.NewPCG(s.cfg.Seed, uint64(100+i))), paths: map[string]*path{}, sent: map[uint64]uint64{},
		places: map[uint64]uint64{}, keys: newKeys(), vol: volume{order: make(chan struct{}, 1)}}
	h.plane = s.planes.Place(fmt.Sprintf("10.0.3.%d", i+1), true)
	h.plane.Boot()
	return h
}

// lookUp tells a host its exporter's addresses.
func (s *sim) lookUp(h *host) error {
	addrs := map[string]bool{}
	err := s.db.Store.View(context.Background(), func(tx store.Reader) error {
		clear(addrs)
		exp, err := tx.ExpByNQN(h.sub)
		if err != nil {
			return err
		}
		cntlrs, err := tx.CntlrsOfDA(exp.DAID)
		if err != nil {
			return err
		}
		for _, c := range cntlrs {
			cn, err := tx.CN(c.CNID)
			if err != nil {
				return err
			}
			if !c.Deleted {
				addrs[cn.Listener.TrAddr+":"+cn.Listener.TrSvcID] = true
			}
		}
		return nil
	})
	if err == nil {
		h.follow(addrs)
	}
	return err
}

// discover keeps the hosts' addresses up to date: controllers come and go.
func (s *sim) discover() {
	for {
		time.Sleep(2 * time.Second)
		hosts := slices.Clone(s.hosts)
		for _, c := range s.clonesThat(inUse) {
			hosts = append(hosts, c.h)
		}
		if s.filled != nil {
			hosts = append(hosts, s.filled.h)
		}
		for i, h := range hosts {
			if i >= len(s.hosts) && h.stopped() {
				continue
			} else if h.stopped() {
				return
			}
			if err := s.lookUp(h); err != nil {
				s.log.printf("%s: %v", h.name, err)
			}
		}
	}
}
