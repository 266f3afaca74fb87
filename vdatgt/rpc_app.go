package vdatgt

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func appMethods() []*Method {
	return []*Method{
		bare("spdk_get_version",
			"Returns the version of SPDK whose JSON-RPC this is; suffix -vda tells the embedded data plane from SPDK itself.",
			"spdk_get_version method requires no parameters", getVersion, anytime),
		method("rpc_get_methods", "Lists the methods.", getMethods, anytime, optional, nvmfStyle),
		bare("framework_start_init", "Ends the start-up state.", "framework_start_init requires no parameters", startInit, startup),
		method("framework_wait_init", "Returns when the run-time state has begun.", waitInit, anytime, optional, relaxed, slow),
		method("spdk_kill_instance", "Shuts the process down as the signal would.", killInstance, anytime, nvmfStyle),
		method("vda_get_log", "Returns the end of what the process has logged since it began, at most 1 MiB, as lines of text.",
			getLog, anytime, optional, returns(logJSON{})),
		bare("thread_get_stats",
			"Returns how much processor time the process has used; there is one entry, since work is not bound to threads.",
			"'thread_get_stats' requires no arguments", threadStats),
	}
}

type logParams struct {
	MaxBytes uint64 `rpc:"max_bytes,optional" doc:"at most so many of the last bytes; default all that is kept"`
}

type logJSON struct {
	Log string `json:"log" doc:"whole lines"`
}

func getLog(_ context.Context, t *Target, p logParams) (any, error) {
	if t.cfg.RecentLog == nil {
		return logJSON{}, nil
	}
	text := t.cfg.RecentLog()
	if n := uint64(len(text)); p.MaxBytes > 0 && n > p.MaxBytes {
		cut := text[n-p.MaxBytes-1] != '\n'
		if text = text[n-p.MaxBytes:]; cut { // a line has lost its beginning
			_, text, _ = bytes.Cut(text, []byte{'\n'})
		}
	}
	return logJSON{string(text)}, nil
}

func getVersion(context.Context, *Target) (any, error) {
	type fields struct {
		Major  int    `json:"major"`
		Minor  int    `json:"minor"`
		Patch  int    `json:"patch"`
		Suffix string `json:"suffix"`
	}
	return struct {
		Version string `json:"version"`
		Fields  fields `json:"fields"`
	}{"SPDK v26.05-vda", fields{26, 5, 0, "-vda"}}, nil
}

type getMethodsParams struct {
	Current        bool `rpc:"current,optional" doc:"only those callable in the present state"`
	IncludeAliases bool `rpc:"include_aliases,optional" doc:"deprecated names too; there are none"`
}

func getMethods(_ context.Context, t *Target, p getMethodsParams) (any, error) {
	names := make([]string, 0, len(t.methods))
	running := t.runtime.Load()
	for name, m := range t.methods {
		if !p.Current || (running && m.Runtime) || (!running && m.Startup) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func startInit(_ context.Context, t *Target) (any, error) {
	if !t.startInit() {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidState, Message: tooLate}
	}
	return true, nil
}

func waitInit(ctx context.Context, t *Target, _ struct{}) (any, error) {
	select {
	case <-t.running:
		return true, nil
	case <-ctx.Done():
		return nil, syscall.ECANCELED
	}
}

type killParams struct {
	Signal string `rpc:"sig_name" doc:"SIGINT, SIGTERM or SIGQUIT"`
}

func killInstance(_ context.Context, t *Target, p killParams) (any, error) {
	switch p.Signal {
	case "SIGINT", "SIGTERM", "SIGQUIT", "INT", "TERM", "QUIT":
		// The reply leaves first.
		time.AfterFunc(10*time.Millisecond, t.stop)
		return true, nil
	}
	return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid parameters",
		Data: fmt.Sprintf("sig_name %q must be one of SIGINT, SIGTERM, SIGQUIT", p.Signal)}
}

func threadStats(context.Context, *Target) (any, error) {
	busy, idle, err := processTime()
	if err != nil {
		return nil, err
	}
	type thread struct {
		Name    string `json:"name"`
		ID      int    `json:"id"`
		CPUMask string `json:"cpumask"`
		Busy    int64  `json:"busy"`
		Idle    int64  `json:"idle"`
		Active  int    `json:"active_pollers_count"`
		Timed   int    `json:"timed_pollers_count"`
		Paused  int    `json:"paused_pollers_count"`
	}
	return struct {
		TickRate int64    `json:"tick_rate"`
		Threads  []thread `json:"threads"`
	}{int64(time.Second), []thread{{
		Name: "vda_tgt", ID: os.Getpid(), CPUMask: cpuMask(), Busy: int64(busy), Idle: int64(idle),
	}}}, nil
}

// started is when this process began.
var started = time.Now()
