package cli

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/store"
)

// TestPoint15Describe: describe shows what an array is made of and what is on a node, as a tree;
// -o json the reply of get.
func TestPoint15Describe(t *testing.T) {
	_, u := well(t)
	u.ok("da create --da-name m --cntlr-cnt 2 --da-size 8M")
	u.ok("exp create --da-name da0 --exp-name e0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	for line, want := range map[string]string{
		"da describe da0": `(?s)^da da0  up  16 MiB.*\n├─ grp 0  \d+ MiB\n│  └─ vd 0  up  dn[01]:9720/pd\d  [0-9.]+ MiB.*\n` +
			`├─ cntlr 0  (primary|secondary)  cn[01]:9820  up\n├─ cntlr 1  (primary|secondary)  cn[01]:9820  up\n└─ exp e0\n$`,
		"da describe m -o table":  `└─ cntlr 1`,
		"dn describe dn0:9720":    `(?s)^dn dn0:9720  up  .*\n└─ pd pd\d  up  malloc  [0-9.]+ MiB, [0-9.]+ MiB free, \d vds\n`,
		"da describe da0 -o json": `^\{\n  "reply_info": `,
		"dn describe --dn-name dn1:9720 -o jsonpath={.dn_msg.dn_name}": `^dn1:9720\n$`,
	} {
		if out, _ := u.ok(line); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s shows\n%s", line, out)
		}
	}
	if _, errs, exit := u.run("da describe nothing"); exit != exitRefused || !strings.Contains(errs, `there is no da "nothing"`) {
		t.Errorf("exit %d, %s", exit, errs)
	}
}

// TestPoint15DescribeNodes: dn describe shows the vds on each pd, with their arrays; cn describe the
// controllers, and the exporters that hosts reach through them.
func TestPoint15DescribeNodes(t *testing.T) {
	c, u := well(t)
	c.CanMirror()
	u.ok("da create m --cntlr-cnt 2 --da-size 8M --redundancy mirror:2")
	u.ok("exp create da0/e0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	u.ok("exp modify da0/e0 --add-initiator-nqn nqn.2016-06.io.spdk:host1")
	u.ok("exp create m/e1 --initiator-nqn nqn.2016-06.io.spdk:host2")
	lines := func(line string) []string {
		t.Helper()
		out, _ := u.ok(line)
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	shown := func(line string, all []string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !slices.ContainsFunc(all, regexp.MustCompile(w).MatchString) {
				t.Errorf("%s has no line %s:\n%s", line, w, strings.Join(all, "\n"))
			}
		}
	}
	// All vds of both arrays are on one dn or the other, and nothing else is; each under its id.
	var both []string
	for _, dn := range []string{"dn0:9720", "dn1:9720"} {
		all := lines("dn describe " + dn)
		shown(dn, all, `^   [├└]─ vd [0-9a-f]{32}  of da m  grp 0 vd 0  up  [0-9.]+ MiB  member$`)
		both = append(both, all...)
	}
	shown("dn describe", both, `^   [├└]─ vd [0-9a-f]{32}  of da da0  grp 0 vd 0  up  [0-9.]+ MiB$`)
	if n := len(regexp.MustCompile(`(?m)^   [├└]─ vd `).FindAllString(strings.Join(both, "\n"), -1)); n != 3 {
		t.Errorf("%d vds are on the dns, not 3:\n%s", n, strings.Join(both, "\n"))
	}
	primary, _ := u.ok("da get da0 -o jsonpath={.da_msg.primary_cn}")
	primary = strings.TrimSpace(primary)
	other := map[string]string{"cn0:9820": "cn1:9820", "cn1:9820": "cn0:9820"}[primary]
	shown(primary, lines("cn describe "+primary), "^cn "+primary+"  up  ", `^├─ cntlr \d  of da da0  primary  up$`,
		`^│  └─ exp e0  optimized  for nqn.2016-06.io.spdk:host0, nqn.2016-06.io.spdk:host1$`, `^└─ cntlr \d  of da m  (primary|secondary of cn\d:9820)  up$`)
	shown(other, lines("cn describe "+other+" -o table"), `^├─ cntlr \d  of da da0  secondary of `+primary+`  up$`,
		`^│  └─ exp e0  non-optimized, through `+primary+`  for nqn.2016-06.io.spdk:host0, `, `^   └─ exp e1  .* for nqn.2016-06.io.spdk:host2$`)
	// The rest of the program's replies stay as they were.
	for line, has := range map[string]bool{"dn get dn0:9720": false, "dn describe dn0:9720 -o json": true} {
		if out, _ := u.ok(line); strings.Contains(out, "held_vd_msg_list") != has {
			t.Errorf("%s:\n%s", line, out)
		}
	}
	for line, has := range map[string]bool{"cn get cn0:9820": false, "cn describe cn0:9820 -o json": true} {
		if out, _ := u.ok(line); strings.Contains(out, "held_cntlr_msg_list") != has {
			t.Errorf("%s:\n%s", line, out)
		}
	}

	// What is wrong is at the end of the line.
	c.Change(func(tx store.Tx) error {
		n, err := tx.NodeByName(vda.ControllerNode, other)
		if err != nil {
			return err
		}
		return tx.SetHealth(store.ObjCN, n.ID, vda.Health{Error: true, Msg: "it is on fire"})
	})
	shown(other, lines("cn describe "+other), `^cn `+other+`  error  .*! it is on fire`,
		`^├─ cntlr \d  of da da0  secondary of `+primary+`  error  ! cn `+other+`: it is on fire`, `^│  └─ exp e0  down  for .*  ! cn `+other+`: it is on fire`)
	c.Change(func(tx store.Tx) error {
		das, _, err := tx.ListDA(store.DAFilter{}, store.Page{})
		if err != nil {
			return err
		}
		for i := range das {
			vds, err := tx.VDsOfDA(das[i].ID)
			if err != nil {
				return err
			}
			for j := range vds {
				if das[i].Name == "da0" {
					err = tx.SetHealth(store.ObjVD, vds[j].ID, vda.Health{Error: true, Msg: "it is wet"})
				} else if j == 0 {
					vds[j].Role = vda.Stale
					err = errors.Join(tx.SetLegs([]string{vds[j].ID}, store.LegStateOf(&vds[j])), tx.SetVDLack(vds[j].ID, 3<<20, 0))
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	both = append(lines("dn describe dn0:9720"), lines("dn describe dn1:9720")...)
	shown("dn describe", both, `of da da0  grp 0 vd 0  error  [0-9.]+ MiB  ! it is wet`, `of da m  grp 0 vd 0  up  [0-9.]+ MiB  stale  lacks 3 MiB$`,
		`of da m  grp 0 vd 0  up  [0-9.]+ MiB  member$`)
	if _, errs, exit := u.run("cn describe nothing"); exit != exitRefused || !strings.Contains(errs, `there is no cn "nothing"`) {
		t.Errorf("exit %d, %s", exit, errs)
	}
}

// TestPoint15Interactive: each line is a command with flags of its own, after those that were given to
// all; the first that fails ends it, with its exit status.
func TestPoint15Interactive(t *testing.T) {
	_, u := well(t)
	run := func(typed string, args ...string) (string, string, int) {
		t.Helper()
		var out, errs bytes.Buffer
		exit := Program().Run(context.Background(), program.Process{Args: append([]string{"interactive"}, args...),
			Stdin:  strings.NewReader(typed),
			Stdout: &out, Stderr: &errs, Getenv: func(string) (string, bool) { return "", false }})
		return out.String(), errs.String(), exit
	}
	at := []string{"--addr-port", u.addr}
	out, errs, exit := run("# all arrays\n\nda list -o name\n  dn list -o name  # and nodes\nda modify da0 --new-description 'a  \"b\"'\n"+
		"da get da0 -o 'jsonpath={.da_msg.description}'\nexit\nda list\n", at...)
	if want := "da0\ndn0:9720\ndn1:9720\n"; exit != 0 || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\na  \"b\"\n") ||
		strings.Contains(out, "vda>") {
		t.Errorf("exit %d, %s\n%s", exit, errs, out)
	}
	if out, errs, exit = run("da list\ndn list -o json\n", append(at, "-o", "name")...); exit != 0 || !strings.HasPrefix(out, "da0\n{") {
		t.Errorf("with a common format: exit %d, %s\n%s", exit, errs, out)
	}
	for typed, want := range map[string]struct {
		exit int
		says string
	}{
		"da list -o name\nda get nothing\ndn list":       {exitRefused, "line 2 has failed"},
		"da list -o name\nda gett da0\ndn list":          {exitUsage, `did you mean "get"`},
		"da list -o name\nda get 'da0\ndn list":          {exitUsage, "line 2: a quote ' is not closed"},
		"da list -o name\nda get da0 \\\ndn list":        {exitUsage, "line 2: it ends with a backslash"},
		"da list -o name\ninteractive\ndn list":          {exitUsage, "line 2: interactive takes no lines"},
		"da list -o name\n--addr-port 127.0.0.1:1 da ls": {exitUnreachable, "line 2 has failed"},
	} {
		out, errs, exit := run(typed, at...)
		if exit != want.exit || !strings.Contains(errs, want.says) || strings.Contains(out, "dn0:9720") || !strings.HasPrefix(out, "da0\n") {
			t.Errorf("%q: exit %d, %s\n%s", typed, exit, errs, out)
		}
	}
	for line, want := range map[string][]string{
		`a b`: {"a", "b"}, ` a  "b c" `: {"a", "b c"}, `a\ b 'c\d' "e\"f" g''`: {"a b", `c\d`, `e"f`, "g"}, `'' ""`: {"", ""}, `a#b #c`: {"a#b"},
		"": nil, "# x": nil,
	} {
		if got, err := splitLine(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %q, %v; want %q", line, got, err, want)
		}
	}
}

// TestPoint15OutputVersion: a script says which JSON it knows.
func TestPoint15OutputVersion(t *testing.T) {
	_, u := well(t)
	plain, _ := u.ok("da get da0")
	if one, _ := u.ok("da get da0 --output-version 1"); ids.ReplaceAllString(one, "") != ids.ReplaceAllString(plain, "") {
		t.Errorf("%s\nis not\n%s", one, plain)
	}
	if _, errs, exit := u.run("da get da0 --output-version 2"); exit != exitUsage ||
		!strings.Contains(errs, "--output-version 2: there is 1 alone") {
		t.Errorf("exit %d, %s", exit, errs)
	}
}
