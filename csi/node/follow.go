package node

import (
	"context"
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/csi/volume"
)

// Follow looks after the volumes that are staged, until ctx ends. It says in the log what has
// become wrong with them, and what is over. It keeps the host connected to the controllers
// that they have, which repair and drains change meanwhile, and ends no connection but those
// that lead to a controller that the volume has no more and that are down, while others are up.
func (n *Node) Follow(ctx context.Context) {
	for tick := time.NewTicker(n.cfg.FollowEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		all, err := n.cfg.Host.Subsystems()
		if err != nil {
			n.cfg.Log.Warn("the connections of this host cannot be read", "err", err)
			continue
		}
		subsystems := map[string]string{} // arrays, by their NQNs
		for _, nqn := range all {
			if array, ours := volume.ArrayOf(nqn, n.cfg.Host.NQN()); ours {
				subsystems[nqn] = array
			}
		}
		n.watchHealth(subsystems)
		if n.cfg.Ways == nil {
			continue
		}
		for nqn, array := range subsystems {
			n.follow(ctx, nqn, array)
		}
	}
}

// follow connects to controllers of one subsystem that are new.
func (n *Node) follow(ctx context.Context, nqn, array string) {
	want, err := n.cfg.Ways(ctx, n.learnt(array), volume.ExporterName(n.cfg.Host.NQN()))
	if err != nil || len(want) == 0 { // the portals are away, or the volume is being taken from us
		return
	}
	release, err := n.claim(array) // a call about it, such as Unstage, goes first
	if err != nil {
		return
	}
	defer release()
	have, err := n.cfg.Host.Controllers(nqn)
	if err != nil || len(have) == 0 { // unstaged meanwhile
		return
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(a string) bool {
		return slices.ContainsFunc(have, func(c Connection) bool { return c.Address == a })
	})
	if len(missing) > 0 {
		options := volume.NVMe{CtrlLossTmo: -1, ReconnectDelay: 1, KeepAliveTmo: 2}
		_, err := n.cfg.Host.Connect(ctx, Target{NQN: nqn, Addresses: missing, Options: options})
		if err == nil {
			n.cfg.Log.Info("connected to another controller", "nqn", nqn, "addresses", missing)
		}
	}
	if !slices.ContainsFunc(have, func(c Connection) bool { return c.Live && slices.Contains(want, c.Address) }) {
		return
	}
	for _, c := range have {
		if c.Live || slices.Contains(want, c.Address) {
			continue
		}
		if err := n.cfg.Host.Drop(ctx, nqn, c.Address); err != nil {
			n.cfg.Log.Warn("a connection to a controller that is gone cannot be ended", "nqn", nqn, "address", c.Address, "err", err)
		}
	}
}
