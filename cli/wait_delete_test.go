package cli

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/program"
)

// told is standard error, on which somebody waits for what is said.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func (s *told) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.text.Write(b)
	select {
	case s.news <- struct{}{}:
	default:
	}
	return n, err
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestPoint8WaitDelete: a delete with --wait returns when nodes have let go of what was deleted, and
// says meanwhile what they have not.
func TestPoint8WaitDelete(t *testing.T) {
	c, u := well(t)
	defer func(d time.Duration) { pollPeriod = d }(pollPeriod)
	pollPeriod = 5 * time.Millisecond
	// begin has a command wait for a node that is down, until it says what it waits for.
	begin := func(line, says string) (end func()) {
		t.Helper()
		errs, exit := &told{news: make(chan struct{}, 1)}, make(chan int, 1)
		go func() {
			exit <- Program().Run(context.Background(), program.Process{Args: strings.Fields(line), Stdout: &bytes.Buffer{}, Stderr: errs,
				Getenv: func(name string) (string, bool) { return u.addr, name == portalEnv }})
		}()
		late := time.After(2 * time.Minute)
		for !strings.Contains(errs.String(), says) {
			select {
			case <-errs.news:
			case got := <-exit:
				t.Fatalf("%s: exit %d before it has waited: %s", line, got, errs)
			case <-late:
				t.Fatalf("%s does not say %q: %s", line, says, errs)
			}
		}
		return func() {
			t.Helper()
			select {
			case got := <-exit:
				if got != 0 {
					t.Errorf("%s: exit %d, %s", line, got, errs)
				}
			case <-time.After(2 * time.Minute):
				t.Errorf("%s does not end: %s", line, errs)
			}
		}
	}

	// back has a node come back, and the portal reach it.
	back := func(kind, name string) {
		t.Helper()
		c.Agent(name).Start()
		line := "syncup " + kind + " " + name
		for late := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			_, errs, exit := u.run(line)
			if exit == 0 && errs == "" {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("%s: exit %d, %s", line, exit, errs)
			}
		}
	}

	u.ok("da create other --da-size 4M")
	if _, errs := u.ok("da delete other --wait"); errs != "" {
		t.Errorf("nothing is to be waited for: %s", errs)
	}
	for _, line := range []string{"da delete da0 --keep 1h --wait", "da delete none --wait"} {
		if _, errs, exit := u.run(line); exit == 0 || !strings.Contains(errs, "--wait and --keep exclude each other") &&
			!strings.Contains(errs, `no da "none"`) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}

	u.ok("da create thin --da-size 4M")
	u.ok("da create roomy --cntlr-cnt 2 --da-size 4M --physical-size 16M")
	u.ok("snap create --da-name roomy --snap-name monday")
	u.ok("snap create --da-name roomy --snap-name tuesday")
	u.ok(`pd create --dn-name dn0:9720 --pd-name spare --pd-conf '{"type":"malloc","size":134217728}'`)
	u.ok(`pd create --dn-name dn0:9720 --pd-name gone --pd-conf '{"type":"malloc","size":134217728}'`)
	for _, line := range []string{"snap delete --da-name roomy --snap-name tuesday --wait",
		"pd delete --dn-name dn0:9720 --pd-name gone --wait"} {
		if _, errs := u.ok(line); errs != "" {
			t.Errorf("%s: nothing is to be waited for: %s", line, errs)
		}
	}
	for line, says := range map[string]string{"snap delete --da-name roomy --snap-name tuesday --wait": `no snap "tuesday"`,
		"pd delete --dn-name dn0:9720 --pd-name gone --wait": `no pd "gone"`} {
		if _, errs, exit := u.run(line); exit == 0 || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}
	// Hosts of an exporter, which a controller node has.
	u.ok("exp create da0/exp0 --initiator-nqn nqn.2016-06.io.spdk:host0")
	for _, cn := range []string{"cn0:9820", "cn1:9820"} {
		c.Agent(cn).Stop()
	}
	end := begin("exp delete da0/exp0 --wait", "its hosts may still write")
	endSnap := begin("snap delete --da-name roomy --snap-name monday --wait", "snap monday of da roomy is deleting")
	for _, cn := range []string{"cn0:9820", "cn1:9820"} {
		back("cn", cn)
	}
	end()
	endSnap()

	// Space of an array, on a disk node.
	for _, dn := range []string{"dn0:9720", "dn1:9720"} {
		c.Agent(dn).Stop()
	}
	end = begin("da delete da0 --wait", "1 vd left: vd ")
	endPd := begin("pd delete --dn-name dn0:9720 --pd-name spare --wait", "dn dn0:9720 has pd spare still")
	out, errs, exit := u.run("da delete thin --wait=1ns")
	if exit != exitRefused || !strings.Contains(errs, "was not waited for any longer: 1 vd left: vd ") ||
		!strings.Contains(errs, " is on pd pd0 of dn dn") || !strings.Contains(out, `"reply_code": 13`) {
		t.Errorf("without the time: exit %d, %s%s", exit, errs, out)
	}
	for _, dn := range []string{"dn0:9720", "dn1:9720"} {
		back("dn", dn)
	}
	end()
	endPd()
}
