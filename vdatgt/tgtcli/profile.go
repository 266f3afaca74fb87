package tgtcli

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
)

// profiled runs f with its processor time recorded in path, to be read with
// go tool pprof. Behind it, in path with ".allocs" added, stands how many
// objects f has allocated.
func profiled(path string, f func() error) error {
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(fmt.Errorf("--cpu-profile %s: %w", path, err), out.Close())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = f()
	runtime.ReadMemStats(&after)
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close(), os.WriteFile(path+".allocs", fmt.Appendln(nil, after.Mallocs-before.Mallocs), 0o644))
}
