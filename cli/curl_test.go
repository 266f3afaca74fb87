package cli

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
)

// send gives a command of --curl to a shell, and sends what it has curl send.
func send(t *testing.T, command, token string) (status int, body string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `curl() { for a; do printf '%s\0' "$a"; done; }; TOKEN="`+token+`"; `+command)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	verb, data, at := "GET", "", ""
	header := http.Header{}
	words := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "-sS":
			continue
		case "-X", "-d", "-H":
		default:
			at = words[i]
			continue
		}
		switch v := words[i+1]; words[i] {
		case "-X":
			verb = v
		case "-d":
			data = v
		case "-H":
			name, value, _ := strings.Cut(v, ": ")
			header.Set(name, value)
		}
		i++
	}
	r, err := http.NewRequestWithContext(t.Context(), verb, at, bytes.NewReader([]byte(data)))
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	r.Header = header
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(text)
}

// TestPoint15Curl: --curl sends nothing and prints a command that a shell takes, and that has the
// portal do over REST what the command without it does.
func TestPoint15Curl(t *testing.T) {
	c := portaltest.New(t)
	u := &user{t, c.Portal(func(cfg *portal.Config) { cfg.WebToken = "a token of a test" })}
	c.Populate(c.Dial(u.addr), 2, 2)
	for _, step := range []struct{ line, has string }{
		{`da create da0 --da-size 4M --cntlr-cnt 2 --label owner=sam --description o"neill`, `"da_name":"da0"`},
		{`da get da0`, `o\"neill`},
		{`da list --label owner=sam --label !tier --limit 5`, `"da0"`},
		{`exp create da0/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0`, `"exp0"`},
		{`exp list --da-name da0 --error false`, `"exp0"`},
		{`da modify da0 --rw-ios-per-sec 2000`, `"2000"`},
		{`event list --kind change --kind da_error --severity info`, `event_msg_list`},
		{`dn modify dn0:9720 --new-location rack1 --new-description it's`, `it's`},
		{`exp delete da0/exp0 --fence`, `reply_info`},
		{`da delete da0`, `reply_info`},
		{`status`, `status_msg`},
		{`cn drain cn0:9820`, `"drain":true`},
	} {
		line, errs := u.ok(step.line + " --curl")
		if errs != "" || strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "curl -sS ") {
			t.Fatalf("%s --curl: %s%s", step.line, line, errs)
		}
		code, body := send(t, line, "a token of a test")
		if code != http.StatusOK || !strings.Contains(body, step.has) {
			t.Errorf("%s: %d, %s\n%s", step.line, code, line, body)
		}
	}
	if _, errs, exit := u.run("event watch --curl"); exit != exitUsage || !strings.Contains(errs, "not served over REST") {
		t.Errorf("a stream: exit %d, %s", exit, errs)
	}
	for i := range commands {
		for _, f := range commands[i].flags {
			if f.syntax == secretFile {
				line := commands[i].path() + " --curl --" + f.name + " -"
				for _, other := range commands[i].flags {
					if other.required && other.name != f.name {
						line += " --" + other.name + " x"
					}
				}
				if _, errs, exit := u.run(line); exit != exitUsage || !strings.Contains(errs, "takes a secret") {
					t.Errorf("%s: exit %d, %s", line, exit, errs)
				}
			}
		}
		m := commands[i].method
		if _, _, ok := apiv1.HTTPRule(m); !ok && m != "WatchEvent" {
			t.Errorf("%s: no rule is found for %s", commands[i].path(), m)
		}
	}
}

// TestPoint15WarnAsError: a note or a warning is an error when that is asked for.
func TestPoint15WarnAsError(t *testing.T) {
	c, u := well(t)
	if _, errs, exit := u.run("da create da1 --da-size 4M --warn-as-error"); exit != 0 {
		t.Errorf("no warning: exit %d, %s", exit, errs)
	}
	c.Agent("cn0:9820").Stop()
	c.Agent("cn1:9820").Stop()
	if _, errs := u.ok("da delete da1"); !strings.Contains(errs, "note: ") {
		t.Errorf("da delete while no cn answers: %s", errs)
	}
	out, errs, exit := u.run("da delete da0 --warn-as-error")
	if exit != exitRefused || !strings.Contains(errs, "note: ") || !strings.Contains(out, "reply_info") {
		t.Errorf("with --warn-as-error: exit %d, %s%s", exit, errs, out)
	}
}
