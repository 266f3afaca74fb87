package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/host"
)

// machine says when and on what this was measured.
func machine(runs int, d time.Duration) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(text), "\n") {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimLeft(name, "\t :")
				break
			}
		}
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(text))
	}
	initiator := "nvmf/host, the product's own"
	if os.Getenv("SPDK_PERF") != "" {
		initiator = "spdk_nvme_perf"
	}
	return fmt.Sprintf("Measured %s, %d rounds of %v: %d × %s, Linux %s, %s, TCP congestion control %s; target on core 0, initiator (%s) "+
		"on core 1.\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), runs, d, runtime.NumCPU(), model, read("/proc/sys/kernel/osrelease"), runtime.Version(),
		read("/proc/sys/net/ipv4/tcp_congestion_control"), initiator)
}

// table prints medians, the spread, and ratios to the last target when that
// is SPDK.
func table(p part, kinds []kind, results [][][]result) string {
	var b strings.Builder
	spdk := kinds[len(kinds)-1].name == "spdk_tgt"
	b.WriteString("| load |")
	for _, k := range kinds {
		fmt.Fprintf(&b, " %s: k IOPS (min–max), MB/s, µs, cores |", k.name)
	}
	if spdk {
		b.WriteString(" ratio, no spin (goal) | ratio (goal) |")
	}
	if p.mirrored {
		b.WriteString(" one leg / striped (goal) | mirror:2 / striped (goal) | processor µs per command of all processes |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(kinds)))
	switch {
	case spdk:
		b.WriteString("---|---|")
	case p.mirrored:
		b.WriteString("---|---|---|")
	}
	b.WriteString("\n")
	for i, w := range p.works {
		fmt.Fprintf(&b, "| %v |", w)
		medians, each := make([]float64, len(kinds)), make([]float64, len(kinds))
		for k := range kinds {
			rs := slices.Clone(results[i][k])
			slices.SortFunc(rs, func(a, b result) int { return int(a.iops - b.iops) })
			m := rs[len(rs)/2]
			medians[k] = m.iops
			fmt.Fprintf(&b, " %.1f (%.1f–%.1f), %.0f, %.1f, %.2f |", m.iops/1e3, rs[0].iops/1e3, rs[len(rs)-1].iops/1e3, m.mbps,
				float64(m.mean)/1e3, m.targetCPU)
			slices.SortFunc(rs, func(a, b result) int { return int(a.each - b.each) })
			each[k] = float64(rs[len(rs)/2].each) / 1e3
		}
		if spdk {
			s := medians[len(medians)-1]
			var g [2]string
			if len(p.goals) > 0 {
				g = [2]string{fmt.Sprintf(" (%.2f)", p.goals[i].plain), fmt.Sprintf(" (%.2f)", p.goals[i].spin)}
			}
			fmt.Fprintf(&b, " %.2f%s | %.2f%s |", medians[0]/s, g[0], medians[1]/s, g[1])
		}
		if p.mirrored {
			fmt.Fprintf(&b, " %.2f (%.2f) | %.2f (%.2f) | %.1f, %.1f, %.1f |", medians[1]/medians[0], p.goals[i].plain,
				medians[2]/medians[0], p.goals[i].spin, each[0], each[1], each[2])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// idleTable measures targets that have connections and nothing to do.
func idleTable(ctx context.Context, kinds []kind, dir string) (string, error) {
	var b strings.Builder
	b.WriteString("| target | cores used | resident MiB |\n|---|---|---|\n")
	setup := part{setup: func(ctx context.Context, p *plane, _ string) error { return p.oneHop(ctx) }}
	for _, k := range kinds {
		if err := onTarget(ctx, setup, k, dir, func(t *plane) error {
			for range 50 { // an admin and an I/O connection each
				c, err := host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: strconv.Itoa(t.port), SubNQN: frontNQN, Queues: 1})
				if err != nil {
					return err
				}
				defer c.Close()
			}
			time.Sleep(time.Second)
			before := t.cpu()
			const window = 5 * time.Second
			time.Sleep(window)
			fmt.Fprintf(&b, "| %s | %.3f | %d |\n", k.name, (t.cpu()-before).Seconds()/window.Seconds(), residentMiB(t.cmd.Process.Pid))
			return nil
		}); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func residentMiB(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize() >> 20
}

// loopback measures plain TCP on this machine: a stream of 128 KiB writes,
// and 4 KiB answers to 64-byte questions, one at a time.
func loopback(d time.Duration) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	stream, err := timed(l.Addr().String(), d, 's', make([]byte, 128<<10), nil)
	if err != nil {
		return "", err
	}
	echo, err := timed(l.Addr().String(), d, 'e', make([]byte, 64), make([]byte, 4096))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("| plain TCP | |\n|---|---|\n| stream of 128 KiB writes | %.0f MB/s |\n| 64 bytes there, 4 KiB back, one at a time "+
		"| %.1f k a second |\n",
		stream*(128<<10)/1e6, echo/1e3), nil
}

func answer(c net.Conn) {
	defer c.Close()
	var mode [1]byte
	if _, err := io.ReadFull(c, mode[:]); err != nil {
		return
	}
	if mode[0] == 's' {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	question, reply := make([]byte, 64), make([]byte, 4096)
	for {
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

func timed(address string, d time.Duration, mode byte, out, in []byte) (perSecond float64, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{mode}); err != nil {
		return 0, err
	}
	begin, n := time.Now(), 0
	for time.Since(begin) < d {
		if _, err := c.Write(out); err != nil {
			return 0, err
		}
		if in != nil {
			if _, err := io.ReadFull(c, in); err != nil {
				return 0, err
			}
		}
		n++
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
