package vda

import (
	"fmt"
	"strings"
	"testing"
)

// TestChangeHosts: hosts come and go in any order, one is left at least, and what is
// refused changes nothing.
func TestChangeHosts(t *testing.T) {
	nqn := func(names ...string) (all []string) {
		for _, n := range names {
			all = append(all, "nqn.2016-06.io.spdk:"+n)
		}
		return all
	}
	many := make([]string, MaxExpHosts)
	for i := range many {
		many[i] = fmt.Sprint("m", i)
	}
	for name, tt := range map[string]struct {
		add, remove []string
		want        string // hosts, or words of the error
		kind        Kind
	}{
		"another":                {nqn("b", "c"), nil, "a b c", 0},
		"one that is there":      {nqn("a"), nil, "a", 0},
		"twice":                  {nqn("b", "b"), nil, "a b", 0},
		"the first goes":         {nqn("b"), nqn("a"), "b", 0},
		"the only one goes":      {nil, nqn("a"), "left without a host", FailedPrecondition},
		"one that is not there":  {nil, nqn("x"), "spdk:x is not a host of exp e, whose hosts are nqn.2016-06.io.spdk:a", NotFound},
		"both added and removed": {nqn("b"), nqn("b"), "give it in one of them", InvalidArgument},
		"no NQN":                 {[]string{"b"}, nil, "add_initiator_nqn", InvalidArgument},
		"not an NQN is removed":  {nil, []string{"b"}, "remove_initiator_nqn", InvalidArgument},
		"a node of VDA's own":    {nqn("vda-px-1"), nil, "add_initiator_nqn", InvalidArgument},
		"too many":               {nqn(many...), nil, "33 hosts; 32 are the most", InvalidArgument},
	} {
		e := &Exp{Name: "e", InitiatorNQN: nqn("a")[0]}
		err := e.ChangeHosts(tt.add, tt.remove)
		got := strings.ReplaceAll(strings.Join(e.Hosts(), " "), "nqn.2016-06.io.spdk:", "")
		switch {
		case tt.kind == 0 && (err != nil || got != tt.want):
			t.Errorf("%s: %s, %v; want %s", name, got, err, tt.want)
		case tt.kind != 0 && (KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) || got != "a"):
			t.Errorf("%s: %s, %v; want %q", name, got, err, tt.want)
		}
	}
}
