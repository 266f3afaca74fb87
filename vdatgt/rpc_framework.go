package vdatgt

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func frameworkMethods() []*Method {
	return []*Method{
		bare("framework_get_subsystems", "Lists the parts that have a configuration, each behind those it depends on.",
			"'framework_get_subsystems' requires no arguments", getSubsystemNames),
		method("framework_get_config",
			"Returns the calls that configure a part as it is now, in order; save_config of rpc.py and vda_rpc makes a file of "+
				"them.", getConfig, invalidArguments),
		bare("framework_get_reactors",
			"Returns how much processor time the process has used; there is one entry, since work is not bound to processors.",
			"`framework_get_reactors` requires no arguments", getReactors),
		method("log_set_level", "Sets the minimum level of messages to log.", setLogLevel, anytime),
		bare("log_get_level", "Returns the minimum level of messages to log.", "log_get_level requires no parameters", getLogLevel, anytime),
		method("log_set_print_level", "Sets the same: there is one log.", setLogLevel, anytime),
		bare("log_get_print_level", "Returns the same as log_get_level.", "log_get_print_level requires no parameters", getLogLevel, anytime),
	}
}

// invalidArguments: how framework_get_config words it.
func invalidArguments(r *rules) {
	r.bad = &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid arguments"}
}

// part is something that has a configuration.
type part struct {
	Name      string   `json:"subsystem"`
	DependsOn []string `json:"depends_on"`
	config    func(*Target) []configCall
}

// parts are SPDK's subsystems that there are here.
var parts = []part{
	{"keyring", []string{}, (*Target).keyringConfig},
	{"bdev", []string{"keyring"}, (*Target).bdevConfig},
	{"nvmf", []string{"bdev", "keyring"}, (*Target).nvmfConfig},
}

func getSubsystemNames(context.Context, *Target) (any, error) { return parts, nil }

type getConfigParams struct {
	Name    string `rpc:"name" doc:"keyring, bdev or nvmf"`
	Batches bool   `rpc:"with_batches,optional" doc:"accepted; there are no batches, since every call is quick"`
}

// configCall is one call of a configuration.
type configCall struct {
	Method string `json:"method"`
	Params any    `json:"params,omitempty"`
}

func getConfig(_ context.Context, t *Target, p getConfigParams) (any, error) {
	i := slices.IndexFunc(parts, func(q part) bool { return q.Name == p.Name })
	if i < 0 {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("Subsystem '%s' not found", p.Name)}
	}
	return parts[i].config(t), nil
}

// reactorJSON is the one element of framework_get_reactors. The times of the
// process are in ticks, those of the machine's processors in hundredths of a
// second, as SPDK has them.
type reactorJSON struct {
	Lcore       int          `json:"lcore"`
	NumaID      int          `json:"numa_id"`
	TID         int          `json:"tid"`
	Busy        int64        `json:"busy"`
	Idle        int64        `json:"idle"`
	InInterrupt bool         `json:"in_interrupt"` // it sleeps when there is nothing to do
	IRQ         uint64       `json:"irq"`
	Sys         uint64       `json:"sys"`
	Usr         uint64       `json:"usr"`
	Threads     []threadJSON `json:"lw_threads"`
}

type threadJSON struct {
	Name    string `json:"name"`
	ID      int    `json:"id"`
	CPUMask string `json:"cpumask"`
	Elapsed int64  `json:"elapsed"`
}

func getReactors(context.Context, *Target) (any, error) {
	busy, idle, err := processTime()
	if err != nil {
		return nil, err
	}
	r := reactorJSON{NumaID: -1, TID: os.Getpid(), Busy: int64(busy), Idle: int64(idle), InInterrupt: true,
		Threads: []threadJSON{{"vda_tgt", os.Getpid(), cpuMask(), int64(time.Since(started))}}}
	r.Usr, r.Sys, r.IRQ = machineTime()
	return struct {
		TickRate int64         `json:"tick_rate"`
		PID      int           `json:"pid"`
		Reactors []reactorJSON `json:"reactors"`
	}{int64(time.Second), os.Getpid(), []reactorJSON{r}}, nil
}

// processTime is what the process has used of its processors, and what not.
func processTime() (busy, idle time.Duration, err error) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0, 0, err
	}
	busy = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	return busy, max(0, time.Since(started)*time.Duration(runtime.GOMAXPROCS(0))-busy), nil
}

// cpuMask has a bit for each processor that the process uses.
func cpuMask() string { return fmt.Sprintf("%x", uint64(1)<<min(runtime.GOMAXPROCS(0), 63)-1) }

// machineTime is what all processors have spent in programs, in the system and
// in interrupts, in hundredths of a second; zeros when the system does not say.
func machineTime() (usr, sys, irq uint64) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, 0
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0, 0, 0
	}
	var nice, idle, wait, soft uint64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d", &usr, &nice, &sys, &idle, &wait, &irq, &soft); err != nil {
		return 0, 0, 0
	}
	return usr, sys, irq
}

// logLevels are SPDK's levels and ours. Two of SPDK's are one here.
var logLevels = []struct {
	name  string
	level slog.Level
}{{"ERROR", slog.LevelError}, {"WARNING", slog.LevelWarn}, {"NOTICE", slog.LevelInfo}, {"INFO", slog.LevelInfo}, {"DEBUG", slog.LevelDebug}}

type logLevelParams struct {
	Level string `rpc:"level" doc:"ERROR, WARNING, NOTICE, INFO (the same as NOTICE) or DEBUG"`
}

func setLogLevel(_ context.Context, t *Target, p logLevelParams) (any, error) {
	if t.cfg.LogLevel == nil {
		return nil, jsonrpc.Errno(syscall.ENOTSUP, "the level of this process's log is fixed")
	}
	var names []string
	for _, l := range logLevels {
		if l.name == p.Level {
			t.cfg.LogLevel.Set(l.level)
			t.levelName.Store(&l.name)
			return true, nil
		}
		names = append(names, l.name)
	}
	return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "spdk_json_decode_object failed",
		Data: fmt.Sprintf("level %q must be one of %s", p.Level, strings.Join(names, ", "))}
}

// getLogLevel returns the name as it was set, else that of the level.
func getLogLevel(_ context.Context, t *Target) (any, error) {
	level := slog.LevelInfo
	if t.cfg.LogLevel != nil {
		level = t.cfg.LogLevel.Level()
	}
	set := t.levelName.Load()
	for _, l := range logLevels {
		if l.level <= level && (set == nil || *set == l.name) {
			return l.name, nil
		}
	}
	return "DEBUG", nil
}
