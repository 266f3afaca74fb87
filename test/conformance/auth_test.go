package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/spdk"
)

// addKey puts a secret into a plane's keyring.
func (p *plane) addKey(name string, s *dhchap.Secret) {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(s.Reveal()), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.ok(p.KeyringFileAddKey(p.t.Context(), name, path))
}

// demand has the host of serve authenticate.
func (p *plane) demand(key, ctrlrKey string) {
	p.t.Helper()
	ctx := p.t.Context()
	p.ok(p.NvmfSubsystemRemoveHost(ctx, subNQN, hostNQN))
	keys := spdk.Keys{Host: key, Ctrlr: ctrlrKey}
	p.ok(p.NvmfSubsystemAddHost(ctx, subNQN, hostNQN, keys))
	sub, err := p.NvmfGetSubsystem(ctx, subNQN)
	p.ok(err)
	if !slices.Contains(sub.Hosts, spdk.NvmfHost{NQN: hostNQN, Keys: keys}) {
		p.t.Errorf("the list of hosts says %v", sub.Hosts)
	}
}

// TestHostsAuthenticate: our host against each plane's target, by each hash and
// group, one- and two-way; and what is refused.
func TestHostsAuthenticate(t *testing.T) {
	onEach(t, func(t *testing.T, p *plane) {
		key, ctrlr, other := dhchap.NewSecret(dhchap.SHA256), dhchap.NewSecret(dhchap.SHA512), dhchap.NewSecret(dhchap.SHA384)
		p.addKey("key", key)
		p.addKey("ctrlr", ctrlr)
		p.addKey("other", other)
		port := p.serve()
		p.demand("key", "ctrlr")
		offers := []dhchap.Offer{dhchap.Defaults()}
		for _, h := range dhchap.Defaults().Hashes {
			offers = append(offers, dhchap.Offer{Hashes: []dhchap.Hash{h}, Groups: []dhchap.Group{dhchap.Null}})
		}
		for _, g := range dhchap.Defaults().Groups {
			offers = append(offers, dhchap.Offer{Hashes: []dhchap.Hash{dhchap.SHA384}, Groups: []dhchap.Group{g}})
		}
		for _, o := range offers {
			for _, keys := range []dhchap.Keys{{Host: key}, {Host: key, Controller: ctrlr}} {
				c, err := host.Connect(t.Context(), host.Config{Traddr: "127.0.0.1", Trsvcid: port, SubNQN: subNQN, HostNQN: hostNQN, Queues: 2,
					Keys: keys, AuthOffer: o, ConnectTimeout: time.Minute}) // both sides compute, beside a plane that polls
				if err != nil {
					t.Fatalf("%v: %v", o, err)
				}
				if c.Namespace(1) == nil {
					t.Errorf("%v: there is no namespace", o)
				}
				c.Close()
			}
		}
		for name, keys := range map[string]dhchap.Keys{"another key": {Host: other}, "the controller's key": {Host: ctrlr}} {
			_, err := connect(t.Context(), host.Config{Trsvcid: port, Keys: keys})
			var e *dhchap.Error
			if !errors.As(err, &e) || !e.Rejected() {
				t.Errorf("%s: %v", name, err)
			}
		}
		var e *dhchap.Error
		_, err := connect(t.Context(), host.Config{Trsvcid: port, Keys: dhchap.Keys{Host: key, Controller: other}})
		if !errors.As(err, &e) || e.ByPeer {
			t.Errorf("another key of the controller: %v", err)
		}
		if _, err := connect(t.Context(), host.Config{Trsvcid: port}); !errors.Is(err, dhchap.ErrNoKey) {
			t.Errorf("no key: %v", err)
		}

		c := p.connect(host.Config{Trsvcid: port, Queues: 2, Keys: dhchap.Keys{Host: key, Controller: ctrlr}})
		transfer(t, c.Namespace(1))
		p.ok(p.NvmfSubsystemSetKeys(t.Context(), subNQN, hostNQN, spdk.Keys{Host: "other", Ctrlr: "ctrlr"}))
		transfer(t, c.Namespace(1)) // what is connected stays
		p.ok(c.SetKeys(t.Context(), dhchap.Keys{Host: other, Controller: ctrlr}))
		transfer(t, c.Namespace(1))
		if err := c.SetKeys(t.Context(), dhchap.Keys{Host: key}); err == nil {
			t.Error("the old key is taken")
		}
		if p.kind == "spdk" { // has one key per host
			return
		}
		p.ok(p.NvmfSubsystemRotateKeys(t.Context(), subNQN, hostNQN, spdk.Keys{Host: "key", Ctrlr: "ctrlr"}))
		for _, k := range []*dhchap.Secret{other, key} {
			c := p.connect(host.Config{Trsvcid: port, Queues: 1, Keys: dhchap.Keys{Host: k, Controller: ctrlr}})
			transfer(t, c.Namespace(1))
		}
	})
}

// TestPlanesAuthenticate: each plane's host against each plane's target.
func TestPlanesAuthenticate(t *testing.T) {
	for _, below := range kinds {
		for _, above := range kinds {
			t.Run(above.name+"_on_"+below.name, func(t *testing.T) {
				dn, cn := start(t, below, false), start(t, above, false)
				ctx, port := t.Context(), dn.serve()
				for _, name := range []string{"key", "ctrlr", "other"} {
					s := dhchap.NewSecret(dhchap.SHA256)
					dn.addKey(name, s)
					cn.addKey(name, s)
				}
				dn.demand("key", "ctrlr")
				attach := func(key, ctrlr string) error {
					params := map[string]any{"name": "N", "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port,
						"subnqn": subNQN, "hostnqn": hostNQN, "ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1}
					if key != "" {
						params["dhchap_key"] = key
					}
					if ctrlr != "" {
						params["dhchap_ctrlr_key"] = ctrlr
					}
					var names []string
					err := cn.Call(ctx, "bdev_nvme_attach_controller", params, &names)
					if err == nil && len(names) != 1 {
						t.Errorf("attached %v", names)
					}
					return err
				}
				if err := attach("other", ""); spdk.Code(err) != -5 {
					t.Errorf("attached by another key: %v", err)
				}
				if err := attach("key", "other"); spdk.Code(err) != -5 {
					t.Errorf("attached to a controller with another key: %v", err)
				}
				if err := attach("", ""); spdk.Code(err) != -5 {
					t.Errorf("attached without a key: %v", err)
				}
				choices := [][]string{{"null"}, {"ffdhe2048"}}
				if below.name != "spdk" || above.name != "spdk" { // two planes that poll leave each other no time for more
					choices = append(choices, []string{"ffdhe8192"}, []string{"null", "ffdhe2048", "ffdhe3072", "ffdhe4096"})
				}
				for _, groups := range choices {
					cn.ok(cn.Call(ctx, "bdev_nvme_set_options", map[string]any{"dhchap_dhgroups": groups}, nil))
					for _, ctrlr := range []string{"", "ctrlr"} {
						cn.ok(attach("key", ctrlr))
						cn.ok(cn.BdevNvmeDetachController(ctx, "N"))
					}
				}
				cn.ok(attach("key", "ctrlr"))
				dn.ok(dn.NvmfSubsystemSetKeys(ctx, subNQN, hostNQN, spdk.Keys{Host: "other", Ctrlr: "ctrlr"}))
				cn.ok(cn.BdevNvmeSetKeys(ctx, "N", spdk.Keys{Host: "other", Ctrlr: "ctrlr"}))
				cn.ok(cn.BdevNvmeDetachController(ctx, "N"))
				if err := cn.KeyringFileAddKey(ctx, "other", "/none"); !spdk.IsExists(err) {
					t.Errorf("a key of the same name: %v", err)
				}
				cn.ok(cn.KeyringFileRemoveKey(ctx, "other"))
				if err := cn.KeyringFileRemoveKey(ctx, "other"); !spdk.IsNoKey(err) {
					t.Errorf("a key that is not there: %v", err)
				}
			})
		}
	}
}
