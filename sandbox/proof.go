package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/nvmf/host/perf"
	"github.com/virtual-disk-array/vda/sandbox/stamp"
)

const (
	mib        = 1 << 20
	hostNQN    = "nqn.2016-06.io.spdk:host0"
	chunkBytes = 256 << 10 // of one request of the proof
	inFlight   = 8         // requests at once
)

// expReply is the part of exp get's JSON that a host needs.
type expReply struct {
	ExpMsg struct {
		ExpNQN    string `json:"exp_nqn"`
		EsMsgList []struct {
			CntlrIdx       int    `json:"cntlr_idx"`
			CnName         string `json:"cn_name"`
			CnListenerConf string `json:"cn_listener_conf"`
			Error          bool   `json:"error"`
			ErrorMsg       string `json:"error_msg"`
		} `json:"es_msg_list"`
	} `json:"exp_msg"`
}

// path is one controller of an exporter, connected.
type path struct {
	label   string // "controller 0 on 127.0.0.1:4430"
	command string // nvme connect for a real host
	ctrl    *host.Controller
	ns      *host.Namespace
}

// figure is one line of the summary.
type figure struct {
	what, path string
	mbps, iops float64
}

// Populate creates the tutorial's nodes, disks and two arrays with vda_cli.
func (c *Cluster) Populate(ctx context.Context) error {
	const size = 128 * mib
	for _, n := range c.nodes {
		if err := c.cli(ctx, nil, n.kind, "create", "--"+n.kind+"-name", n.agent,
			"--"+n.kind+"-listener-conf", n.listenerConf(), "--location", n.name); err != nil {
			return err
		}
		if n.kind == "cn" || n.name == "dn2" { // Mirror gives that a disk
			continue
		}
		file := filepath.Join(c.cfg.Dir, n.name+".disk")
		if err := makeFile(file, size); err != nil {
			return err
		}
		for pd, conf := range []string{
			fmt.Sprintf(`{"type":"malloc","size":%d}`, size),
			fmt.Sprintf(`{"type":"aio","filename":%q}`, file),
		} {
			name := fmt.Sprintf("pd%d", pd)
			if err := c.cli(ctx, nil, "pd", "create", "--dn-name", n.agent, "--pd-name", name, "--pd-conf", conf); err != nil {
				return err
			}
		}
	}
	for i, size := range []int{32 * mib, 64 * mib} {
		da := fmt.Sprintf("da%d", i)
		if err := c.cli(ctx, nil, "da", "create", "--da-name", da, "--cntlr-cnt", "2", "--da-size", fmt.Sprint(size),
			"--physical-size", fmt.Sprint(size), "--da-conf", `{"stripe_count":2, "stripe_size_kb":64}`); err != nil {
			return err
		}
		if err := c.export(ctx, da, fmt.Sprintf("exp%d", i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) export(ctx context.Context, da, exp string) error {
	return c.cli(ctx, nil, "exp", "create", "--da-name", da, "--exp-name", exp, "--initiator-nqn", hostNQN)
}

// connect connects to every controller of an exporter, in the order of their
// index.
func (c *Cluster) connect(ctx context.Context, da, exp string) ([]*path, error) {
	var reply expReply
	if err := c.cli(ctx, &reply, "exp", "get", "--da-name", da, "--exp-name", exp); err != nil {
		return nil, err
	}
	var paths []*path
	for _, es := range reply.ExpMsg.EsMsgList {
		if es.Error {
			return paths, fmt.Errorf("exporter %s of %s is in error on controller %d: %s", exp, da, es.CntlrIdx, es.ErrorMsg)
		}
		var at struct{ Traddr, Trsvcid string }
		if err := json.Unmarshal([]byte(es.CnListenerConf), &at); err != nil {
			return paths, fmt.Errorf("cn_listener_conf %q: %w", es.CnListenerConf, err)
		}
		p := &path{
			label:   fmt.Sprintf("controller %d on %s:%s", es.CntlrIdx, at.Traddr, at.Trsvcid),
			command: fmt.Sprintf("nvme connect -t tcp -n %s -a %s -s %s --hostnqn %s", reply.ExpMsg.ExpNQN, at.Traddr, at.Trsvcid, hostNQN),
		}
		ctrl, err := host.Connect(ctx, host.Config{Traddr: at.Traddr, Trsvcid: at.Trsvcid, SubNQN: reply.ExpMsg.ExpNQN, HostNQN: hostNQN})
		if err != nil {
			return paths, fmt.Errorf("connect to %s: %w", p.label, err)
		}
		p.ctrl = ctrl
		paths = append(paths, p)
		if p.ns = ctrl.Namespace(1); p.ns == nil {
			return paths, fmt.Errorf("%s shows no namespace 1", p.label)
		}
	}
	if len(paths) != 2 {
		return paths, fmt.Errorf("exporter %s of %s has %d controllers, want 2", exp, da, len(paths))
	}
	return paths, nil
}

func disconnect(paths []*path) {
	for _, p := range paths {
		p.ctrl.Close()
	}
}

// pass writes (write) or checks every block through one path.
func (c *Cluster) pass(ctx context.Context, p *path, generation uint64, write bool) (figure, error) {
	verb := "read and checked"
	if write {
		verb = "written"
	}
	bs, size := int(p.ns.BlockSize()), p.ns.Size()
	var done atomic.Int64
	begin := time.Now()
	progress := time.NewTicker(100 * time.Millisecond)
	stop := make(chan struct{})
	shown := make(chan struct{})
	line := func(end string) {
		start := "  "
		if c.cfg.Terminal {
			start = "\r  "
		}
		fmt.Fprintf(c.cfg.Out, "%s%3d%% of %d MiB %s through %s%s", start, done.Load()*100/size, size/mib, verb, p.label, end)
	}
	go func() {
		defer close(shown)
		for {
			select {
			case <-progress.C:
				if c.cfg.Terminal {
					line("")
				}
			case <-stop:
				return
			}
		}
	}()
	g, workers := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range inFlight {
		g.Go(func() error {
			buf := make([]byte, chunkBytes)
			for {
				at := next.Add(chunkBytes) - chunkBytes
				if at >= size {
					return nil
				}
				part := buf[:min(chunkBytes, size-at)]
				if err := transfer(workers, p.ns, part, at, bs, generation, write); err != nil {
					return fmt.Errorf("through %s: %w", p.label, err)
				}
				done.Add(int64(len(part)))
			}
		})
	}
	err := g.Wait()
	if err == nil && write {
		err = p.ns.Flush(ctx)
	}
	progress.Stop()
	close(stop)
	<-shown
	line("\n")
	seconds := time.Since(begin).Seconds()
	return figure{what: fmt.Sprintf("%s, %d KiB requests", verb, chunkBytes>>10), path: p.label,
		mbps: float64(size) / 1e6 / seconds, iops: float64(size) / chunkBytes / seconds}, err
}

func transfer(ctx context.Context, ns *host.Namespace, part []byte, at int64, bs int, generation uint64, write bool) error {
	blocks := len(part) / bs
	if write {
		for i := range blocks {
			stamp.Put(part[i*bs:(i+1)*bs], uint64(at)/uint64(bs)+uint64(i), generation)
		}
		return ns.WriteAt(ctx, part, at)
	}
	if err := ns.ReadAt(ctx, part, at); err != nil {
		return err
	}
	for i := range blocks {
		if err := stamp.Check(part[i*bs:(i+1)*bs], uint64(at)/uint64(bs)+uint64(i), generation); err != nil {
			return err
		}
	}
	return nil
}

// Prove writes and reads every block of da0 through both controllers, moves
// it to another exporter, reads it again, and measures both paths of da1.
func (c *Cluster) Prove(ctx context.Context) (figures []figure, commands []string, err error) {
	fresh, err := c.connect(ctx, "da0", "exp0")
	defer func() { disconnect(fresh) }()
	if err != nil {
		return nil, nil, err
	}
	for _, step := range []struct {
		path       int
		generation uint64
		write      bool
	}{{0, 1, true}, {1, 1, false}, {1, 2, true}, {0, 2, false}} {
		f, err := c.pass(ctx, fresh[step.path], step.generation, step.write)
		if err != nil {
			return nil, nil, err
		}
		figures = append(figures, f)
	}
	disconnect(fresh)
	fresh = nil
	if err := c.cli(ctx, nil, "exp", "delete", "--da-name", "da0", "--exp-name", "exp0"); err != nil {
		return nil, nil, err
	}
	if err := c.export(ctx, "da0", "exp0-again"); err != nil {
		return nil, nil, err
	}
	again, err := c.connect(ctx, "da0", "exp0-again")
	defer func() { disconnect(again) }()
	if err != nil {
		return nil, nil, err
	}
	for _, p := range again {
		if _, err := c.pass(ctx, p, 2, false); err != nil {
			return nil, nil, err
		}
		commands = append(commands, p.command)
	}
	measured, more, err := c.measure(ctx)
	return append(figures, measured...), append(commands, more...), err
}

// measure runs a second of small random I/O on each path of da1.
func (c *Cluster) measure(ctx context.Context) (figures []figure, commands []string, err error) {
	paths, err := c.connect(ctx, "da1", "exp1")
	defer func() { disconnect(paths) }()
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, p := range paths {
		commands = append(commands, p.command)
		for _, work := range []perf.Workload{perf.RandWrite, perf.RandRead} {
			r, err := perf.Run(ctx, p.ns, perf.Config{Workload: work, BlockSize: 4096, QueueDepth: 32, Duration: time.Second})
			errs = append(errs, err)
			figures = append(figures, figure{what: fmt.Sprintf("4 KiB %v, 32 in flight", work), path: p.label, mbps: r.MBps, iops: r.IOPS})
		}
	}
	return figures, commands, errors.Join(errs...)
}

// Summary says what ran where, how fast, and how a real host connects.
func (c *Cluster) Summary(figures []figure, commands []string) {
	c.say("\n  %-18s %-8s %s", "process", "pid", "reached at")
	for _, p := range c.processes {
		c.say("  %-18s %-8d %s", p.name, p.cmd.Process.Pid, c.address(p))
	}
	c.say("\n  %-34s %-36s %10s %10s", "work", "path", "MB/s", "IOPS")
	for _, f := range figures {
		c.say("  %-34s %-36s %10.0f %10.0f", f.what, f.path, f.mbps, f.iops)
	}
	c.say("\nA real host on this machine would connect with\n\n  %s", strings.Join(commands, "\n  "))
}

// address is where a process is reached.
func (c *Cluster) address(p *process) string {
	for _, n := range c.nodes {
		switch {
		case n.plane == p:
			return fmt.Sprintf("NVMe/TCP 127.0.0.1:%d, JSON-RPC %s", n.port, n.socket)
		case p.name == n.name+" agent":
			return "gRPC " + n.agent
		}
	}
	args := p.cmd.Args
	for i, a := range args {
		if a == "--port" {
			return "gRPC 127.0.0.1:" + args[i+1]
		}
	}
	return ""
}
