package portal

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda"
)

// TestSpentByOthers: what clones were copied from may go by a monitor's hand between a deletion that
// finds it in its way and the look at what may go. The deletion is not refused then.
func TestSpentByOthers(t *testing.T) {
	inUse := func(what string) error { return inUse("da", "da0", "snaps", []string{what}) }
	busy := letGo("da0", []vda.Exp{{Deleted: true, SnapName: "vda-clone-1"}}, []string{"vda-clone-1"})
	for name, c := range map[string]struct {
		answers []error // of the deletion, one after the other
		went    bool
		want    error
	}{
		"gone meanwhile":                  {answers: []error{inUse("vda-clone-1"), nil}},
		"busy, in use, then gone":         {answers: []error{busy, busy, inUse("vda-clone-1"), nil}},
		"one and then another":            {answers: []error{inUse("vda-clone-1"), inUse("vda-clone-2"), nil}},
		"swept":                           {answers: []error{inUse("vda-clone-1"), inUse("vda-clone-1"), nil}, went: true},
		"the user's":                      {answers: []error{inUse("s0"), inUse("s0")}, want: inUse("s0")},
		"busy for longer than it settles": {want: busy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := c.answers
				deletion := func() error {
					if c.answers == nil {
						return busy
					}
					if len(answers) == 0 {
						t.Error("it is tried too often")
						return nil
					}
					err := answers[0]
					answers = answers[1:]
					return err
				}
				err := unlessSpent(t.Context(), time.Minute, deletion, func() (bool, error) { return c.went, nil })
				if text(err) != text(c.want) || len(answers) > 0 {
					t.Errorf("%v with %d answers left, want %v", err, len(answers), c.want)
				}
			})
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
