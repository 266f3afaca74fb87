package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
	"github.com/virtual-disk-array/vda/nvmf/host/perf"
)

// work is one load.
type work struct {
	pattern string // read, write, randread, randwrite
	bytes   int
	depth   int
	digests bool
	conns   int  // I/O connections; 0: 1
	own     bool // with the product's own initiator, also where SPDK's is there
}

func (w work) String() string {
	s := fmt.Sprintf("%dK %s QD%d", w.bytes>>10, w.pattern, w.depth)
	if w.digests {
		s += ", digests"
	}
	if w.conns > 0 {
		s += fmt.Sprintf(", %d connections", w.conns)
	}
	return s
}

// result is what one run of a load measured.
type result struct {
	iops, mbps    float64
	mean, p99     time.Duration // p99 0: not told
	targetCPU     float64       // cores
	each          time.Duration // processor time per command, of all target processes
	initiatorName string
}

// load runs w against a target's front subsystem, on core 1.
func load(ctx context.Context, p *plane, w work, d time.Duration) (result, error) {
	before, all, begin := p.cpu(), p.allCPU(), time.Now()
	var r result
	var err error
	if perfBin := os.Getenv("SPDK_PERF"); perfBin != "" && !w.own {
		r, err = spdkPerf(ctx, perfBin, p.port, w, d)
	} else {
		r, err = ownPerf(ctx, p.port, w, d)
	}
	// Start-up and connect count too; they are short beside d.
	r.targetCPU = (p.cpu() - before).Seconds() / time.Since(begin).Seconds()
	if r.iops > 0 {
		r.each = time.Duration(float64(p.allCPU()-all) / (r.iops * d.Seconds()))
	}
	return r, err
}

var perfTotal = regexp.MustCompile(`(?m)^Total\s*:\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)`)

func spdkPerf(ctx context.Context, bin string, port int, w work, d time.Duration) (result, error) {
	args := []string{"-q", strconv.Itoa(w.depth), "-o", strconv.Itoa(w.bytes), "-w", w.pattern, "-t", strconv.Itoa(int(d.Seconds())),
		"-c", "0x2", "--no-huge", "-s", "512", "--iova-mode", "va",
		"-r", fmt.Sprintf("trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:%d subnqn:%s", port, frontNQN)}
	if w.digests {
		args = append(args, "-H", "-I")
	}
	var out []byte
	var err error
	var m [][]byte
	// On a busy machine its first command sometimes times out: try again.
	for try := 0; try < 3 && m == nil; try++ {
		out, err = exec.CommandContext(ctx, bin, args...).CombinedOutput()
		m = perfTotal.FindSubmatch(out)
	}
	if err != nil || m == nil {
		return result{}, fmt.Errorf("spdk_nvme_perf %v: %v\n%s", args, err, out)
	}
	iops, _ := strconv.ParseFloat(string(m[1]), 64)
	us, _ := strconv.ParseFloat(string(m[3]), 64)
	return result{iops: iops, mbps: iops * float64(w.bytes) / 1e6, mean: time.Duration(us * 1000), initiatorName: "spdk_nvme_perf"}, nil
}

// ownPerf runs the product's initiator in a process of its own, so that it
// has core 1 for itself.
func ownPerf(ctx context.Context, port int, w work, d time.Duration) (result, error) {
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	job, err := json.Marshal(job{Port: port, Pattern: w.pattern, Bytes: w.bytes, Depth: w.depth, Digests: w.digests,
		Conns: max(w.conns, 1), Duration: d})
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "1", self, "-job", string(job))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("own initiator: %w", err)
	}
	var r perf.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return result{}, err
	}
	return result{iops: r.IOPS, mbps: r.MBps, mean: r.Mean, p99: r.P99, initiatorName: "nvmf/host"}, nil
}

// touch writes the whole front device once: memory that nobody has touched
// yet is slow to come by, which is not what is measured.
func touch(ctx context.Context, port int) error {
	ctrl, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: strconv.Itoa(port), SubNQN: frontNQN})
	if err != nil {
		return err
	}
	defer ctrl.Close()
	ns := ctrl.Namespace(1)
	if ns == nil {
		return errors.New("the target shows no namespace 1")
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < ns.Size(); at += int64(len(buf)) {
		if err := ns.WriteAt(ctx, buf[:min(int64(len(buf)), ns.Size()-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// job is ownPerf's order to its child.
type job struct {
	Port     int
	Pattern  string
	Bytes    int
	Depth    int
	Digests  bool
	Conns    int
	Duration time.Duration
}

func runJob(ctx context.Context, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	workload, err := perf.ParseWorkload(j.Pattern)
	if err != nil {
		return err
	}
	total, err := j.run(ctx, workload)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(total)
}

// queuesMost is how many I/O queues one association is asked for: less than
// what targets allow by default.
const queuesMost = 64

// run does the work over as many associations as its connections need, all at
// once.
func (j *job) run(ctx context.Context, workload perf.Workload) (total perf.Result, err error) {
	hosts := (j.Conns + queuesMost - 1) / queuesMost
	results, errs := make([]perf.Result, hosts), make([]error, hosts)
	var spaces []*host.Namespace
	for i := range hosts {
		queues := (j.Conns + i) / hosts
		ctrl, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: strconv.Itoa(j.Port), SubNQN: frontNQN,
			HeaderDigest: j.Digests, DataDigest: j.Digests, Queues: queues, QueueDepth: max(j.Depth/hosts, 32), Spin: 20 * time.Microsecond})
		if err != nil {
			return total, err
		}
		defer ctrl.Close()
		ns := ctrl.Namespace(1)
		if ns == nil {
			return total, errors.New("the target shows no namespace 1")
		}
		spaces = append(spaces, ns)
	}
	var all sync.WaitGroup
	for i, ns := range spaces {
		all.Go(func() {
			results[i], errs[i] = perf.Run(ctx, ns, perf.Config{Workload: workload, BlockSize: j.Bytes, QueueDepth: j.Depth / hosts,
				Duration: j.Duration, Warmup: 200 * time.Millisecond})
		})
	}
	all.Wait()
	for i, r := range results {
		if errs[i] != nil {
			return total, errs[i]
		}
		if r.Errors > 0 {
			return total, fmt.Errorf("%d requests failed, the first with %v", r.Errors, r.First)
		}
		total.IOPS += r.IOPS
		total.MBps += r.MBps
		total.Mean += r.Mean / time.Duration(hosts)
		total.P99 = max(total.P99, r.P99)
	}
	return total, nil
}
