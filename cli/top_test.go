package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/program"
)

// counts are a node's counters at some second.
func counts(at time.Duration, start string, list ...*apiv1.Counters) *apiv1.CountersReply {
	return &apiv1.CountersReply{Counted: true, StampNsec: uint64(at), StartId: start, CountersList: list}
}

// screen is a terminal that somebody leaves after some pictures.
type screen struct {
	bytes.Buffer
	pictures int
	leave    context.CancelFunc
}

func (s *screen) Write(b []byte) (int, error) {
	if s.pictures -= strings.Count(string(b), clearScreen); s.pictures <= 0 {
		s.leave()
	}
	return s.Buffer.Write(b)
}

// TestPoint8Top: top shows what is read and written per second by nodes, arrays and disks, the
// busiest first; once for scripts, again and again at a terminal; what is not known is said.
func TestPoint8Top(t *testing.T) {
	c, u := well(t)
	da := func(name string, n uint64) *apiv1.Counters {
		return &apiv1.Counters{Kind: "da", Name: name, Reads: 100 * n, Writes: 10 * n, ReadBytes: n << 20, WrittenBytes: n << 18,
			ReadNsec: 100 * n * 250_000, WriteNsec: 10 * n * 3_400_000, ThrottledNsec: n * uint64(time.Second) / 4}
	}
	path := func(n uint64) *apiv1.Counters {
		return &apiv1.Counters{Kind: "exp", Name: "da0", ExpName: "exp0", Reads: 50 * n, ReadBytes: n << 19, Errors: 2 * n}
	}
	pd := func(n uint64) *apiv1.Counters {
		return &apiv1.Counters{Kind: "pd", Name: "pd0", Writes: 40 * n, WrittenBytes: n << 22}
	}
	const sec = time.Second
	busy := func() {
		// Two seconds pass between the readings: as much is done as n says, and rates are half.
		c.Agent("cn0:9820").Count(counts(5*sec, "a", da("quiet", 7), da("da0", 10), path(10)),
			counts(7*sec, "a", da("quiet", 7), da("da0", 14), path(14), da("new", 90)))
		// This data plane has begun again in between.
		c.Agent("cn1:9820").Count(counts(5*sec, "a", da("moved", 1000)), counts(6*sec, "b", da("moved", 1)))
		c.Agent("dn0:9720").Count(counts(0, "a", pd(1)), counts(sec, "a", pd(2)))
		c.Agent("dn1:9720").Count() // its data plane does not answer
	}
	busy()
	out, errs := u.ok("top --interval-ms 100")
	for _, want := range []string{
		`KIND +NAME +READS/S +WRITES/S +READ +WRITTEN +READ-LATENCY +WRITE-LATENCY +ERRORS/S`,
		`dn +dn0:9720 +0 +40 +0 B/s +4 MiB/s +- +-`,
		`cn +cn0:9820 +100 +0 +1 MiB/s +0 B/s +- +- +4`,
		`da0 +200 +20 +2 MiB/s +512 KiB/s +250 us +3\.4 ms +0 +50% +cn0:9820`,
		`moved +100 +10 +1 MiB/s +256 KiB/s +250 us +3\.4 ms +0 +25% +cn1:9820`,
		`quiet +0 +0 +0 B/s +0 B/s +- +- +0 +0% +cn0:9820`,
		`pd0 +0 +40 +0 B/s +4 MiB/s +- +- +0 +dn0:9720`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("top does not show %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "new ") || strings.Contains(out, clearScreen) || strings.Index(out, "da0 ") > strings.Index(out, "moved ") {
		t.Errorf("top:\n%s", out)
	}
	if !strings.Contains(errs, "warning: the I/O of dn dn1:9720 is not known") {
		t.Errorf("top warns: %s", errs)
	}
	busy()
	out, _ = u.ok("top --interval-ms 100 --limit 1 -o json")
	var reply struct {
		Das   []apiv1.TopMsg `json:"da_top_msg_list"`
		Nodes []apiv1.TopMsg `json:"node_top_msg_list"`
		Count int            `json:"da_cnt"`
	}
	if err := json.Unmarshal([]byte(out), &reply); err != nil || len(reply.Das) != 1 || reply.Das[0].Name != "da0" || reply.Count != 3 ||
		reply.Das[0].ReadsPerSec != 200 || reply.Das[0].ReadUsec != 250 || len(reply.Nodes) != 3 || reply.Nodes[0].Name != "dn0:9720" {
		t.Errorf("top -o json: %v\n%s", err, out)
	}

	c.Agent("cn1:9820").Stop()
	busy()
	if out, errs = u.ok("top --once --interval-ms 100"); !strings.Contains(errs, "the I/O of cn cn1:9820 is not known: ") ||
		!strings.Contains(out, "dn0:9720") {
		t.Errorf("with a node down: %s\n%s", errs, out)
	}
	for line, says := range map[string]string{"top --interval-ms 20": "interval_ms is 20; it must be 100 to 10000",
		"top --limit 1001": "limit is 1001; it must be 1 to 1000"} {
		if _, errs, exit := u.run(line); exit != exitRefused || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, exit, errs)
		}
	}

	// At a terminal it goes on.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	busy()
	see := &screen{pictures: 2, leave: cancel}
	s := &session{typed: program.TypedByHand, screen: func(w io.Writer) bool { return w == io.Writer(see) }}
	p := program.Program{Root: s.root(), Fail: s.fail}
	exit := p.Run(ctx, program.Process{Args: []string{"top", "--interval-ms", "100"}, Stdout: see, Stderr: &bytes.Buffer{},
		Getenv: func(name string) (string, bool) { return u.addr, name == portalEnv }})
	if shown := see.String(); exit != 0 || strings.Count(shown, clearScreen) < 2 ||
		!strings.Contains(shown, "measured for 100ms; ctrl-c ends this") {
		t.Errorf("live: exit %d\n%q", exit, shown)
	}
}
