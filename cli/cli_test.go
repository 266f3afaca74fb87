package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
)

// user is somebody at a terminal.
type user struct {
	t    *testing.T
	addr string
}

// run types a command; words are split at spaces, a quoted word may hold some.
func (u *user) run(line string) (stdout, stderr string, exit int) {
	u.t.Helper()
	var words []string
	for _, w := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(line, -1) {
		words = append(words, strings.Trim(w, "'"))
	}
	var out, errOut bytes.Buffer
	env := func(name string) (string, bool) { return u.addr, name == portalEnv }
	exit = Program().Run(context.Background(), program.Process{Args: words, Stdout: &out, Stderr: &errOut, Getenv: env})
	return out.String(), errOut.String(), exit
}

// ok is run for a command that must succeed.
func (u *user) ok(line string) (stdout, stderr string) {
	u.t.Helper()
	stdout, stderr, exit := u.run(line)
	if exit != 0 {
		u.t.Fatalf("%s: exit %d\n%s%s", line, exit, stderr, stdout)
	}
	return stdout, stderr
}

var ids = regexp.MustCompile(`[0-9a-f]{32}`)

// TestTutorial types the tutorial's commands and compares exp get's reply with
// the tutorial's, byte for byte but the ids.
func TestTutorial(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	for _, addr := range []string{"192.168.0.14:9720", "192.168.0.15:9720", "192.168.0.16:9820", "192.168.0.17:9820"} {
		c.Agent(addr)
	}
	for _, line := range []string{
		`dn create --dn-name 192.168.0.14:9720 --dn-listener-conf ` +
			`'{"trtype":"tcp","traddr":"192.168.0.14","adrfam":"ipv4","trsvcid":"4420"}' --location 192.168.0.14:9720`,
		`pd create --dn-name 192.168.0.14:9720 --pd-name pd0 --pd-conf '{"type":"malloc","size":134217728}'`,
		`dn create --dn-name 192.168.0.15:9720 --dn-listener-conf ` +
			`'{"trtype":"tcp","traddr":"192.168.0.15","adrfam":"ipv4","trsvcid":"4420"}' --location 192.168.0.15:9720`,
		`pd create --dn-name 192.168.0.15:9720 --pd-name pd0 --pd-conf '{"type":"malloc","size":134217728}'`,
		`cn create --cn-name 192.168.0.16:9820 --cn-listener-conf ` +
			`'{"trtype":"tcp","traddr":"192.168.0.16","adrfam":"ipv4","trsvcid":"4430"}' --location 192.168.0.16:9820`,
		`cn create --cn-name 192.168.0.17:9820 --cn-listener-conf ` +
			`'{"trtype":"tcp","traddr":"192.168.0.17","adrfam":"ipv4","trsvcid":"4430"}' --location 192.168.0.16:9820`,
	} {
		if _, stderr := u.ok(line); stderr != "" {
			t.Errorf("%s: %s", line, stderr)
		}
	}
	_, stderr := u.ok(`da create --da-name da0 --cntlr-cnt 2 --da-size 33554432 --physical-size 33554432 ` +
		`--da-conf '{"stripe_count":2, "stripe_size_kb":64}'`)
	if !strings.HasPrefix(stderr, "vda_cli: warning: the 2 controllers lie in 1 location") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("warning of two cns in one location: %q", stderr)
	}
	u.ok(`exp create --da-name da0 --exp-name exp0 --initiator-nqn nqn.2016-06.io.spdk:host0`)
	stdout, _ := u.ok(`exp get --da-name da0 --exp-name exp0`)
	got := ids.ReplaceAllString(stdout, "ID")
	want := `{
  "reply_info": {
    "req_id": "ID",
    "reply_code": 0,
    "reply_msg": "success"
  },
  "exp_msg": {
    "exp_id": "ID",
    "exp_name": "exp0",
    "exp_nqn": "nqn.2016-06.io.spdk:vda-exp-da0-exp0",
    "da_name": "da0",
    "initiator_nqn": "nqn.2016-06.io.spdk:host0",
    "snap_name": "",
    "es_msg_list": [
      {
        "es_id": "ID",
        "cntlr_idx": 0,
        "cn_name": "192.168.0.16:9820",
        "cn_listener_conf": "{\"trtype\":\"tcp\",\"traddr\":\"192.168.0.16\",\"adrfam\":\"ipv4\",\"trsvcid\":\"4430\"}",
        "error": false,
        "error_msg": ""
      },
      {
        "es_id": "ID",
        "cntlr_idx": 1,
        "cn_name": "192.168.0.17:9820",
        "cn_listener_conf": "{\"trtype\":\"tcp\",\"traddr\":\"192.168.0.17\",\"adrfam\":\"ipv4\",\"trsvcid\":\"4430\"}",
        "error": false,
        "error_msg": ""
      }
    ]
  }
}
`
	if got != want {
		t.Errorf("exp get printed\n%s\nwant\n%s", got, want)
	}

	// Every verb that shows something shows it in three formats.
	for _, line := range []string{
		"dn list", "dn get --dn-name 192.168.0.14:9720", "pd list", "pd get --dn-name 192.168.0.14:9720 --pd-name pd0",
		"cn list --location 192.168.0.16:9820 --online true --error 0", "cn get --cn-name 192.168.0.16:9820",
		"da list --limit 5", "da get --da-name da0", "exp list --initiator-nqn nqn.2016-06.io.spdk:host0",
		"syncup dn --dn-name 192.168.0.14:9720", "syncup cn --cn-name 192.168.0.16:9820", "syncup da --da-name da0",
	} {
		stdout, _ := u.ok(line)
		if !json.Valid([]byte(stdout)) || strings.Contains(stdout, "null") {
			t.Errorf("%s: not JSON, or without its object:\n%s", line, stdout)
		}
		if y, _ := u.ok(line + " -o yaml"); !strings.HasPrefix(y, "reply_info:\n  req_id: ") {
			t.Errorf("%s as YAML:\n%s", line, y)
		}
		if tab, _ := u.ok(line + " -o table"); !strings.Contains(tab, "192.168.0.1") && !strings.Contains(tab, "da0") {
			t.Errorf("%s as a table:\n%s", line, tab)
		}
	}
	stdout, _ = u.ok("da get --da-name da0")
	if !strings.Contains(stdout, `"da_size": 33554432,`) || !strings.Contains(stdout, `"thin": false,`) {
		t.Errorf("64-bit numbers or zero values are not printed plainly:\n%s", stdout)
	}
	for _, line := range []string{"cn modify --cn-name 192.168.0.16:9820 --new-online 0",
		"exp modify --da-name da0 --exp-name exp0 --new-initiator-nqn nqn.2016-06.io.spdk:host9",
		"exp delete --da-name da0 --exp-name exp0", "da delete --da-name da0", "pd delete --dn-name 192.168.0.14:9720 --pd-name pd0",
		"dn delete --dn-name 192.168.0.14:9720", "cn delete --cn-name 192.168.0.17:9820"} {
		u.ok(line)
	}
}

// TestLimits sets limits, changes one and looks at all.
func TestLimits(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	c.Populate(c.Dial(u.addr), 1, 1)
	u.ok("da create --da-name da0 --da-size 8M --rw-ios-per-sec 20000 --r-mbytes-per-sec 200")
	u.ok("da modify --da-name da0 --rw-ios-per-sec 0 --w-mbytes-per-sec 100 --rebuild-mbps 30")
	out, _ := u.ok("da get --da-name da0")
	for _, want := range []string{`"rw_ios_per_sec": 0,`, `"rw_mbytes_per_sec": 0,`, `"r_mbytes_per_sec": 200,`, `"w_mbytes_per_sec": 100`,
		`"rebuild_mbps": 30,`} {
		if !strings.Contains(out, want) {
			t.Errorf("da get does not show %s:\n%s", want, out)
		}
	}
}

// TestRedundancy makes a mirrored array and looks at it.
func TestRedundancy(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	c.Populate(c.Dial(u.addr), 2, 1)
	c.CanMirror()
	if out, _ := u.ok(`__complete da create --redundancy ''`); !strings.HasPrefix(out, "none\nmirror:2\nmirror:3\n") {
		t.Errorf("values to choose from: %q", out)
	}
	u.ok("da create --da-name da0 --da-size 8M --redundancy mirror:2 --min-legs 2")
	out, _ := u.ok("da get --da-name da0")
	for _, want := range []string{`"redundancy": "mirror:2",`, `"redundancy_state": "full",`, `"min_legs": 2,`, `"role": "member",`} {
		if !strings.Contains(out, want) {
			t.Errorf("da get does not show %s:\n%s", want, out)
		}
	}
	if tab, _ := u.ok("da list -o table"); !strings.Contains(tab, "REDUNDANCY") || !strings.Contains(tab, "mirror:2") {
		t.Errorf("da list as a table:\n%s", tab)
	}
}

// TestFailures types what is wrong: reply_info on standard output, one line on
// standard error that names the flag or field, and the exit status.
func TestFailures(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal()}
	long := strings.Repeat("d", 300)
	for _, tt := range []struct {
		line string
		exit int
		code int
		says []string
	}{
		{"da get --da-name da0 --bogus", exitUsage, 2, []string{"--bogus"}},
		{"--bogus", exitUsage, 2, []string{"--bogus"}},
		{"da --bogus=3 --timeout 3s", exitUsage, 2, []string{"--bogus"}},
		{"da -q", exitUsage, 2, []string{"-q"}},
		{"da get --da-name a\xffb", exitUsage, 2, []string{"--da-name", "not valid UTF-8"}},
		{"dn list --limit 99999999999", exitUsage, 2, []string{"--limit", "at most 4294967295"}},
		{"da create --da-name x --da-size 99999999999999999999", exitUsage, 2, []string{"--da-size", "more than 2^64"}},
		{`da create --da-name x --da-size 1M --da-conf '{"stripe_count":99999999999999999999}'`, exitRefused, 2,
			[]string{"stripe_count", "more than 2^64"}},
		{`da create --da-name x --da-size 1M --da-conf '{"stripe_count":99999999999}'`, exitRefused, 2,
			[]string{"stripe_count", "99999999999"}},
		{"da create --da-name x --da-size 1M --redundancy raid1", exitRefused, 2, []string{"redundancy", "raid1", "mirror:2"}},
		{"da create --da-name x --da-size 1M --min-legs 0", exitUsage, 2, []string{"--min-legs", "1 or more"}},
		{"da create --da-name x --da-size 1M --rw-ios-per-sec 1k", exitUsage, 2, []string{"--rw-ios-per-sec", "1k", "a whole number"}},
		{"da modify --da-name x --w-mbytes-per-sec -1", exitUsage, 2, []string{"--w-mbytes-per-sec", "-1", "a whole number"}},
		{"da create --da-name x --da-size 1M --rw-ios-per-sec 1500", exitRefused, 2, []string{"rw_ios_per_sec is 1500", "1000 or 2000"}},
		{"da get", exitUsage, 2, []string{"da-name"}},
		{"da fetch --da-name x", exitUsage, 2, []string{`has no command "fetch"`}},
		{"da lst", exitUsage, 2, []string{`did you mean "list"?`}},
		{"da gett --da-name x", exitUsage, 2, []string{`did you mean "get"?`}},
		{"da get --da-nam x", exitUsage, 2, []string{"unknown flag: --da-nam; did you mean --da-name?"}},
		{"disk list", exitUsage, 2, []string{"disk"}},
		{"da get --da-name x y", exitUsage, 2, []string{`"y"`}},
		{"da create --da-name x --da-size -5", exitUsage, 2, []string{"--da-size", "-5", "number of bytes"}},
		{"da create --da-name x --da-size 1X", exitUsage, 2, []string{"--da-size", "1X"}},
		{"da create --da-name x --da-size 99999999P", exitUsage, 2, []string{"--da-size", "2^64"}},
		{"da create --da-name x --da-size 1M --cntlr-cnt -1", exitUsage, 2, []string{"--cntlr-cnt", "-1"}},
		{"da create --da-name x --da-size 1M --cntlr-cnt 0", exitUsage, 2, []string{`"0"`, "--cntlr-cnt", "a whole number, 1 or more"}},
		{"da create --da-name x --da-size 1M --da-conf {stripe_count:2}", exitUsage, 2, []string{"--da-conf", "not valid JSON"}},
		{"da create --da-name x --da-size 1M --da-conf []", exitUsage, 2, []string{"--da-conf", "not a JSON object"}},
		{"dn list --online maybe", exitUsage, 2, []string{"--online", "maybe", "true or false"}},
		{"dn list --limit x", exitUsage, 2, []string{"--limit"}},
		{"dn list -o xml", exitUsage, 2, []string{"--output", "xml", "json, yaml, table, wide, name or jsonpath"}},
		{"dn list --timeout 0", exitUsage, 2, []string{"--timeout"}},
		{"dn list --timeout soon", exitUsage, 2, []string{"--timeout", "soon"}},
		{"dn list --addr-port nowhere", exitUsage, 2, []string{"--addr-port", "nowhere", "HOST:PORT"}},
		{"dn list --addr-port 127.0.0.1:1", exitUnreachable, 16, []string{"127.0.0.1:1", "refused", "--addr-port"}},
		{"da create --da-name a/b --da-size 1M", exitRefused, 2, []string{"da_name", `"a/b"`}},
		{"da create --da-name 阵列 --da-size 1M", exitRefused, 2, []string{"da_name", "阵列"}},
		{"da create --da-name " + long + " --da-size 1M", exitRefused, 2, []string{"da_name", "300 characters"}},
		{"da create --da-name x --da-size 1000000", exitRefused, 2, []string{"da_size", "1048576"}},
		{"da create --da-name x --da-size 0", exitRefused, 2, []string{"da_size"}},
		{"da create --da-name x --da-size 1M", exitRefused, 10, []string{"no pd"}},
		{`da create --da-name x --da-size 1M --da-conf '{"raid":5}'`, exitRefused, 2, []string{"da_conf", `"raid"`, "stripe_count"}},
		{"da get --da-name nix", exitRefused, 3, []string{"nix"}},
		{"da failover --da-name nix", exitRefused, 3, []string{"nix"}},
	} {
		stdout, stderr, exit := u.run(tt.line)
		if exit != tt.exit {
			t.Errorf("%s: exit %d, want %d\n%s", tt.line, exit, tt.exit, stderr)
		}
		var reply struct {
			ReplyInfo struct {
				ReqID string `json:"req_id"`
				Code  int    `json:"reply_code"`
				Msg   string `json:"reply_msg"`
			} `json:"reply_info"`
		}
		if err := json.Unmarshal([]byte(stdout), &reply); err != nil {
			t.Errorf("%s: %v\n%s", tt.line, err, stdout)
			continue
		}
		if reply.ReplyInfo.Code != tt.code || (len(reply.ReplyInfo.ReqID) == 32) != (exit == exitRefused) {
			t.Errorf("%s: reply_info %+v, want code %d", tt.line, reply.ReplyInfo, tt.code)
		}
		if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "vda_cli: ") {
			t.Errorf("%s: not one line: %q", tt.line, stderr)
		}
		for _, word := range tt.says {
			if raw := reason.Raw(reply.ReplyInfo.Msg); raw != "" {
				t.Errorf("%s: %q is a library's, in %q", tt.line, raw, stderr)
			}
			if !strings.Contains(stderr, word) || !strings.Contains(reply.ReplyInfo.Msg, word) {
				t.Errorf("%s: %q does not say %q", tt.line, stderr, word)
			}
		}
	}
}

// TestSilentPortal: a portal that accepts the connection and says nothing is
// given up when --timeout is over.
func TestSilentPortal(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	u := &user{t, lis.Addr().String()}
	begin := time.Now()
	_, stderr, exit := u.run("dn list --timeout 200ms")
	if took := time.Since(begin); exit != exitUnreachable || took > 15*time.Second || !strings.Contains(stderr, "within 200ms") {
		t.Errorf("exit %d after %v: %s", exit, took, stderr)
	}
}

// TestHelp: every flag of every command has a sentence, and a default or what
// happens without it; every command has an example that its own flags parse.
func TestHelp(t *testing.T) {
	s := &session{}
	leaves := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.HasSubCommands() {
			return
		}
		leaves++
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			says := strings.Contains(f.Usage, "(required)") || f.DefValue != "" || strings.Contains(f.Usage, "not given")
			if len(f.Usage) < 20 || !says {
				t.Errorf("%s --%s: %q with the default %q", cmd.CommandPath(), f.Name, f.Usage, f.DefValue)
			}
		})
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			var args []string
			for _, w := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(line, -1) {
				args = append(args, strings.Trim(w, "'"))
			}
			words := strings.Count(cmd.CommandPath(), " ") + 1
			if len(args) < words || strings.Join(args[:words], " ") != cmd.CommandPath() {
				t.Errorf("%s has the example %q", cmd.CommandPath(), line)
			} else if err := cmd.ParseFlags(args[words:]); err != nil {
				t.Errorf("%s: example: %v", cmd.CommandPath(), err)
			}
		}
	}
	root := s.root()
	walk(root)
	if want := len(commands) + len(locals()); leaves != want {
		t.Errorf("%d commands, the tables have %d", leaves, want)
	}
	of := map[string]bool{"DumpSupport": true} // of a local command
	for _, c := range commands {
		of[c.method] = true
	}
	if methods := len(apiv1.Portal_ServiceDesc.Methods) + len(apiv1.Portal_ServiceDesc.Streams); len(of) != methods {
		t.Errorf("the commands have %d methods, the API has %d", len(of), methods)
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "33554432": 33554432, "32M": 32 << 20, "32m": 32 << 20, "32MiB": 32 << 20,
		"1Gi": 1 << 30, "2T": 2 << 40, "1P": 1 << 50, "4KB": 4096} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "+1", "1.5G", "1 G", "1GG", "1Bi", "0x10", "1iB", "18446744073709551616", "16777216T"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q = %d", text, got)
		}
	}
}
