package apiv1

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
)

// TestHostsOfSpec: hosts and keys go to agents and come back from them, for an adoption, and an
// agent that does not know of keys lets in no host that has some.
func TestHostsOfSpec(t *testing.T) {
	keyed := []vda.HostKeys{
		{NQN: "a", New: vda.KeyPair{ID: "2", Host: "planted-1", Ctrlr: "planted-2"}, Old: &vda.KeyPair{ID: "1", Host: "planted-3"}},
		{NQN: "c", New: vda.KeyPair{ID: "3", Host: "planted-4"}}}
	for _, c := range []struct {
		keys []vda.HostKeys
		old  string // whom such an agent lets in
		back []string
	}{
		{nil, "a b c", []string{"a", "b", "c"}},
		{keyed[:1], "b c", []string{"b", "c", "a"}},
		{keyed, "b", []string{"b", "a", "c"}},
		{append(keyed[:2:2], vda.HostKeys{NQN: "b", New: vda.KeyPair{ID: "4", Host: "planted-5"}}), "", []string{"a", "b", "c"}},
	} {
		row := vda.Exp{InitiatorNQN: "a", MoreHosts: []string{"b", "c"}, Keys: c.keys}
		if shown := fmt.Sprintf("%v %+v %#v", row, row, row.Keys); strings.Contains(shown, "planted") {
			t.Errorf("a key is shown: %s", shown)
		}
		var spec, old ExpSpec
		spec.SetHosts(&row)
		wire, err := proto.Marshal(&spec)
		if err != nil {
			t.Fatal(err)
		}
		var known []byte
		for rest := wire; len(rest) > 0; {
			n, _, size := protowire.ConsumeField(rest)
			if n != 16 {
				known = append(known, rest[:size]...)
			}
			rest = rest[size:]
		}
		if err := proto.Unmarshal(known, &old); err != nil || strings.Join(old.Hosts(), " ") != c.old {
			t.Errorf("an agent that does not know of keys lets in %q, want %q: %v", old.Hosts(), c.old, err)
		}
		var back vda.Exp
		spec.HostsOf(&back)
		if !reflect.DeepEqual(back.Hosts(), c.back) || len(back.Keys) != len(c.keys) {
			t.Errorf("%d keys and the hosts %q come back, want %q", len(back.Keys), back.Hosts(), c.back)
		}
		for _, k := range c.keys {
			if got := back.KeysOf(k.NQN); !reflect.DeepEqual(got, &k) {
				t.Errorf("the keys of %s come back as others", k.NQN)
			}
		}
	}
}
