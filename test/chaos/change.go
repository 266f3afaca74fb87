//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	vda "github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/test/verdict"
)

// Beside the faults an administrator changes the array while it serves: its redundancy
// goes up and down, vds move, and dns are drained. All of it stands in rows, so whatever
// dies in the middle, what was begun comes to its end.

// withChanges has faults come with a change of the array under way, every second time.
func (f *chooser) withChanges() {
	f.spares, f.changes = nil, true // legs move: each dn may have one
}

// beside begins a change of the array, and has the fault come in the middle of it.
func (f *chooser) beside(x *fault) *fault {
	change := []func() *fault{f.convert, f.convert, f.move, f.drainDN}[f.r.IntN(4)]()
	both := both(change, x, between(f.r, 0, time.Second))
	both.kind = change.kind + ", and something else"
	return both
}

// convert asks for another redundancy.
func (f *chooser) convert() *fault {
	to := vda.Redundancy(1 + f.r.IntN(min(len(f.machines("dn")), int(vda.Mirror3))))
	return &fault{kind: "another redundancy", what: "da modify --redundancy " + to.String(), hold: time.Second, mayFail: true,
		inject: func() error { return f.c.once("da modify --da-name da0 --redundancy " + to.String()) }}
}

// move asks for a vd to be on another dn, and calls that off now and then.
func (f *chooser) move() *fault {
	nth, to, cancels := f.r.IntN(16), f.any("dn"), f.r.IntN(4) == 0
	id := ""
	x := &fault{kind: "a vd moves", what: fmt.Sprintf("vd move of vd %d to %s, called off %t", nth, to.name, cancels),
		hold: time.Second, mayFail: true,
		inject: func() error {
			legs, err := f.c.legs(context.Background())
			if err != nil || len(legs) == 0 {
				return errors.Join(err, errors.New("no vd to move"))
			}
			id = legs[nth%len(legs)].vd
			return f.c.once("vd move --vd-id " + id + " --to-dn " + to.agent())
		}}
	if cancels {
		x.heal = func() error {
			if id != "" {
				_ = f.c.once("vd move --cancel --vd-id " + id) // it may have moved
			}
			return nil
		}
	}
	return x
}

// drainDN takes a dn out of service, and back.
func (f *chooser) drainDN() *fault {
	m := f.any("dn")
	return &fault{kind: "drain a dn", what: "dn drain of " + m.name, hold: f.span(), mayFail: true,
		inject: func() error { return f.c.once("dn drain --dn-name " + m.agent()) },
		heal:   func() error { return f.c.insist("dn undrain --dn-name "+m.agent(), 40*time.Second) }}
}

// once runs vda_cli.
func (c *cluster) once(args string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	_, err := c.cli(ctx, args)
	return err
}

// insist runs vda_cli until it succeeds: the portal or the database may be away.
func (c *cluster) insist(args string, limit time.Duration) (err error) {
	for end := time.Now().Add(limit); ; time.Sleep(300 * time.Millisecond) {
		if err = c.once(args); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// slowCopies has mirrors of this life of all data planes copy so much per second.
func (c *cluster) slowCopies(ctx context.Context, mb int) error {
	var errs []error
	for _, m := range c.order {
		if m.kind == "cn" {
			_, err := c.output(ctx, m, fmt.Sprintf("/root/vda_rpc -s /tmp/sock vda_mirror_set_options --copy_mb_per_sec %d", mb))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unchanging is what of a change has not come to its end, "" when nothing: each column
// has as many legs as the array's redundancy says, all members, on distinct dns, and no vd
// is being deleted.
func (c *cluster) unchanging(ctx context.Context) string {
	rows, err := c.sql(ctx, "select d.redundancy, v.grp_idx, v.idx, count(*), count(distinct v.dn_id), "+
		"sum(case when v.role = 0 and not v.leaving and not v.deleted then 1 else 0 end) "+
		"from vda.vda_vd v join vda.vda_da d on d.id = v.da_id where d.name = 'da0' "+
		"group by d.redundancy, v.grp_idx, v.idx order by v.grp_idx, v.idx")
	if err != nil {
		return err.Error()
	}
	n := 0
	for line := range strings.Lines(string(rows)) {
		n++
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 6 {
			return fmt.Sprintf("columns in SQL: %q", line)
		}
		redundancy, err := strconv.Atoi(f[0])
		want := strconv.Itoa(max(redundancy, 1))
		if err != nil || f[3] != want || f[4] != want || f[5] != want {
			return fmt.Sprintf("column %s of group %s has %s vds on %s dns, %s of them members that stay; want %s", f[2], f[1], f[3], f[4], f[5],
				want)
		}
	}
	if n == 0 {
		return "the array has no vds"
	}
	return ""
}

// quiet is full for an array that is being changed: it waits until no change is under way.
func (c *cluster) quiet(limit time.Duration) (why string, ok bool) {
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		if why = c.unchanging(context.Background()); why == "" || time.Now().After(end) {
			return why, why == ""
		}
	}
}

// changed waits until all that was begun has come to its end, and no vd is on the dn that
// was drained; nil: none was.
func (c *cluster) changed(t *verdict.T, drained *machine, limit time.Duration) {
	t.Helper()
	begin := time.Now()
	why := ""
	for calm := false; time.Since(begin) < limit; time.Sleep(200 * time.Millisecond) {
		why = c.unchanging(t.Context())
		if why == "" && drained != nil {
			legs, err := c.legs(t.Context())
			if err != nil || slices.ContainsFunc(legs, func(l leg) bool { return l.at == drained }) {
				why = fmt.Sprintf("%s has vds still: %+v %v", drained.name, legs, err)
			}
		}
		if why == "" {
			t.Logf("all that was begun is done %.1f s later", time.Since(begin).Seconds())
			return
		}
		if !calm && time.Since(begin) > 15*time.Second { // legs that were lost often wait
			calm = true
			c.calmMonitors()
		}
	}
	out, _ := c.cli(context.Background(), "da get --da-name da0")
	t.Fatalf("%v after it was begun: %s: %s", limit, why, out)
}

// copying waits until a leg is copied to; not for ever, for all may be over already.
func (c *cluster) copying(t *verdict.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		legs, err := c.legs(t.Context())
		if err == nil && slices.ContainsFunc(legs, func(l leg) bool { return l.role == strconv.Itoa(int(vda.Target)) }) {
			return
		}
	}
	t.Logf("no leg was seen that is copied to")
}
