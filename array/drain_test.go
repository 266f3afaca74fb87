package array_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// TestPlaceOfAMove: where a vd of the array m goes, or why it does not.
func TestPlaceOfAMove(t *testing.T) {
	canMirror := func(tx store.Tx) error {
		return errors.Join(tx.SetCNMirrors(cn(0), true), tx.SetCNMirrors(cn(1), true))
	}
	setCN := func(n int, change func(*vda.Node)) func(store.Tx) error {
		return func(tx store.Tx) error {
			row, err := tx.Node(vda.ControllerNode, cn(n))
			if err != nil {
				return err
			}
			change(row)
			return tx.UpdateNode(vda.ControllerNode, row)
		}
	}
	setDA := func(change func(*vda.DA)) func(store.Tx) error {
		return func(tx store.Tx) error {
			da, err := tx.DA("m")
			if err != nil {
				return err
			}
			change(da)
			return tx.UpdateDA(da)
		}
	}
	setPD := func(n int, change func(*vda.PD)) func(store.Tx) error {
		return func(tx store.Tx) error {
			row, err := tx.PD(pd(n))
			if err != nil {
				return err
			}
			change(row)
			return tx.UpdatePD(row)
		}
	}
	moving := func(id string, at int) func(store.Tx) error {
		return func(tx store.Tx) error {
			n := newLeg(id, at, 2)
			n.Moved = true
			_, err := array.AddLeg(tx, n)
			return err
		}
	}
	for _, tt := range []struct {
		name   string
		vd     string
		to     array.MoveTo
		before []func(store.Tx) error
		kind   vda.Kind
		want   string // the pd, or in the error; words with a space between them
	}{
		{"placement chooses", "d", array.MoveTo{}, nil, 0, "pd3"},
		{"to a pd", "d", array.MoveTo{PDID: pd(0)}, nil, 0, "pd0"},
		{"to a dn", "d", array.MoveTo{DNID: dn(3)}, nil, 0, "pd3"},
		{"where it is", "d", array.MoveTo{PDID: pd(2)}, nil, vda.FailedPrecondition, "vd d of da m|is on that pd"},
		{"to its own dn", "d", array.MoveTo{DNID: dn(2)}, nil, vda.FailedPrecondition, "is on dn|moves to another dn only"},
		{"to the other leg's dn", "d", array.MoveTo{PDID: pd(1)}, nil, vda.FailedPrecondition, "has vd c of the same column"},
		{"to a pd that is offline", "d", array.MoveTo{PDID: pd(3)}, []func(store.Tx) error{setPD(3, func(p *vda.PD) { p.Online = false })},
			vda.FailedPrecondition, "takes no vds: offline"},
		{"to a pd without room", "d", array.MoveTo{PDID: pd(3)}, []func(store.Tx) error{
			func(tx store.Tx) error {
				p, err := tx.PD(pd(3))
				return errors.Join(err, tx.TakePD(pd(3), p.FreeClusters))
			}},
			vda.ResourceExhausted, "needs 2097152 bytes|is 0"},
		{"nowhere", "d", array.MoveTo{}, []func(store.Tx) error{setPD(3, func(p *vda.PD) { p.Online = false }),
			setPD(0, func(p *vda.PD) { p.Online = false })}, vda.ResourceExhausted, "another dn than the 2|left out: |offline"},
		{"a controller on SPDK", "d", array.MoveTo{}, []func(store.Tx) error{
			func(tx store.Tx) error { return tx.SetCNMirrors(cn(1), false) },
			setCN(1, func(n *vda.Node) { n.DataPlaneVersion = "SPDK v26.05" })},
			vda.FailedPrecondition, "vd d of da m|cn1|SPDK v26.05, cannot mirror"},
		{"a controller nobody has heard of", "d", array.MoveTo{}, []func(store.Tx) error{
			func(tx store.Tx) error { return tx.SetCNMirrors(cn(1), false) },
			setCN(1, func(n *vda.Node) { n.DataPlaneVersion = "" })}, vda.FailedPrecondition, "vda_monitor has not heard"},
		{"never up", "d", array.MoveTo{}, []func(store.Tx) error{setDA(func(d *vda.DA) { d.Created = false })}, vda.FailedPrecondition,
			"never been up"},
		{"it is moving", "d", array.MoveTo{}, []func(store.Tx) error{moving("d", 3)}, vda.FailedPrecondition, "is leaving already"},
		{"it is to be part of the array", "x", array.MoveTo{}, []func(store.Tx) error{insertJoining}, vda.FailedPrecondition,
			"cannot move yet|and is not yet"},
		{"its peer is moving", "c", array.MoveTo{}, []func(store.Tx) error{moving("d", 3)}, vda.FailedPrecondition, "vd d|one of a column"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			c.update(insertMirrored)
			c.update(canMirror)
			for _, change := range tt.before {
				c.update(change)
			}
			var got array.NewLeg
			err := c.View(t.Context(), func(tx store.Reader) error {
				m, err := array.NewMover(tx)
				if err == nil {
					got, _, err = m.Place("m", tt.vd, tt.to)
				}
				return err
			})
			if vda.KindOf(err) != tt.kind || tt.kind == 0 && err != nil {
				t.Fatalf("%v, want kind %v", err, tt.kind)
			}
			if err == nil {
				if got.At.PDID != pd(int(tt.want[2]-'0')) || !got.Moved || got.InsteadOf != tt.vd {
					t.Errorf("it goes to %+v, want %s", got, tt.want)
				}
				return
			}
			for w := range strings.SplitSeq(tt.want, "|") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}
