package dataplane

import (
	"slices"
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestPlan(t *testing.T) {
	nodes := []string{"dn0", "dn1", "cn0", "cn1"}
	for word, want := range map[string]string{"": "", "vda": "", "spdk": "dn0 dn1 cn0 cn1", "mixed": "dn0 cn0", "mixed:cn1,dn0": "dn0 cn1"} {
		p, err := read(env("DATA_PLANE", word, "SPDK_TGT", "/bin/sh"), 2)
		if err != nil {
			t.Errorf("%q: %v", word, err)
			continue
		}
		var got []string
		for _, n := range nodes {
			if p.Of(n) == SPDK {
				got = append(got, n)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: on SPDK are %v, want %s", word, got, want)
		}
		if p.UsesSPDK() != (want != "") {
			t.Errorf("%q: UsesSPDK is %v", word, p.UsesSPDK())
		}
		p = p.OnDisks()
		for _, n := range nodes {
			if disk := strings.HasPrefix(n, "dn"); (p.Of(n) == SPDK) != (disk && slices.Contains(got, n)) {
				t.Errorf("%q on disk nodes: %s is on %v", word, n, p.Of(n))
			}
		}
		if err := p.Check([]string{"dn0", "dn1"}); err != nil {
			t.Errorf("%q on disk nodes: %v", word, err)
		}
		if line := p.Describe(nodes); strings.Contains(line, "spdk_tgt") != (want != "") || strings.Contains(line, "\n") {
			t.Errorf("%q: described as %q", word, line)
		}
	}
}

func TestBadPlanIsOneLineThatNamesTheVariable(t *testing.T) {
	for _, c := range []struct{ plane, tgt, want string }{
		{"SPDK", "/bin/sh", `DATA_PLANE="SPDK"`}, {"mixed:", "/bin/sh", `"mixed:"`}, {"spdk:dn0", "/bin/sh", `"spdk:dn0"`},
		{"spdk", "", "needs SPDK_TGT="}, {"mixed", "", "needs SPDK_TGT="}, {"vda", "/no/such/program", `SPDK_TGT="/no/such/program"`},
	} {
		_, err := read(env("DATA_PLANE", c.plane, "SPDK_TGT", c.tgt), 2)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("DATA_PLANE=%q SPDK_TGT=%q: %v, want one line with %s", c.plane, c.tgt, err, c.want)
		}
	}
	p, err := read(env("DATA_PLANE", "mixed:dn7", "SPDK_TGT", "/bin/sh"), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check([]string{"dn0", "cn0"}); err == nil || !strings.Contains(err.Error(), `"dn7"`) {
		t.Errorf("a node that there is not: %v", err)
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		plane, tgt string
		want       []Kind
	}{{"", "", []Kind{VDA}}, {"", "/bin/sh", []Kind{VDA, SPDK}}, {"mixed", "/bin/sh", []Kind{VDA, SPDK}}, {"spdk", "/bin/sh",
		[]Kind{SPDK}}, {"vda", "/bin/sh", []Kind{VDA}}} {
		p, err := read(env("DATA_PLANE", c.plane, "SPDK_TGT", c.tgt), 2)
		if err != nil || !slices.Equal(p.Kinds(), c.want) {
			t.Errorf("DATA_PLANE=%q SPDK_TGT=%q: %v %v, want %v", c.plane, c.tgt, p.Kinds(), err, c.want)
		}
	}
}

func TestArgv(t *testing.T) {
	p, err := read(env("DATA_PLANE", "mixed", "SPDK_TGT", "/bin/sh", "SPDK_ARGS", "-s 2048"), 2)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := read(env("SPDK_TGT", "/bin/sh"), 2)
	if got := strings.Join(plain.KindArgv(SPDK, "/bin/vda_tgt", "/s"), " "); err != nil || !strings.HasSuffix(got, " --no-huge -s 2048") {
		t.Errorf("the one process of a test: %v %s", err, got)
	}
	if got := p.Argv("dn1", "/bin/vda_tgt", "/s"); got[0] != "/bin/vda_tgt" || !slices.Contains(got, "/s") {
		t.Errorf("vda_tgt: %v", got)
	}
	for node, mask := range map[string]string{"cn0": "0x1", "dn0": "0x2"} {
		got := strings.Join(p.Argv(node, "/bin/vda_tgt", "/s"), " ")
		if !strings.HasPrefix(got, "/bin/sh -r /s --wait-for-rpc -m "+mask+" ") || !strings.HasSuffix(got, " -s 2048") ||
			strings.Contains(got, "--no-huge") {
			t.Errorf("%s: %s, want core mask %s and SPDK_ARGS", node, got, mask)
		}
	}
}
