package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/virtual-disk-array/vda/nvme"
)

// maxDiscovery bounds the entries of a discovery log that are read.
const maxDiscovery = 16384

// Discover reads the discovery log of the discovery service at cfg's address;
// cfg.SubNQN is ignored.
func Discover(ctx context.Context, cfg Config) ([]nvme.DiscoveryEntry, error) {
	cfg.SubNQN, cfg.Queues = nvme.DiscoveryNQN, -1
	c, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.DiscoveryLog(ctx)
}

// DiscoveryLog reads the log of a controller of the discovery subsystem, whose
// OnNamespaces tells when it changes. It is read again until it did not
// change meanwhile.
func (c *Controller) DiscoveryLog(ctx context.Context) ([]nvme.DiscoveryEntry, error) {
	for range 10 {
		s := c.session.Load()
		if s == nil {
			return nil, nvme.HostPathError
		}
		b, err := s.readLog(ctx, nvme.LogDiscovery, 16)
		if err != nil {
			return nil, err
		}
		before, total, _, err := nvme.DecodeDiscoveryLog(b)
		if err != nil {
			return nil, err
		}
		if total > maxDiscovery {
			return nil, fmt.Errorf("discovery log of %d entries; at most %d are read", total, maxDiscovery)
		}
		if b, err = s.readLog(ctx, nvme.LogDiscovery, int(total+1)*nvme.DiscoveryEntryLen); err != nil {
			return nil, err
		}
		after, _, entries, err := nvme.DecodeDiscoveryLog(b)
		if err != nil {
			return nil, err
		}
		if after == before {
			return entries, nil
		}
	}
	return nil, errors.New("discovery log keeps changing")
}
