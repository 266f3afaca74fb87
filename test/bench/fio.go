package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fioTable runs fio on the file below the aio device, with the same loads, on
// the target's core.
func fioTable(dir string, works []work, d time.Duration) string {
	var b strings.Builder
	b.WriteString("\nfio (libaio, direct) on the same file, with no network in between:\n\n| load | k IOPS |\n|---|---|\n")
	for _, w := range works {
		iops, err := fio(filepath.Join(dir, "disk"), w, d)
		if err != nil {
			return fmt.Sprintf("\nfio did not run: %v\n", err)
		}
		fmt.Fprintf(&b, "| %v | %.1f |\n", w, iops/1e3)
	}
	return b.String()
}

func fio(file string, w work, d time.Duration) (iops float64, err error) {
	out, err := exec.Command("taskset", "-c", "0", "fio", "--name=b", "--filename="+file, "--rw="+w.pattern, fmt.Sprintf("--bs=%d", w.bytes),
		fmt.Sprintf("--iodepth=%d", w.depth), "--ioengine=libaio", "--direct=1", "--time_based", fmt.Sprintf("--runtime=%d", int(d.Seconds())),
		"--output-format=json").Output()
	if err != nil {
		return 0, err
	}
	var r struct {
		Jobs []struct{ Read, Write struct{ Iops float64 } }
	}
	if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) == 0 {
		return 0, fmt.Errorf("fio's JSON: %v", err)
	}
	return r.Jobs[0].Read.Iops + r.Jobs[0].Write.Iops, nil
}
