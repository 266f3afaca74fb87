package portal_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// lost is a database that does not answer those who read it, when it says so.
type lost struct {
	store.Store
	now atomic.Bool
}

func (l *lost) View(ctx context.Context, fn func(store.Reader) error) error {
	if l.now.Load() {
		return errors.New("connection refused")
	}
	return l.Store.View(ctx, fn)
}

// TestPoint2Discovery: a host that asks the portal, at one address, finds all controllers of all arrays
// that it is let in to, on whatever nodes, and nobody else's; it is told when that changes. Without the
// database it gets an error and no empty list.
func TestPoint2Discovery(t *testing.T) {
	c := portaltest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	db := &lost{Store: c.Store}
	client := c.Dial(c.Portal(func(cfg *portal.Config) {
		cfg.Store, cfg.Discovery, cfg.WatchPeriod = db, "127.0.0.1:"+port, 50*time.Millisecond
	}))
	c.Populate(client, 2, 4)
	nqn := func(name string) string { return "nqn.2014-08.org.nvmexpress:" + name }
	exp := func(da, name, host string) *apiv1.ExpMsg {
		t.Helper()
		return must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: da, ExpName: name,
			InitiatorNqn: host})).ExpMsg
	}
	for i := range 3 {
		must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: fmt.Sprint("da", i), DaSize: 8 << 20,
			CntlrCnt: 2}))
	}
	exps := map[string][]*apiv1.ExpMsg{nqn("a"): {exp("da0", "e", nqn("a")), exp("da1", "e", nqn("a"))}, nqn("b"): {exp("da2", "e", nqn("b"))},
		nqn("c"): nil}
	// found is what a host may connect to: subsystem and address.
	found := func(l []nvme.DiscoveryEntry) []string {
		var all []string
		for _, e := range l {
			if e.Subtype == nvme.SubtypeDiscovery {
				if e.Trsvcid != port || e.SubNQN != nvme.DiscoveryNQN {
					t.Errorf("the service says of itself %+v", e)
				}
				continue
			}
			if e.Subtype != nvme.SubtypeNVM || e.Trtype != nvme.TrtypeTCP || e.CNTLID != nvme.CNTLIDDynamic || e.Adrfam != nvme.AdrfamIPv4 {
				t.Errorf("%+v", e)
			}
			all = append(all, e.SubNQN+" "+net.JoinHostPort(e.Traddr, e.Trsvcid))
		}
		slices.Sort(all)
		return all
	}
	wants := func(list ...*apiv1.ExpMsg) []string {
		var all []string
		for _, e := range list {
			for _, es := range e.EsMsgList {
				l, err := vda.ParseListener("cn_listener_conf", es.CnListenerConf)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, e.ExpNqn+" "+net.JoinHostPort(l.TrAddr, l.TrSvcID))
			}
		}
		slices.Sort(all)
		return all
	}
	as := func(name string) host.Config { return host.Config{Traddr: "127.0.0.1", Trsvcid: port, HostNQN: name} }
	for name, list := range exps {
		l, err := host.Discover(t.Context(), as(name))
		if err != nil {
			t.Fatal(err)
		}
		want := wants(list...)
		if got := found(l); !slices.Equal(got, want) || len(want) != 2*len(list) {
			t.Errorf("%s finds %v, want %v", name, got, want)
		}
	}

	// One that stays hears of what comes and goes.
	heard := make(chan struct{}, 1)
	heard <- struct{}{} // it reads once by itself: before it has asked for events it hears of none
	stays := as(nqn("c"))
	stays.SubNQN, stays.Queues = nvme.DiscoveryNQN, -1
	stays.OnNamespaces = func(*host.Controller) {
		select {
		case heard <- struct{}{}:
		default:
		}
	}
	ctrl, err := host.Connect(t.Context(), stays)
	if err != nil {
		t.Fatal(err)
	}
	defer ctrl.Close()
	becomes := func(want []string) {
		t.Helper()
		late := time.After(2 * time.Minute)
		for {
			select {
			case <-heard:
			case <-late:
				t.Fatalf("it is not told; want %v", want)
			}
			l, err := ctrl.DiscoveryLog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if slices.Equal(found(l), want) {
				return
			}
		}
	}
	becomes(nil)
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e",
		AddInitiatorNqn: []string{nqn("c")}}))
	becomes(wants(exps[nqn("a")][0]))
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da0", ExpName: "e",
		RemoveInitiatorNqn: []string{nqn("c")}}))
	becomes(nil)

	// One that has keys proves that it knows one. Until it does it learns nothing under any name, and one that
	// has been given its first key since it came is told no more.
	c.CanAuth()
	k1, k2, c1 := newKey(), newKey(), newKey()
	keyed := must[*apiv1.CreateExpReply](t)(client.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da2", ExpName: "keyed",
		InitiatorNqn: nqn("k"), DhchapKey: k1, DhchapCtrlrKey: c1})).ExpMsg
	secret := func(text string) *dhchap.Secret {
		s, err := dhchap.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	with := func(name string, key, ctrlr *dhchap.Secret) host.Config {
		cfg := as(name)
		cfg.Keys = dhchap.Keys{Host: key, Controller: ctrlr}
		return cfg
	}
	finds := func(what string, cfg host.Config) {
		t.Helper()
		l, err := host.Discover(t.Context(), cfg)
		if got, want := found(l), wants(keyed); err != nil || !slices.Equal(got, want) || len(want) != 2 {
			t.Errorf("%s finds %v (%v), want %v", what, got, err, want)
		}
	}
	nothing := func(what string, cfg host.Config) {
		t.Helper()
		if l, err := host.Discover(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "authenticat") {
			t.Errorf("%s finds %v (%v)", what, l, err)
		}
	}
	finds("a host with its key", with(nqn("k"), secret(k1), nil))
	finds("a host that has the service prove itself", with(nqn("k"), secret(k1), secret(c1)))
	nothing("one that says its name", as(nqn("k")))
	nothing("one with another key", with(nqn("k"), secret(k2), nil))
	nothing("a service without the controllers' key", with(nqn("k"), secret(k1), secret(k2)))
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da2", ExpName: "keyed", DhchapKey: k2}))
	finds("a host with its key before", with(nqn("k"), secret(k1), nil))
	finds("a host with its next key", with(nqn("k"), secret(k2), nil))
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da2", ExpName: "keyed", DropOldDhchapKey: true}))
	nothing("one with a key that was dropped", with(nqn("k"), secret(k1), nil))
	must[*apiv1.ModifyExpReply](t)(client.ModifyExp(ctx, &apiv1.ModifyExpRequest{DaName: "da2", ExpName: "keyed",
		AddInitiatorNqn: []string{nqn("c")}, DhchapKey: newKey()}))
	// It may have asked at an event already, given its connection up for the answer, and be
	// without one for good.
	soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if told, err := ctrl.DiscoveryLog(soon); err == nil {
		t.Errorf("one that came before it had a key is told %v", told)
	}

	db.now.Store(true)
	if l, err := host.Discover(t.Context(), as(nqn("a"))); err == nil {
		t.Errorf("without the database: %v", l)
	}
	db.now.Store(false)
	if l, err := host.Discover(t.Context(), as(nqn("a"))); err != nil || len(found(l)) != 4 {
		t.Errorf("with it again: %v, %v", l, err)
	}
}
