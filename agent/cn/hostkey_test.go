package cn_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/spdk"
)

// keyPair is a user's, the n-th.
type keyPair struct {
	dhchap.Keys
	spec *apiv1.AuthKeys
}

func newKeyPair(n int) keyPair {
	k := dhchap.Keys{Host: dhchap.NewSecret(dhchap.SHA256), Controller: dhchap.NewSecret(dhchap.SHA512)}
	return keyPair{k, &apiv1.AuthKeys{Id: id("4e", n), Host: k.Host.Reveal(), Ctrlr: k.Controller.Reveal()}}
}

// authenticates has the first exporter let in its host by a key alone, and by an old one, too,
// unless that is nil.
func (l *lab) authenticates(now, old *apiv1.AuthKeys) {
	e := l.spec.Exps[0]
	e.InitiatorNqn, e.AuthHosts = "", []*apiv1.AuthHost{{Nqn: host0, New: now, Old: old}}
}

// TestHostsAuthenticate: all controllers let a host in by its keys alone, from the first call
// on, by two of them while its key is changed, and again after each kind of restart and when
// paths were closed.
func TestHostsAuthenticate(t *testing.T) {
	for _, swaps := range []bool{true, false} {
		t.Run(fmt.Sprint("swaps=", swaps), func(t *testing.T) {
			inBubble(t, 2, swaps, func(l *lab) { hostsAuthenticate(l, swaps) })
		})
	}
}

func hostsAuthenticate(l *lab, swaps bool) {
	for i := range l.cns {
		l.cns[i].plane.SetHook(func(method string, a map[string]any) error {
			if key, _ := a["dhchap_key"].(string); method == "nvmf_subsystem_add_host" && a["host"] == host0 && key == "" {
				l.Errorf("cn%d lets the host in without a key", i)
			}
			return nil
		})
	}
	keys := []keyPair{newKeyPair(0), newKeyPair(1), newKeyPair(2)}
	// check tries each pair, and none, at each controller.
	check := func(when string, valid ...int) {
		l.Helper()
		for i := range l.cns {
			by := func(k *apiv1.AuthKeys) error {
				return l.cns[i].plane.Prove("127.0.0.1:"+l.cns[i].port, expNQN, host0, k.GetHost(), k.GetCtrlr())
			}
			if by(nil) == nil {
				l.Errorf("%s: cn%d lets the host in without a key", when, i)
			}
			for n, k := range keys {
				want := false
				for _, v := range valid {
					want = want || v == n
				}
				if err := by(k.spec); (err == nil) != want {
					l.Errorf("%s: cn%d, with key %d: %v, want ok %v", when, i, n, err, want)
				}
			}
			held := 0
			for _, name := range l.cns[i].plane.Keys() {
				if len(name) > 0 {
					held++
				}
			}
			if held != 2*len(valid) {
				l.Errorf("%s: cn%d has %d keys for %d pairs: %v", when, i, held, len(valid), l.cns[i].plane.Keys())
			}
		}
	}
	both := func(now, old int) []int {
		if !swaps { // SPDK has one pair per host
			return []int{now}
		}
		return []int{now, old}
	}
	l.authenticates(keys[0].spec, nil)
	l.up(0)
	l.spec.Create = false
	check("at first", 0)
	l.authenticates(keys[1].spec, keys[0].spec)
	l.up(0)
	check("while the key is changed", both(1, 0)...)
	for i := range l.cns {
		l.cns[i].stop(l)
		l.cns[i].start(l)
		l.healthy(i)
	}
	l.up(0)
	check("after a restart of the agents", both(1, 0)...)
	for i := range l.cns {
		l.cns[i].plane.Stop()
		l.cns[i].plane.Boot()
		planetest.Eventually(l, func() string {
			if len(l.cns[i].plane.Keys()) == 0 {
				return "no keys yet"
			}
			return ""
		})
		l.healthy(i)
	}
	time.Sleep(time.Minute)
	check("after a restart of the data planes", both(1, 0)...)
	l.term++
	l.sync(0, l.cntlr(0, 1)) // closes its paths
	l.up(1)
	check("after a failover", both(1, 0)...)
	l.authenticates(keys[1].spec, nil)
	l.up(1)
	check("when the old key is dropped", 1)
	l.authenticates(keys[2].spec, keys[1].spec)
	l.up(1)
	check("when it is changed once more", both(2, 1)...)
	l.spec.Exps[0].AuthHosts[0] = &apiv1.AuthHost{Nqn: host0, New: keys[0].spec, Old: keys[2].spec}
	l.up(1)
	check("when a change was missed", both(0, 2)...)
}

// TestRealHostAuthenticates: a host gets in by its key on the primary and the secondary, by
// both of its keys while one is changed, and not without, also after a restart of the data
// planes.
func TestRealHostAuthenticates(t *testing.T) { planes(t, realHostAuthenticates) }

func realHostAuthenticates(t *testing.T, spdkDN, spdkCN bool) {
	l, _, cnTgts := reals(t, 2, true, spdkDN, spdkCN)
	k0, k1 := newKeyPair(0), newKeyPair(1)
	l.authenticates(k0.spec, nil)
	l.leased()
	l.up(0)
	l.spec.Create = false
	check := func(when string, in, out []dhchap.Keys) {
		t.Helper()
		for i := range l.cns {
			l.healthy(i)
			for _, k := range in {
				if err := l.stranger(l.cns[i].port, expNQN, host0, k); err != nil {
					t.Errorf("%s: cn%d refuses a right key: %v", when, i, err)
				}
			}
			for _, k := range append(out, dhchap.Keys{}) {
				if err := l.stranger(l.cns[i].port, expNQN, host0, k); !unproven(err) {
					t.Errorf("%s: cn%d lets in a host with a wrong key, or none: %v", when, i, err)
				}
			}
		}
	}
	guess := dhchap.Keys{Host: dhchap.NewSecret(dhchap.SHA256)}
	crossed := dhchap.Keys{Host: k0.Host, Controller: k1.Controller}
	check("at first", []dhchap.Keys{k0.Keys, {Host: k0.Host}}, []dhchap.Keys{guess, k1.Keys, crossed})
	l.authenticates(k1.spec, k0.spec)
	l.up(0)
	in := []dhchap.Keys{k1.Keys, k0.Keys}
	if spdkCN { // has one key per host
		in = in[:1]
	}
	check("while the key is changed", in, []dhchap.Keys{guess})
	for _, g := range cnTgts {
		g.stop()
		g.start()
	}
	planetest.Eventually(t, func() string {
		for i := range l.cns {
			if s := l.states(i); len(s) > 0 {
				return fmt.Sprint(s)
			}
			if err := l.stranger(l.cns[i].port, expNQN, host0, k1.Keys); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	check("after a restart", in, []dhchap.Keys{guess})
	l.authenticates(k1.spec, nil)
	l.up(0)
	check("when the old key is dropped", in[:1], []dhchap.Keys{guess, k0.Keys})
}

// TestBothKeysOutlastClosedPaths: a primary without a lease sends its hosts away, and they come
// back by either of their keys.
func TestBothKeysOutlastClosedPaths(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		old, now := newKeyPair(0), newKeyPair(1)
		l.authenticates(old.spec, nil)
		l.up(0)
		l.spec.Create = false
		l.authenticates(now.spec, old.spec)
		l.up(0)
		m := &monitor{l: l, lease: 4 * time.Second}
		stop := m.renew()
		l.cns[0].plane.Cut(l.dns[1].plane, true)
		var mu sync.Mutex
		gone, back := false, false
		l.cns[0].plane.SetHook(func(method string, a map[string]any) error {
			mu.Lock()
			defer mu.Unlock()
			gone = gone || method == "nvmf_subsystem_remove_host" && a["host"] == host0
			back = back || gone && method == "nvmf_subsystem_add_host" && a["host"] == host0
			return nil
		})
		stop()
		l.ana(0, spdk.ANAInaccessible)
		planetest.Eventually(l, func() string {
			mu.Lock()
			defer mu.Unlock()
			if !back {
				return "the host was not sent away, or may not come back"
			}
			for _, k := range []keyPair{now, old} {
				if err := l.cns[0].plane.Prove("127.0.0.1:"+l.cns[0].port, expNQN, host0, k.spec.Host, k.spec.Ctrlr); err != nil {
					return err.Error()
				}
			}
			return ""
		})
		l.stays(0, spdk.ANAInaccessible, 500*time.Millisecond)
	})
}
