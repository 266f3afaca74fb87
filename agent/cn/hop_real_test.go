package cn_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// unproven reports that a connection failed for want of the right key. Others may fail
// because the true host comes back meanwhile.
func unproven(err error) bool {
	return err != nil && (errors.As(err, new(*dhchap.Error)) || errors.Is(err, dhchap.ErrNoKey))
}

// stranger connects to a subsystem as a host whose NQN it knows.
func (l *lab) stranger(port, nqn, as string, keys dhchap.Keys) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: port, SubNQN: nqn, HostNQN: as, Keys: keys, Queues: 1})
	if err == nil {
		c.Close()
	}
	return err
}

// TestRealHops has the connections between nodes authenticate while a host writes: nothing
// fails, nobody gets in by the NQNs of a primary or a secondary, connections come back by
// their keys, and the next term has others.
func TestRealHops(t *testing.T) { planes(t, realHops) }

func realHops(t *testing.T, spdkDN, spdkCN bool) {
	l, dnTgts, _ := reals(t, 2, true, spdkDN, spdkCN)
	vd := "nqn.2016-06.io.spdk:vda-vd-" + id("b0", 0)
	proxy := vda.ProxyHostNQN(l.cns[1].cntlr)
	l.leased()
	l.up(0)
	l.spec.Create = false
	write(t, l.disk(0), 1)
	if err := l.stranger(l.dns[0].port, vd, l.hostNQN(), dhchap.Keys{}); unproven(err) {
		t.Fatalf("a plain vd demands a key: %v", err)
	}
	l.healthy(0) // the stranger has ended the primary's association
	work := startLoad(l.multipath())
	defer work.end()
	work.goesOn()

	l.secret = "of the cluster"
	l.up(0)
	work.goesOn()
	t.Logf("longest I/O while connections began to authenticate: %v", work.pause())
	l.healthy(0)
	refused := func(what, port, nqn, as string, keys dhchap.Keys) {
		t.Helper()
		if err := l.stranger(port, nqn, as, keys); !unproven(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	guess := dhchap.Keys{Host: dhchap.NewSecret(dhchap.SHA256)}
	l.secret = "of the cluster, when the last one was lost"
	l.up(0)
	l.healthy(0)
	refused("a vd, without a key", l.dns[0].port, vd, l.hostNQN(), dhchap.Keys{})
	refused("a vd, with another key", l.dns[0].port, vd, l.hostNQN(), guess)
	refused("a primary's exporter, without a key", l.cns[0].port, expNQN, proxy, dhchap.Keys{})
	refused("a primary's exporter, with another key", l.cns[0].port, expNQN, proxy, guess)
	work.goesOn()

	dnTgts[0].stop()
	dnTgts[0].start()
	work.goesOn() // by the keys that the data planes have
	l.healthy(0)

	last := dhchap.Keys{Host: l.stolen(0)}
	if err := l.stranger(l.dns[0].port, vd, l.hostNQN(), last); unproven(err) {
		t.Errorf("the key that a dn keeps is not the one that counts: %v", err)
	}
	l.healthy(0)
	l.term++
	l.sync(0, l.cntlr(0, 1)) // retires
	l.up(1)
	work.goesOn()
	refused("a vd, with the key of the term before", l.dns[0].port, vd, l.hostNQN(), last)
	l.stolen(0) // and only one is left
}

// stolen is the only key that the agent of dn i keeps for a host.
func (l *lab) stolen(i int) *dhchap.Secret {
	l.Helper()
	files, err := filepath.Glob(filepath.Join(l.dns[i].config.StateDir, "hops", "*-host"))
	if err != nil || len(files) != 1 {
		l.Fatalf("keys of dn%d: %v, %v", i, files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		l.Fatal(err)
	}
	secret, err := dhchap.ParseSecret(string(text))
	if err != nil {
		l.Fatal(err)
	}
	return secret
}
