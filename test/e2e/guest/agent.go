package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Result is how a command in the guest ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int // exit status; 128 + signal when a signal ended it
}

// agent talks to one qemu-guest-agent, which serves one client at a time.
// Commands of several goroutines run side by side in the guest: each exchange
// is short, and the end of a command is polled for.
type agent struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
}

// dialAgent returns when the agent answers, which is when the guest has
// booted.
func dialAgent(ctx context.Context, socket string) (*agent, error) {
	for {
		a, err := tryAgent(ctx, socket)
		if err == nil {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("guest agent at %s: %w", socket, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func tryAgent(ctx context.Context, socket string) (*agent, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	a := &agent{conn: conn, in: bufio.NewReader(conn)}
	id := rand.Int32()
	// 0xff resets the agent's parser; it sends 0xff before this answer.
	if _, err := fmt.Fprintf(conn, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", id); err != nil {
		conn.Close()
		return nil, err
	}
	for {
		if _, err := a.in.ReadBytes(0xff); err != nil {
			conn.Close()
			return nil, err
		}
		line, err := a.in.ReadBytes('\n')
		if err != nil {
			conn.Close()
			return nil, err
		}
		var reply struct{ Return int32 }
		if json.Unmarshal(bytes.TrimSpace(line), &reply) == nil && reply.Return == id {
			return a, nil
		}
	}
}

func (a *agent) call(command string, args, result any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	request, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if err != nil {
		return err
	}
	if err := a.conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	if _, err := a.conn.Write(append(request, '\n')); err != nil {
		return err
	}
	line, err := a.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var reply struct {
		Return json.RawMessage
		Error  *struct{ Class, Desc string }
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return fmt.Errorf("%s: %w in %q", command, err, line)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %s: %s", command, reply.Error.Class, reply.Error.Desc)
	}
	return json.Unmarshal(reply.Return, result)
}

func (a *agent) exec(ctx context.Context, stdin []byte, argv ...string) (Result, error) {
	args := map[string]any{"path": argv[0], "arg": argv[1:], "capture-output": true,
		"env": []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LC_ALL=C"}}
	if len(stdin) > 0 {
		args["input-data"] = base64.StdEncoding.EncodeToString(stdin)
	}
	var started struct{ PID int }
	if err := a.call("guest-exec", args, &started); err != nil {
		return Result{}, err
	}
	// A command that has run for seconds is asked about less often: each answer is emulated.
	begin := time.Now()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, max(20*time.Millisecond, time.Since(begin)/20), 250*time.Millisecond) {
		var status struct {
			Exited           bool
			Exitcode, Signal int
			OutData          []byte `json:"out-data"`
			ErrData          []byte `json:"err-data"`
		}
		if err := a.call("guest-exec-status", map[string]int{"pid": started.PID}, &status); err != nil {
			return Result{}, err
		}
		if status.Exited {
			r := Result{Stdout: status.OutData, Stderr: status.ErrData, Code: status.Exitcode}
			if status.Signal != 0 {
				r.Code = 128 + status.Signal
			}
			return r, nil
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}
