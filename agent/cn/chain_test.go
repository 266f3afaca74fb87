package cn_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// behind returns, by exporter, what its namespace on controller node i stands
// on: "volume", the name of the exporter that it is linked to, or "primary".
func (l *lab) behind(i int) map[string]string {
	l.Helper()
	ctx, api := context.Background(), l.cns[i].plane.Client()
	subs, err := api.NvmfGetSubsystems(ctx)
	if err != nil {
		l.Fatal(err)
	}
	ctrlrs, err := api.BdevNvmeGetControllers(ctx)
	if err != nil {
		l.Fatal(err)
	}
	name := func(nqn string) string {
		k := slices.IndexFunc(l.spec.Exps, func(e *apiv1.ExpSpec) bool { return e.Nqn == nqn })
		if k < 0 {
			return nqn
		}
		return l.spec.Exps[k].Name
	}
	at := map[string]string{}
	for _, s := range subs {
		if !strings.HasPrefix(s.NQN, expNQN) || len(s.Namespaces) != 1 {
			continue
		}
		bdev := s.Namespaces[0].BdevName
		at[name(s.NQN)] = "volume"
		if strings.HasPrefix(bdev, "vda-px-") {
			at[name(s.NQN)] = "primary"
		}
		for _, c := range ctrlrs {
			if strings.HasPrefix(bdev, "vda-link-") && bdev == c.Name+"n1" {
				at[name(s.NQN)] = name(c.Ctrlrs[0].TrID.SubNQN)
			}
		}
	}
	return at
}

func (l *lab) stands(i int, want map[string]string) {
	l.Helper()
	if got := l.behind(i); fmt.Sprint(got) != fmt.Sprint(want) {
		l.Errorf("cn%d: exporters stand on %v, want %v", i, got, want)
	}
}

func TestExportersStandOnOneAnother(t *testing.T) { inBubble(t, 2, false, exportersStandOnOneAnother) }

func exportersStandOnOneAnother(l *lab) {
	t := l.T
	a, b := l.spec.Exps[0], l.exporter(1)
	l.exporter(2)
	l.up(0)
	l.spec.Create = false
	l.stands(0, map[string]string{"exp0": "volume", "exp1": "exp0", "exp2": "exp1"})
	l.stands(1, map[string]string{"exp0": "primary", "exp1": "primary", "exp2": "primary"})

	for i := range l.cns { // nothing is changed that is right
		l.cns[i].plane.Changes()
		l.good(i, l.cntlr(i, 0))
		if n := l.cns[i].plane.Changes(); n != 0 {
			t.Errorf("cn%d: %d changes", i, n)
		}
	}

	l.exporter(3).Id = id("ee", 0) // comes last whatever its id
	l.all(0)
	l.stands(0, map[string]string{"exp0": "volume", "exp1": "exp0", "exp2": "exp1", "exp3": "exp2"})
	b.Deleted = true
	l.all(0)
	l.stands(0, map[string]string{"exp0": "volume", "exp2": "exp0", "exp3": "exp2"})
	a.Deleted = true
	l.all(0)
	l.stands(0, map[string]string{"exp2": "volume", "exp3": "exp2"})

	l.spec.Exps = slices.DeleteFunc(l.spec.Exps, func(e *apiv1.ExpSpec) bool { return e.Deleted })
	l.term++
	l.up(1)
	l.healthy(0)
	l.stands(0, map[string]string{"exp2": "primary", "exp3": "primary"})
	l.stands(1, map[string]string{"exp2": "exp3", "exp3": "volume"})
	for _, o := range l.cns[0].plane.Objects() {
		if strings.Contains(o, "vda-link-") {
			t.Errorf("cn0, a secondary, has %s", o)
		}
	}
	for _, i := range []int{0, 1} {
		s := l.cntlr(i, 1)
		s.Deleted, s.DestroyData = true, i == 1
		l.good(i, s)
		if o := l.cns[i].plane.Objects(); len(o) > 0 {
			t.Errorf("cn%d: left %v", i, o)
		}
	}
}

// The last exporter of a chain is made inaccessible first: its I/O would be
// queued for the one that it stands on.
func TestAChainIsClosedFromItsEnd(t *testing.T) { inBubble(t, 2, false, aChainIsClosedFromItsEnd) }

func aChainIsClosedFromItsEnd(l *lab) {
	t := l.T
	l.exporter(1)
	l.exporter(2)
	l.up(0)
	l.spec.Create = false
	p := l.cns[0].plane
	var order []string
	p.SetHook(func(method string, a map[string]any) error {
		nqn, _ := a["nqn"].(string)
		exp := strings.TrimPrefix(nqn, expNQN)
		switch {
		case method == "nvmf_subsystem_listener_set_ana_state" && a["ana_state"] == spdk.ANAInaccessible:
			order = append(order, "close"+exp)
		case method == "nvmf_subsystem_remove_ns":
			order = append(order, "remove"+exp)
		}
		return nil
	})
	l.term++
	l.sync(0, l.cntlr(0, 1))
	p.SetHook(nil)
	want := "close-c close-b close remove-c remove-b remove"
	if got := strings.Join(order, " "); !strings.HasPrefix(got, want) {
		t.Errorf("%s; want %s", got, want)
	}
}

// A proxy that was cut for a promotion that did not come about is made again.
func TestACutProxyIsConnectedAgain(t *testing.T) { inBubble(t, 2, false, aCutProxyIsConnectedAgain) }

func aCutProxyIsConnectedAgain(l *lab) {
	t := l.T
	l.up(0)
	if err := l.cns[1].plane.Client().BdevNvmeDisableController(context.Background(), "vda-px-"+expID); err != nil {
		t.Fatal(err)
	}
	planetest.Eventually(t, func() string {
		if got := l.cns[1].plane.ANA(expNQN); got != spdk.ANANonOptimized {
			return "ANA is " + got
		}
		l, err := l.cns[1].plane.Client().BdevNvmeGetControllers(context.Background())
		if err != nil || len(l) != 1 || l[0].Ctrlrs[0].State != "enabled" {
			return fmt.Sprint(l, err)
		}
		return ""
	})
	l.healthy(1)
}

// Nothing of an exporter that a link leads to is changed, whatever is deleted at
// once: SPDK would stand still.
func TestNothingChangesBelowALink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deleted []int // of five
		then    func(l *lab)
	}{
		"the first":                   {[]int{0}, nil},
		"the first two":               {[]int{0, 1}, nil},
		"two in the middle":           {[]int{1, 2}, nil},
		"all but the last":            {[]int{0, 1, 2, 3}, nil},
		"the last two":                {[]int{3, 4}, nil},
		"some, and the primary moves": {[]int{1, 2}, func(l *lab) { l.term++; l.sync(0, l.cntlr(0, 1)) }},
		"some, and the array goes": {[]int{1, 3}, func(l *lab) {
			s := l.cntlr(0, 0)
			s.Deleted = true
			l.good(0, s)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, _ := fakes(t, 2, false)
			for n := 1; n < 5; n++ {
				l.exporter(n)
			}
			l.up(0)
			l.spec.Create = false
			p := l.cns[0].plane
			links := strings.Count(fmt.Sprint(p.Objects()), "controller vda-link-")
			for _, i := range c.deleted {
				l.spec.Exps[i].Deleted = true
			}
			if c.then != nil {
				c.then(l)
			} else {
				for _, s := range l.settled(0, l.cntlr(0, 0)) {
					if s.Error {
						t.Error(s)
					}
				}
				links -= len(c.deleted)
				if got := strings.Count(fmt.Sprint(p.Objects()), "controller vda-link-"); got != links {
					t.Errorf("%d links, want %d", got, links)
				}
			}
			if why := p.Stuck(); why != "" {
				t.Error(why)
			}
		})
	}
}

// A chain that nobody wants any more is taken away from its end.
func TestAStrayChainIsRemoved(t *testing.T) {
	t.Parallel()
	l, _ := fakes(t, 1, false)
	for n := 1; n < 5; n++ {
		l.exporter(n)
	}
	l.up(0)
	n := l.cns[0]
	n.version++
	if _, err := n.a.Sync(t.Context(), &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version, Listener: at(n.port),
		AllowEmpty: true}); err != nil {
		t.Fatal(err)
	}
	planetest.Eventually(t, func() string {
		if o := n.plane.Objects(); len(o) > 0 {
			return fmt.Sprintf("left: %v %s", o, n.plane.Stuck())
		}
		return ""
	})
}

// TestLinksMadeMeanwhileAreRemovedFirst has an array come back with one more exporter,
// and go, while what is not desired is being removed by lists of before: a link that has
// been made since then leads to a subsystem of those lists.
func TestLinksMadeMeanwhileAreRemovedFirst(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		t := l.T
		l.up(0)
		n := l.cns[0]
		send := func(cntlrs ...*apiv1.CntlrSpec) {
			n.version++
			for _, c := range cntlrs {
				c.Version = n.version
			}
			req := &apiv1.SyncCnRequest{ClusterId: cluster, NodeId: n.id, Version: n.version, Listener: at(n.port), Cntlrs: cntlrs, AllowEmpty: true}
			go func() { _, _ = n.a.Sync(context.Background(), req) }() // waits for the removal
			time.Sleep(time.Second)
		}
		// Strays, so that one of them is likely to be removed before the exporter.
		stray := func(nqn any) bool { return strings.HasPrefix(fmt.Sprint(nqn), vda.ExpNQNPrefix+"stray") }
		var empty atomic.Bool
		stalled, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		n.plane.SetHook(func(method string, a map[string]any) error {
			if method == "nvmf_create_subsystem" || !stray(a["nqn"]) {
				return nil
			}
			if !empty.Load() {
				return planetest.Refuse(12)
			}
			once.Do(func() { close(stalled) })
			<-release
			return nil
		})
		for i := range 20 {
			c := map[string]any{"nqn": fmt.Sprint(vda.ExpNQNPrefix, "stray-", i), "serial_number": "S", "model_number": "M"}
			if err := n.plane.Direct().Call(t.Context(), "nvmf_create_subsystem", c, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		empty.Store(true)
		send()
		<-stalled
		if !slices.Contains(n.plane.Objects(), "subsystem "+expNQN) {
			close(release)
			t.Log("the exporter was removed first")
			return
		}
		l.exporter(1)
		send(l.cntlr(0, 0))
		if o := fmt.Sprint(n.plane.Objects()); !strings.Contains(o, "controller vda-link-") {
			t.Errorf("no link: %v", o)
		}
		send()
		close(release)
		planetest.Eventually(t, func() string {
			if o := n.plane.Objects(); len(o) > 0 {
				return fmt.Sprintf("left: %v %s", o, n.plane.Stuck())
			}
			return ""
		})
	})
}

// The first exporter of an array that is made again under the names of a deleted
// one, whose others stand on what has its NQN.
func TestAChainGivesWayToANewArray(t *testing.T) {
	t.Parallel()
	l, _ := fakes(t, 1, false)
	for n := 1; n < 3; n++ {
		l.exporter(n)
	}
	l.up(0)
	for _, e := range l.spec.Exps { // other exporters, of the same names
		e.Serial = "1" + e.Serial[1:]
	}
	l.good(0, l.cntlr(0, 0))
	if why := l.cns[0].plane.Stuck(); why != "" {
		t.Error(why)
	}
	if got := len(l.behind(0)); got != 3 {
		t.Errorf("%d exporters, want 3", got)
	}
}
