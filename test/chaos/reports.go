//go:build e2e

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// hostProcess is the load as a process on its host.
type hostProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when its output has ended

	mu     sync.Mutex
	slow   []report
	errors []report
	stalls []report // beats with a long Stall
	beat   report
	last   *report // "done"
	orders int     // that were given
	answer report  // the last
}

// startLoad starts the host's process.
func (c *cluster) startLoad(ctx context.Context, cfg loadConfig) error {
	ms, err := c.cntlrs(ctx)
	if err != nil {
		return err
	}
	cfg.HostNQN, cfg.Port, cfg.Blocks = hostNQN, "4430", daBytes/blockSize
	cfg.KeepAlive, cfg.Grows = hostKeepAlive, c.cfg.Volumes
	if c.cfg.Plan.UsesSPDK() || c.cfg.SPDKLater {
		cfg.KeepAlive = spdkHostKeepAlive
	}
	for i := range c.cfg.Exps {
		cfg.NQNs = append(cfg.NQNs, fmt.Sprint(expNQN, i))
	}
	for _, m := range ms {
		cfg.Addrs = append(cfg.Addrs, m.addr)
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	p := &hostProcess{done: make(chan struct{})}
	p.cmd = c.machines["host0"].h.Command(context.Background(), "env", loadEnv+"="+string(text), "/root/chaos_host")
	log, err := os.Create(filepath.Join(c.cfg.Dir, "host0.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd.Stderr = log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.listen(out)
	c.host = p
	return nil
}

func (p *hostProcess) listen(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r report
		if err := json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &r); err != nil {
			r = report{Kind: "error", End: time.Now(), What: "the host printed: " + lines.Text()}
		}
		p.mu.Lock()
		switch r.Kind {
		case "slow":
			p.slow = append(p.slow, r)
		case "beat":
			p.beat = r
			if r.Stall > 40*time.Millisecond {
				p.stalls = append(p.stalls, r)
			}
		case "answer":
			p.answer = r
		case "done":
			p.last = &r
		default:
			p.errors = append(p.errors, r)
		}
		p.mu.Unlock()
	}
}

// now returns the newest beat.
func (p *hostProcess) now() report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beat
}

// worst returns the I/O that took longest of those under way between two
// moments, and what the host complained of.
func (p *hostProcess) worst(from, to time.Time) (report, []report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var w report
	for _, r := range p.slow {
		if r.End.After(from) && r.Start.Before(to) && r.End.Sub(r.Start) > w.End.Sub(w.Start) {
			w = r
		}
	}
	errs := slices.DeleteFunc(slices.Clone(p.errors), func(r report) bool { return r.End.Before(from) || r.End.After(to) })
	return w, errs
}

// stalled returns the longest that the host got no processor between two
// moments.
func (p *hostProcess) stalled(from, to time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := time.Duration(0)
	for _, r := range p.stalls {
		if r.End.After(from) && r.End.Add(-r.Stall).Before(to) {
			longest = max(longest, r.Stall)
		}
	}
	return longest
}

// verify stops the load and waits for the read-back.
func (p *hostProcess) verify(limit time.Duration) (*report, error) {
	if err := p.send(wish{Do: doVerify}); err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-time.After(limit):
		return nil, fmt.Errorf("the read-back did not end within %v; the host says %+v", limit, p.now())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return nil, errors.New("the host's process ended without a result")
	}
	return p.last, nil
}

func (p *hostProcess) close() {
	_ = p.in.Close()
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
