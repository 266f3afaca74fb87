package plane

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
)

// target answers calls and keeps their names.
type target struct {
	mu     sync.Mutex
	calls  []string
	answer func(method string) (result string, err error)
}

func (g *target) Call(_ context.Context, method string, _, result any) error {
	g.mu.Lock()
	g.calls = append(g.calls, method)
	g.mu.Unlock()
	text := ""
	if g.answer != nil {
		var err error
		if text, err = g.answer(method); err != nil {
			return err
		}
	}
	if text == "" || result == nil {
		return nil
	}
	return json.Unmarshal([]byte(text), result)
}

func (g *target) took() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.calls
	g.calls = nil
	return calls
}

func kind(major, minor int, methods ...string) Kind {
	v := &spdk.Version{}
	v.Fields.Major, v.Fields.Minor = major, minor
	return Kind{v, append(methods, "bdev_nvme_get_controllers")}
}

const (
	cuts  = "bdev_nvme_disable_controller"
	swaps = "vda_nvmf_swap_ns"
)

func drive(k Kind, g *target, served bool) Driver {
	return k.Driver(Config{
		API: spdk.API{Caller: g}, Served: served, ANASet: func(string) time.Time { return time.Time{} },
		Go: func(f func() error) <-chan error {
			done := make(chan error, 1)
			go func() { done <- f() }()
			return done
		},
	})
}

func conn(name, state string, cntlid uint16) *spdk.NvmeController {
	return &spdk.NvmeController{Name: name, Ctrlrs: []spdk.NvmePath{{State: state, Cntlid: cntlid}}}
}

func TestAVersionHasItsTraits(t *testing.T) {
	t.Parallel()
	for version, want := range map[[2]int]traits{
		{23, 1}:  {nvme: true, earlyDetach: true, lvolBytes: true},
		{23, 5}:  {nvme: true, earlyDetach: true},
		{23, 9}:  {nvme: true, earlyDetach: true, cuts: true},
		{24, 1}:  {nvme: true, cuts: true, listenerState: true},
		{24, 9}:  {nvme: true, cuts: true, listenerState: true, passesThrough: true},
		{25, 5}:  {nvme: true, cuts: true, listenerState: true, passesThrough: true, exactKeepAlive: true},
		{26, 5}:  {nvme: true, cuts: true, listenerState: true, passesThrough: true, exactKeepAlive: true},
		{0, 0}:   {},
		{25, 50}: {nvme: true, cuts: true, listenerState: true, passesThrough: true, exactKeepAlive: true},
	} {
		k := kind(version[0], version[1])
		if want.cuts {
			k = kind(version[0], version[1], cuts)
		}
		if version == [2]int{} {
			k = Kind{} // before the first answer
		}
		got := drive(k, &target{}, false).(*spdkTgt)
		if got.traits != want {
			t.Errorf("%v: %+v", version, got.traits)
		}
		if warns := len(got.Warnings()) > 0; warns == want.exactKeepAlive {
			t.Errorf("%v warns of coarse keep-alives: %v", version, warns)
		}
	}
	if _, is := drive(kind(26, 5, swaps, cuts), &target{}, false).(*vdaTgt); !is {
		t.Error("vda_tgt is not driven as such")
	}
}

// What SPDK needs is not asked of vda_tgt.
func TestVDATgtIsLeftAlone(t *testing.T) {
	t.Parallel()
	g := &target{answer: func(string) (string, error) { return "", errors.New("not to be called") }}
	d := drive(kind(26, 5, swaps, cuts), g, false)
	ctx, px := t.Context(), conn("vda-px-e", "failed", 1)
	ns := Namespace{NQN: "n", NSID: 1, Bdev: "b", Settle: func(context.Context, string) error { return errors.New("not to be called") }}
	ready, err := d.Release(ctx, px.Name, "n")
	closed, closedErr := d.ClosedPaths(ctx)
	d.Clean(px)
	if err := errors.Join(err, closedErr, d.Quiesce(ctx, ns), d.PrepareLoss(ctx, ns), d.Drain(ctx, "n", 1),
		d.AwaitQuiet(ctx, "n"), d.Settle(ctx, px.Name), d.Expect(ctx, "n")); err != nil {
		t.Error(err)
	}
	lost := func(*spdk.NvmeController) bool { return true }
	if ready || len(closed) > 0 || d.MayHold(px, false) || d.Released(px.Name) ||
		d.CutLost(ctx, []string{px.Name}, lost, func(string, error) {}) || d.Closes("bdev_raid_delete") || d.Lists("bdev_nvme_get_io_paths") {
		t.Error("something is done that vda_tgt does not need")
	}
	if calls := g.took(); len(calls) > 0 {
		t.Errorf("calls %q", calls)
	}
}

// asker answers by the name that is asked for, and keeps what it was asked.
type asker struct {
	calls []string
	known map[string]string // state by name
}

func (a *asker) Call(_ context.Context, method string, params, result any) error {
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	var p struct{ Name string }
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	a.calls = append(a.calls, strings.TrimPrefix(method, "bdev_nvme_")+" "+p.Name)
	state, ok := a.known[p.Name]
	if !ok {
		return &spdk.RPCError{Code: -19, Message: "No such device", Method: method}
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal([]byte(`[{"name":"`+p.Name+`","ctrlrs":[{"state":"`+state+`"}]}]`), result)
}

// A controller that is taken down asks for its own connections, and cuts those of
// them that are lost.
func TestCutLostAsksByName(t *testing.T) {
	t.Parallel()
	g := &asker{known: map[string]string{"a": "enabled", "b": "resetting", "d": "disabled", "other": "resetting"}}
	d := kind(26, 5, cuts).Driver(Config{API: spdk.API{Caller: g}})
	lost := func(c *spdk.NvmeController) bool { return !c.Connected() }
	fail := func(name string, err error) { t.Errorf("%s: %v", name, err) }
	if !d.CutLost(t.Context(), []string{"a", "b", "c", "d"}, lost, fail) {
		t.Error("it is not to be called again")
	}
	want := []string{"get_controllers a", "get_controllers b", "get_controllers c", "get_controllers d", "disable_controller b"}
	if !slices.Equal(g.calls, want) {
		t.Errorf("calls %q, want %q", g.calls, want)
	}
	if d.CutLost(t.Context(), nil, lost, fail) || len(g.calls) > len(want) {
		t.Errorf("without a connection: calls %q", g.calls[len(want):])
	}
}

// A proxy is cut before what was in flight is waited for, and only then connected
// again: in another order an old write could overtake a newer one.
func TestReleaseCutsDrainsAndConnects(t *testing.T) {
	t.Parallel()
	g := &target{}
	g.answer = func(method string) (string, error) {
		switch method {
		case "nvmf_subsystem_add_ns":
			return "", &spdk.RPCError{Code: -32602, Message: "Invalid parameters"}
		case "bdev_nvme_get_io_paths":
			return `{"poll_groups":[{"io_paths":[{"bdev_name":"pn1","connected":true,"accessible":true}]}]}`, nil
		}
		return "", nil
	}
	d := drive(kind(26, 5, cuts), g, false)
	up := conn("p", "enabled", 1)
	d.Clean(up)
	if d.MayHold(up, true) {
		t.Error("something is held on a connection that was never lost")
	}
	if !d.MayHold(conn("p", "enabled", 2), true) {
		t.Error("a connection that was made again, which another controller id shows, holds nothing")
	}
	if !d.MayHold(up, false) || !d.MayHold(up, true) {
		t.Error("nothing is held on a connection that was lost")
	}
	want := []string{"bdev_nvme_disable_controller", "nvmf_subsystem_add_ns", "bdev_nvme_enable_controller", "bdev_nvme_get_io_paths"}
	if ready, err := d.Release(t.Context(), "p", "n"); err != nil || !ready {
		t.Errorf("released: %v, %v", ready, err)
	}
	if got := g.took(); !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
	// Once, until the path is opened.
	ready, err := d.Release(t.Context(), "p", "n")
	err = errors.Join(err, d.Settle(t.Context(), "p"))
	if ready || err != nil || !d.Released("p") || d.MayHold(up, false) || len(g.took()) > 0 {
		t.Errorf("released twice: %v, %v", ready, err)
	}
	d.Clean(up)
	if d.Released("p") {
		t.Error("released though its path was opened")
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		k     Kind
		state string
		calls string
		took  time.Duration
	}{
		"cut":                {kind(23, 9, cuts), "failed", "bdev_nvme_disable_controller", 0},
		"old, connected":     {kind(23, 5), "enabled", "bdev_nvme_get_controllers", 0},
		"old, not connected": {kind(23, 5), "failed", "bdev_nvme_get_controllers", ProxyFastIOFail + 200*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &target{answer: func(method string) (string, error) {
					if method == "bdev_nvme_get_controllers" {
						return `[{"name":"p","ctrlrs":[{"state":"` + c.state + `"}]}]`, nil
					}
					return "", nil
				}}
				begin := time.Now()
				err := drive(c.k, g, false).Settle(t.Context(), "p")
				if got := strings.Join(g.took(), " "); err != nil || got != c.calls || time.Since(begin) != c.took {
					t.Errorf("%v after %v, calls %q", err, time.Since(begin), got)
				}
			})
		})
	}
}

// SPDK before 24.01 listens in the optimized state first, so nobody is admitted
// before that was changed.
func TestTheOrderOfOpening(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		k           Kind
		state, want string
	}{
		"vda_tgt":          {kind(26, 5, swaps), "inaccessible", "admit listen:inaccessible"},
		"SPDK 24.01":       {kind(24, 1), "inaccessible", "admit listen:inaccessible"},
		"SPDK 23.09":       {kind(23, 9), "inaccessible", "listen: set admit"},
		"SPDK 23.09, a vd": {kind(23, 9), "", "admit listen:"},
	} {
		var steps []string
		step := func(s string) error { steps = append(steps, s); return nil }
		err := drive(c.k, &target{}, false).Open(t.Context(), Opening{
			State:  c.state,
			Admit:  func(context.Context) error { return step("admit") },
			Listen: func(_ context.Context, state string) error { return step("listen:" + state) },
			SetANA: func(context.Context) error { return step("set") },
		})
		if got := strings.Join(steps, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

type disk struct{ closed bool }

func (d *disk) Close() error { d.closed = true; return nil }

func TestADiskIsGuardedForSPDK(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k      Kind
		guards bool
	}{{kind(26, 5), true}, {kind(26, 5, swaps), false}} {
		have, later := &disk{}, &disk{}
		opened := false
		open := func() (io.Closer, error) { opened = true; return later, nil }
		d := drive(c.k, &target{}, false)
		guard, err := d.Guard(have, open)
		if err != nil || opened || have.closed == c.guards || (guard != nil) != c.guards {
			t.Errorf("guards %v: an open disk gives %v, %v; closed %v, opened again %v", c.guards, guard, err, have.closed, opened)
		}
		guard, err = d.Guard(nil, open)
		if err != nil || opened != c.guards || later.closed || (guard != nil) != c.guards {
			t.Errorf("guards %v: a disk in use gives %v, %v; opened %v", c.guards, guard, err, opened)
		}
	}
}

func TestErrorsOfADisk(t *testing.T) {
	t.Parallel()
	ours := map[string]uint64{"medium": 3, "no_space": 2, "failed": 5}
	theirs := map[string]uint64{"failed": 1, "aio_error": 2, "nvme_error": 3, "scsi_error": 4, "no_memory": 9}
	if bad, full := drive(kind(26, 5, swaps), &target{}, false).Errors(ours); bad != 3 || full != 2 {
		t.Errorf("vda_tgt: %d, %d", bad, full)
	}
	if bad, full := drive(kind(26, 5), &target{}, false).Errors(theirs); bad != 10 || full != 0 {
		t.Errorf("SPDK: %d, %d", bad, full)
	}
}

func TestSingleAssociation(t *testing.T) {
	t.Parallel()
	const method = "vda_nvmf_set_single_association"
	for name, c := range map[string]struct {
		k    Kind
		want string
	}{
		"vda_tgt":          {kind(26, 5, swaps, method), method},
		"an older vda_tgt": {kind(26, 5, swaps), ""},
		"SPDK":             {kind(26, 5), ""},
	} {
		g := &target{}
		if err := drive(c.k, g, false).SingleAssociation(t.Context(), "n"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(g.took(), " "); got != c.want {
			t.Errorf("%s: calls %q, want %q", name, got, c.want)
		}
	}
}

// TestReserves: only a vda_tgt that has all of it says that reservations hold, and is asked for them.
func TestReserves(t *testing.T) {
	t.Parallel()
	const set, forget = "vda_nvmf_set_reservations", "vda_nvmf_forget_reservation"
	for name, c := range map[string]struct {
		k    Kind
		want string
	}{
		"vda_tgt":          {kind(26, 5, swaps, set, forget), set + " " + forget},
		"an older vda_tgt": {kind(26, 5, swaps), ""},
		"SPDK":             {kind(26, 5), ""},
	} {
		g := &target{}
		d := drive(c.k, g, false)
		if d.Reserves() != (c.want != "") {
			t.Errorf("%s: reservations hold: %v", name, d.Reserves())
		}
		err := errors.Join(d.SetReservations(t.Context(), "n", spdk.NvmfReservations{ID: "i", Offered: true}),
			d.ForgetReservation(t.Context(), "b", "i"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(g.took(), " "); got != c.want {
			t.Errorf("%s: calls %q, want %q", name, got, c.want)
		}
	}
}

func TestRetired(t *testing.T) {
	t.Parallel()
	const retire = "vda_nvmf_retire_subsystem"
	ours, older, theirs := kind(26, 5, swaps, retire), kind(26, 5, swaps), kind(26, 5)
	for name, c := range map[string]struct {
		k      Kind
		served bool
		steps  string
		want   string
	}{
		"once":              {ours, false, "retire retire", retire},
		"while there":       {ours, false, "remove remove", retire + " " + retire},
		"expected":          {ours, false, "expect", ""},
		"after another":     {ours, true, "expect expect", retire},
		"back":              {ours, false, "retire expect", retire + " " + retire},
		"made meanwhile":    {ours, true, "created expect", ""},
		"an older vda_tgt":  {older, true, "expect remove retire", "nvmf_delete_subsystem"},
		"SPDK":              {theirs, true, "expect remove", "nvmf_delete_subsystem"},
		"SPDK, and missing": {theirs, true, "retire", ""},
	} {
		g := &target{}
		d := drive(c.k, g, c.served)
		for step := range strings.FieldsSeq(c.steps) {
			var err error
			switch step {
			case "retire", "remove":
				err = d.Retire(t.Context(), "n", step == "remove")
			case "expect":
				err = d.Expect(t.Context(), "n")
			case "created":
				d.Created("n")
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, step, err)
			}
		}
		if got := strings.Join(g.took(), " "); got != c.want {
			t.Errorf("%s: calls %q, want %q", name, got, c.want)
		}
	}
}
