package agent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/program"
)

const goodConf = `{"trtype":"tcp","traddr":"127.0.0.1","adrfam":"ipv4","trsvcid":"4420"}`

// parseArgs reads a command line of vda_dn_agent; the error is what the program
// prints.
func parseArgs(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	var got Config
	var out, errs bytes.Buffer
	p := App{Name: "vda_dn_agent", Kind: "dn", Port: 9720, SvcPort: 4420}.program(func(_ *cobra.Command, c Config) error {
		got = c
		return nil
	})
	if exit := p.Run(t.Context(), program.Process{Args: args, Stdout: &out, Stderr: &errs}); exit != 0 {
		return got, errors.New(strings.TrimSuffix(errs.String(), "\n"))
	}
	return got, nil
}

func TestParseArgs(t *testing.T) {
	c, err := parseArgs(t, "--listener", "127.0.0.1", "--port", "9721", "--sock-path", "/tmp/dn.sock",
		"--listener-conf", goodConf, "--transport-conf", `{"trtype":"TCP","max_io_size":131072}`, "--sock-wait", "3s", "--log-level", "warn")
	if err != nil {
		t.Fatal(err)
	}
	if c.Port != 9721 || c.Socket != "/tmp/dn.sock" || c.Address.TrSvcID != "4420" || c.StateDir != "/var/lib/vda/vda_dn_agent-9721" ||
		c.SocketWait != 3*time.Second || c.Flags.Log(io.Discard).Enabled(t.Context(), slog.LevelInfo) || len(c.Transport) != 1 {
		t.Errorf("%+v", c)
	}
}

// TestBackendListenerConf: a cn's data plane may listen elsewhere for other controllers.
func TestBackendListenerConf(t *testing.T) {
	parse := func(kind, conf string) (c Config, errs string) {
		var out, text bytes.Buffer
		p := App{Name: "vda_" + kind + "_agent", Kind: kind, Port: 9820, SvcPort: 4430}.program(func(_ *cobra.Command, got Config) error {
			c = got
			return nil
		})
		p.Run(t.Context(), program.Process{Args: []string{"--sock-path", "/s", "--listener-conf", goodConf, "--backend-listener-conf", conf},
			Stdout: &out, Stderr: &text})
		return c, text.String()
	}
	c, errs := parse("cn", `{"trtype":"TCP","traddr":"127.0.0.2","adrfam":"ipv4","trsvcid":"4420"}`)
	if want := (vda.Listener{TrType: "tcp", TrAddr: "127.0.0.2", AdrFam: "ipv4", TrSvcID: "4420"}); errs != "" || c.Backend != want {
		t.Errorf("%+v, %s", c.Backend, errs)
	}
	for conf, says := range map[string]string{
		goodConf:          "backend-listener-conf: 127.0.0.1 port 4420 is that of listener-conf, where hosts connect",
		`{"traddr":"x"}`:  `backend-listener-conf: trtype is ""`,
		`{"address":"x"}`: "--backend-listener-conf",
		`{"trtype":"tcp"`: "incomplete JSON",
	} {
		if _, errs := parse("cn", conf); !strings.Contains(errs, says) {
			t.Errorf("%s: %s", conf, errs)
		}
	}
	if _, errs := parse("dn", goodConf); !strings.Contains(errs, "unknown flag: --backend-listener-conf") {
		t.Errorf("a dn has no other traffic: %s", errs)
	}
}

func TestParseArgsSaysWhatIsWrong(t *testing.T) {
	good := []string{"--sock-path", "/s", "--listener-conf", goodConf}
	conf := func(s string) []string { return []string{"--sock-path", "/s", "--listener-conf", s} }
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "--sock-path is required"},
		{[]string{"--sock-path", "/s"}, "--listener-conf is required"},
		{append(good, "--aio-dir", "srv/disks"), `aio-dir "srv/disks" must be an absolute path`},
		{[]string{"--sock-path", "", "--listener-conf", goodConf}, "sock-path"},
		{append(good, "--nonsense"), "--nonsense"},
		{append(good, "extra"), `"extra"`},
		{append(good, "--port", "-1"), "port -1"},
		{append(good, "--port", "65536"), "port 65536"},
		{append(good, "--port", "x"), `"x"`},
		{append(good, "--log-level", "loud"), `"loud"`},
		{append(good, "--sock-wait", "-1s"), "sock-wait"},
		{append(good, "--transport-conf", "["), "incomplete JSON"},
		{append(good, "--transport-conf", `{"trtype":"rdma"}`), "rdma"},
		{conf(`{"trtype":"tcp"`), "incomplete JSON"},
		{conf(`{}{}`), "more than one"},
		{conf(`{"trtype":"tcp","port":1}`), `"port"`},
		{conf(strings.Replace(goodConf, `"tcp"`, `"rdma"`, 1)), `trtype is "rdma"`},
		{conf(strings.Replace(goodConf, "127.0.0.1", "myhost", 1)), `traddr "myhost"`},
		{conf(strings.Replace(goodConf, "ipv4", "ipv6", 1)), `adrfam "ipv6"`},
		{conf(strings.Replace(goodConf, "ipv4", "", 1)), `adrfam is ""; it must be "ipv4" or "ipv6"`},
		{conf(strings.Replace(goodConf, "127.0.0.1", "255.255.255.255", 1)), `broadcast`},
		{conf(strings.Replace(goodConf, "127.0.0.1", "0.0.0.0", 1)), `connect to`},
		{conf(strings.Replace(goodConf, "4420", "0", 1)), `trsvcid is "0"`},
	} {
		_, err := parseArgs(t, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line that says %q", c.args, err, c.says)
		}
	}
}

// TestListenerIsSpeltAsThePortalDoes: whatever the spelling, an agent's address
// is the one that the portal has registered.
func TestListenerIsSpeltAsThePortalDoes(t *testing.T) {
	for spelt, want := range map[string]string{"FD00::A": "fd00::a", "0:0:0:0:0:0:0:1": "::1", "fd00:0000::0001": "fd00::1"} {
		c, err := parseArgs(t, "--sock-path", "/s", "--listener-conf",
			`{"trtype":"TCP","traddr":"`+spelt+`","adrfam":"IPv6","trsvcid":"04420"}`)
		if err != nil || c.Address.TrAddr != want || c.Address.AdrFam != "ipv6" || c.Address.TrSvcID != "4420" {
			t.Errorf("%s: %+v, %v", spelt, c.Address, err)
		}
		if other := (vda.Listener{TrType: "TCP", TrAddr: spelt, AdrFam: "IPv6", TrSvcID: "4420"}); !c.Address.Same(other) {
			t.Errorf("%s is not %s", spelt, want)
		}
	}
	for spelt, says := range map[string]string{
		"::ffff:127.0.0.1": "it must be 127.0.0.1", "fe80::1%lo": "zone %lo", "fe80::1": "link-local", "::": "connect to",
	} {
		_, err := parseArgs(t, "--sock-path", "/s", "--listener-conf",
			`{"trtype":"tcp","traddr":"`+spelt+`","adrfam":"ipv6","trsvcid":"4420"}`)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", spelt, err, says)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	var out bytes.Buffer
	p := App{Name: "vda_cn_agent", Kind: "cn", Port: 9820, SvcPort: 4430}.Program()
	if exit := p.Run(t.Context(), program.Process{Args: []string{"--help"}, Stdout: &out, Stderr: &out}); exit != 0 {
		t.Fatalf("exit %d, %s", exit, out.String())
	}
	for _, f := range []string{"listener", "port", "sock-path", "sock-wait", "listener-conf", "transport-conf", "state-dir", "log-level"} {
		if !strings.Contains(out.String(), "--"+f+" ") {
			t.Errorf("no --%s in\n%s", f, out.String())
		}
	}
}

func TestAioDirs(t *testing.T) {
	good := []string{"--sock-path", "/s", "--listener-conf", goodConf, "--state-dir", "/srv/state"}
	for _, c := range []struct {
		args, want []string
	}{
		{good, []string{"/dev", "/srv/state/disks"}},
		{append(good, "--aio-dir", "/srv/a", "--aio-dir", "/dev/mapper"), []string{"/srv/a", "/dev/mapper"}},
	} {
		got, err := parseArgs(t, c.args...)
		if err != nil || !slices.Equal(got.AioDirs, c.want) {
			t.Errorf("%q: %q, %v; want %q", c.args, got.AioDirs, err, c.want)
		}
	}
}
