package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/support"
)

const (
	// unitLogSince, unitLogLines and unitLogBytes bound what is read of a unit's journal: its end.
	unitLogSince = 24 * time.Hour
	unitLogLines = 20000
	unitLogBytes = support.MaxFile - 4096
	// unitLogTime is how long reading it may take.
	unitLogTime = 3 * time.Second
)

// unitName is how units of systemd are called that have a journal.
var unitName = regexp.MustCompile(`^[A-Za-z0-9_:.][A-Za-z0-9_:.@\\-]*\.(service|scope|slice)$`)

// unitLog is the end of the journal of a unit of systemd. Errors say what to do.
func unitLog(ctx context.Context, unit string, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", "--no-pager", "--quiet", "--output", "short-iso", "--unit", unit,
		"--since", "-"+strconv.Itoa(int(unitLogSince/time.Second))+"s", "--lines", strconv.Itoa(unitLogLines))
	cmd.WaitDelay = time.Second // what it has started may hold its output
	log, said := &tail{max: unitLogBytes}, &tail{max: 1000}
	cmd.Stdout, cmd.Stderr = log, said
	err := cmd.Run()
	complaint, _, _ := strings.Cut(strings.TrimSpace(string(said.trim())), "\n")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("the journal of %s cannot be read: journalctl is not on this machine", unit)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the journal of %s cannot be read: journalctl did not end in time, %v", unit, limit)
	case err != nil && complaint != "":
		return nil, fmt.Errorf("the journal of %s cannot be read: journalctl: %s", unit, vda.Shorten(complaint, 300))
	case err != nil:
		return nil, fmt.Errorf("the journal of %s cannot be read: journalctl has failed and does not say why", unit)
	case len(log.trim()) == 0:
		return nil, fmt.Errorf("the journal has nothing of %s of the last %v: there is no such unit, it has said nothing, or the agent's user "+
			"is not of the group systemd-journal, which may read it", unit, unitLogSince)
	}
	if log.cut > 0 { // a line that is there in part may have the end of a secret
		_, rest, _ := bytes.Cut(log.b, []byte("\n"))
		log.b = append(fmt.Appendf(nil, "(%d bytes before this are left out)\n", log.cut+len(log.b)-len(rest)), rest...)
	}
	return log.b, nil
}

// tail keeps the last max bytes that are written to it.
type tail struct {
	b   []byte // up to twice as many, so that what is kept is seldom moved
	max int
	cut int // bytes that are gone
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*t.max {
		t.trim()
	}
	return len(p), nil
}

// trim returns what is kept.
func (t *tail) trim() []byte {
	if over := len(t.b) - t.max; over > 0 {
		t.cut += over
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return t.b
}
