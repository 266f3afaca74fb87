// Package discovery is a discovery service of NVMe/TCP (base specification 2.0, section 5.16.1.23) that
// knows what is in the database: a host that asks any portal finds all paths to all its arrays, whatever
// nodes their controllers are on. It has no namespaces and passes no data.
//
// A host is told of what its NQN is let in to. One that has keys proves first that it knows one (DH-HMAC-CHAP); others say
// themselves what their NQN is, as with every discovery service.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
	"github.com/virtual-disk-array/vda/reason"
)

// Place is where a host may connect to.
type Place struct {
	NQN     string // of the subsystem
	Address netip.AddrPort
	Port    uint16 // a number of the way, by which hosts tell ways to one subsystem apart
}

// Config of a Service.
type Config struct {
	// Address is the IP address and the port where it listens; port 0 lets the system choose.
	Address string
	// Places are where a host, by its NQN, may connect to. It is called by many goroutines.
	Places func(ctx context.Context, host string) ([]Place, error)
	// Keys are what a host, by its NQN, may prove itself by before it is told; none: its NQN is enough. It is called
	// by many goroutines. Nil: no host has any.
	Keys func(ctx context.Context, host string) ([]dhchap.Keys, error)
	// Period is how often hosts that stay connected are looked after: they are told when
	// something has changed. Default 5 s.
	Period time.Duration
	// Log gets what goes on. Default slog.Default().
	Log *slog.Logger
}

// askTime bounds a question to the database.
const askTime = 5 * time.Second

// maxConns bounds the connections. Hosts that stay connected have one each.
const maxConns = 4096

// Service is one that serves. Safe for concurrent use.
type Service struct {
	cfg  Config
	tgt  *nvmftgt.Target
	addr nvmftgt.Addr
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	last  map[string][]nvme.DiscoveryEntry // what was seen last of hosts that stay connected
	again map[string]bool                  // of these, those that have read something else
}

// CheckAddress refuses what Config.Address cannot be.
func CheckAddress(address string) error {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return fmt.Errorf("%q is not an IP address and a port, like 192.168.0.11:8009 or [fd00::1]:8009", address)
	}
	return nil
}

// Start serves until Close.
func Start(cfg Config) (*Service, error) {
	if err := CheckAddress(cfg.Address); err != nil {
		return nil, err
	}
	if cfg.Places == nil {
		return nil, errors.New("discovery: Config needs Places")
	}
	if cfg.Period == 0 {
		cfg.Period = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	at := netip.MustParseAddrPort(cfg.Address)
	s := &Service{cfg: cfg, last: map[string][]nvme.DiscoveryEntry{}, again: map[string]bool{}}
	s.tgt = nvmftgt.New(nvmftgt.Config{Registry: bdev.NewRegistry(), Log: cfg.Log, MaxConns: maxConns, Spin: -1, Places: s.entries,
		PlaceKeys: s.keys})
	err := s.tgt.CreateTransport(nvmftgt.TransportOpts{})
	if err == nil {
		own := s.tgt.Subsystems()[0]
		if err = own.AddListener(nvmftgt.Addr{Traddr: at.Addr().String(), Trsvcid: fmt.Sprint(at.Port())}); err == nil {
			s.addr = own.Listeners()[0].Addr
		}
	}
	if err != nil {
		s.tgt.Close()
		return nil, fmt.Errorf("%s cannot be listened at: %s", cfg.Address, reason.Of(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.done.Go(func() { s.watch(ctx) })
	return s, nil
}

// Address is where it listens, with the port that the system chose.
func (s *Service) Address() string { return s.addr.String() }

// Close ends the connections of all hosts.
func (s *Service) Close() {
	s.stop()
	s.done.Wait()
	s.tgt.Close()
}

// entries are a host's of the discovery log.
func (s *Service) entries(host string) ([]nvme.DiscoveryEntry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	all, err := s.ask(ctx, host)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, stays := s.last[host]; stays && !slices.Equal(seen, all) {
		s.again[host] = true // it may be as it was before by the next look, which would find nothing new
	}
	return all, nil
}

// keys are a host's.
func (s *Service) keys(host string) ([]dhchap.Keys, error) {
	if s.cfg.Keys == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	keys, err := s.cfg.Keys(ctx, host)
	if err != nil {
		return nil, errors.New(reason.Of(err))
	}
	return keys, nil
}

func (s *Service) ask(ctx context.Context, host string) ([]nvme.DiscoveryEntry, error) {
	places, err := s.cfg.Places(ctx, host)
	if err != nil {
		return nil, errors.New(reason.Of(err))
	}
	var all []nvme.DiscoveryEntry
	for _, p := range places {
		e := nvme.DiscoveryEntry{Trtype: nvme.TrtypeTCP, Adrfam: nvme.AdrfamIPv4, Subtype: nvme.SubtypeNVM, TREQ: nvme.TREQNone,
			PortID: p.Port, CNTLID: nvme.CNTLIDDynamic, Trsvcid: fmt.Sprint(p.Address.Port()), SubNQN: p.NQN,
			Traddr: p.Address.Addr().String()}
		if p.Address.Addr().Is6() {
			e.Adrfam = nvme.AdrfamIPv6
		}
		all = append(all, e)
	}
	return all, nil
}

// watch tells hosts that stay connected when what they were told has changed.
func (s *Service) watch(ctx context.Context) {
	t := time.NewTicker(s.cfg.Period)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := map[string][]nvme.DiscoveryEntry{}
		for _, host := range s.tgt.SeekingHosts() {
			ask, cancel := context.WithTimeout(ctx, askTime)
			entries, err := s.ask(ask, host)
			cancel()
			if s.note(now, host, entries, err) {
				s.tgt.PlacesChanged(host)
			}
		}
		s.mu.Lock()
		s.last = now
		for host := range s.again {
			if _, stays := now[host]; !stays {
				delete(s.again, host)
			}
		}
		s.mu.Unlock()
	}
}

// note adds what was seen of a host, and reports that the host is to be told to read it.
func (s *Service) note(now map[string][]nvme.DiscoveryEntry, host string, entries []nvme.DiscoveryEntry, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.last[host]
	if err != nil { // nothing is known to have changed
		if known {
			now[host] = was
		}
		return false
	}
	// Of one that has just come nobody knows what it has read before.
	tell := !known || !slices.Equal(was, entries) || s.again[host]
	now[host] = entries
	s.last[host] = entries
	delete(s.again, host)
	return tell
}
