package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

const (
	mirroredBytes = 32 * mib
	// loadBytes is what the load writes at a time.
	loadBytes = 16 << 10
	// outage is for how long the disk node is away.
	outage = 5 * time.Second
)

// daReply is the part of da get's JSON that says how whole an array is.
type daReply struct {
	DaMsg struct {
		State  string `json:"redundancy_state"`
		Lack   uint64 `json:"lack_bytes"`
		Scrubs []struct {
			State      string
			Done       uint64 `json:"done_bytes"`
			Total      uint64 `json:"total_bytes"`
			Mismatches uint64
		} `json:"scrub_msg_list"`
	} `json:"da_msg"`
}

// Mirror makes a mirrored array, kills a disk node that has a leg of it while a
// host writes, and follows the array until it is whole again. At the end every
// block is read back, and compared on both legs.
func (c *Cluster) Mirror(ctx context.Context) error {
	for _, name := range []string{"cn0", "cn1"} {
		if c.cfg.Plan.Of(name) == dataplane.SPDK {
			c.say("\nNo mirrored array: %s runs on SPDK, which has no mirrors that keep every acknowledged write.", name)
			return nil
		}
	}
	c.say("\nMirroring an array, and killing a disk node under load")
	dn, err := c.addDisk(ctx, "dn2")
	if err != nil {
		return err
	}
	if err := c.cli(ctx, nil, "da", "create", "--da-name", "da2", "--cntlr-cnt", "2", "--da-size", fmt.Sprint(mirroredBytes),
		"--physical-size", fmt.Sprint(mirroredBytes), "--redundancy", "mirror:2"); err != nil {
		return err
	}
	if err := c.export(ctx, "da2", "exp2"); err != nil {
		return err
	}
	paths, err := c.connect(ctx, "da2", "exp2")
	defer func() { disconnect(paths) }()
	if err != nil {
		return err
	}
	if _, err := c.pass(ctx, paths[0], 1, true); err != nil {
		return err
	}
	l := startLoad(ctx, paths[0].ns)
	err = c.loseNode(ctx, dn, l)
	if err := errors.Join(err, l.end()); err != nil {
		return err
	}
	if err := l.check(ctx); err != nil {
		return err
	}
	c.say("  every block is what was written last, of %d writes; the longest took %.2f s", l.writes.Load(),
		time.Duration(l.longest.Load()).Seconds())
	return c.compareLegs(ctx)
}

// addDisk gives a node that has none a disk that outlives its data plane.
func (c *Cluster) addDisk(ctx context.Context, name string) (*node, error) {
	for _, n := range c.nodes {
		if n.name != name {
			continue
		}
		file := filepath.Join(c.cfg.Dir, name+".disk")
		if err := makeFile(file, 256*mib); err != nil {
			return nil, err
		}
		return n, c.cli(ctx, nil, "pd", "create", "--dn-name", n.agent, "--pd-name", "pd0", "--pd-conf",
			fmt.Sprintf(`{"type":"aio","filename":%q}`, file))
	}
	return nil, fmt.Errorf("there is no node %s", name)
}

// loseNode kills the data plane of a disk node under load, starts it again, and
// returns when the array is whole.
func (c *Cluster) loseNode(ctx context.Context, n *node, l *load) error {
	if err := l.goesOn(ctx); err != nil {
		return err
	}
	before := l.restart()
	c.say("  kill -9 the data plane of %s", n.name)
	n.plane.kill()
	if err := c.untilState(ctx, "single", false); err != nil {
		return err
	}
	if err := l.goesOn(ctx); err != nil {
		return err
	}
	c.say("  the host's longest write took %.2f s, %.3f s before; the array lives on one leg", l.restart().Seconds(), before.Seconds())
	select {
	case <-time.After(outage):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := c.startPlane(ctx, n); err != nil {
		return err
	}
	if err := c.untilState(ctx, "full", true); err != nil {
		return err
	}
	return l.goesOn(ctx)
}

// untilState waits for a state of the array's redundancy; with progress it shows
// how much is to be copied.
func (c *Cluster) untilState(ctx context.Context, want string, progress bool) error {
	begin := time.Now()
	most := uint64(1)
	for {
		var r daReply
		out, err := c.quiet(ctx, "vda_cli", c.asUser("da", "get", "--da-name", "da2")...)
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil {
			return err
		}
		most = max(most, r.DaMsg.Lack)
		if progress && c.cfg.Terminal {
			fmt.Fprintf(c.cfg.Out, "\r  %3d%% rebuilt, %s          ", 100-r.DaMsg.Lack*100/most, r.DaMsg.State)
		}
		if r.DaMsg.State == want {
			if progress && c.cfg.Terminal {
				fmt.Fprint(c.cfg.Out, "\r")
			}
			c.say("  da2 is %s after %.1f s%s", want, time.Since(begin).Seconds(), blank(progress && c.cfg.Terminal))
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("da2 is %q, not %q: %w", r.DaMsg.State, want, ctx.Err())
		}
	}
}

func blank(yes bool) string {
	if yes {
		return "                    "
	}
	return ""
}

// compareLegs has the array compare both legs, block by block.
func (c *Cluster) compareLegs(ctx context.Context) error {
	var r daReply
	if err := c.cli(ctx, &r, "da", "scrub", "--da-name", "da2", "--wait"); err != nil {
		return err
	}
	switch l := r.DaMsg.Scrubs; {
	case len(l) != 1 || l[0].State != "done" || l[0].Total == 0 || l[0].Done != l[0].Total:
		return fmt.Errorf("the legs of da2 were not compared to the end: %+v", l)
	case l[0].Mismatches > 0:
		return fmt.Errorf("the legs of da2 differ in %d blocks", l[0].Mismatches)
	default:
		c.say("  both legs of da2 are equal, all %d MiB of them", l[0].Total/mib)
		return nil
	}
}

// load is a host that writes, one block after the other, over and over, and tries
// again what fails, as a multipath host does.
type load struct {
	ns      *host.Namespace
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // valid once done is closed
	written []uint64
	writes  atomic.Int64
	longest atomic.Int64 // nanoseconds that a write took
}

func startLoad(ctx context.Context, ns *host.Namespace) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{ns: ns, cancel: cancel, done: make(chan struct{}), written: make([]uint64, ns.Size()/loadBytes)}
	for i := range l.written {
		l.written[i] = 1
	}
	go func() {
		defer close(l.done)
		for generation := uint64(2); ctx.Err() == nil; generation++ {
			for i := range l.written {
				if err := l.write(ctx, i, generation); err != nil {
					if ctx.Err() == nil {
						l.err = err
					}
					return
				}
			}
		}
	}()
	return l
}

func (l *load) write(ctx context.Context, i int, generation uint64) error {
	begin := time.Now()
	buf := make([]byte, loadBytes)
	bs := int(l.ns.BlockSize())
	for {
		// To its end, even when the load is over: then it is known what is there.
		err := transfer(context.WithoutCancel(ctx), l.ns, buf, int64(i)*loadBytes, bs, generation, true)
		if err == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			return fmt.Errorf("a write fails for a minute: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.written[i] = generation
	l.longest.Store(max(l.longest.Load(), int64(time.Since(begin))))
	l.writes.Add(1)
	return nil
}

// goesOn waits for some writes.
func (l *load) goesOn(ctx context.Context) error {
	for enough := l.writes.Load() + 100; l.writes.Load() < enough; {
		select {
		case <-l.done:
			return errors.Join(errors.New("the load has ended"), l.err)
		case <-ctx.Done():
			return fmt.Errorf("the load does not go on: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// restart returns what the longest write took, and measures from zero again.
func (l *load) restart() time.Duration { return time.Duration(l.longest.Swap(0)) }

func (l *load) end() error {
	l.cancel()
	<-l.done
	return l.err
}

// check reads every block and compares it with what was written last.
func (l *load) check(ctx context.Context) error {
	buf := make([]byte, loadBytes)
	bs := int(l.ns.BlockSize())
	for i, generation := range l.written {
		if err := l.ns.ReadAt(ctx, buf, int64(i)*loadBytes); err != nil {
			return err
		}
		for at := 0; at < loadBytes; at += bs {
			if err := stamp.Check(buf[at:at+bs], uint64(i*loadBytes+at)/uint64(bs), generation); err != nil {
				return fmt.Errorf("after the loss of a leg: %w", err)
			}
		}
	}
	return nil
}
