// Package rpccli is the command line of vda_rpc, the twin of SPDK's rpc.py:
//
//	vda_rpc [-s SOCKET] [-t SECONDS] [--wait SECONDS] METHOD [PARAMETERS]
//
// Parameters are a JSON object, or --name VALUE for each of its members (with
// - or _ in names; VALUE is JSON, or a string if it is not or the parameter is
// one, as in --name 123; no VALUE is true).
// bdev_set_options knows the letters of the older rpc.py: -d and -e turn
// automatic examination off and on.
//
// save_config and load_config FILE print and carry out the configuration of a
// data plane, as rpc.py's do.
//
// The result is printed as rpc.py does it: objects and arrays as indented
// JSON, strings bare, true not at all. Errors go to standard error; the exit
// code is 1 then, and 2 when the command line makes no sense.
package rpccli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/virtual-disk-array/vda/spdk"
)

// options are the flags before the method.
type options struct {
	socket  string
	timeout float64
	wait    float64
	help    bool
}

// Main runs the command and returns the exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	fs := pflag.NewFlagSet("vda_rpc", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	fs.StringVarP(&o.socket, "socket", "s", "/var/tmp/vda.sock", "path of the data plane's JSON-RPC socket")
	fs.Float64VarP(&o.timeout, "timeout", "t", 60, "seconds to wait for the reply")
	fs.Float64Var(&o.wait, "wait", 0, "seconds to wait for the socket to appear")
	fs.BoolVarP(&o.help, "help", "h", false, "print this")
	if err := fs.Parse(args); err != nil {
		fmt.Fprintf(stderr, "vda_rpc: %v\n", err)
		return 2
	}
	if o.help {
		fmt.Fprintf(stdout, "%s\n\nFlags:\n%s", usage, fs.FlagUsages())
		return 0
	}
	if err := o.call(ctx, fs.Args(), stdout); err != nil {
		var bad *usageError
		if errors.As(err, &bad) {
			fmt.Fprintf(stderr, "vda_rpc: %v\n", err)
			return 2
		}
		report(stderr, err)
		return 1
	}
	return 0
}

const usage = `vda_rpc calls a JSON-RPC method of vda_tgt or spdk_tgt and prints its result.

  vda_rpc [flags] METHOD ['{"name":"value",…}' | --name VALUE …]

  vda_rpc rpc_get_methods
  vda_rpc -s /tmp/vda.sock bdev_set_options -d
  vda_rpc bdev_malloc_create --name Malloc0 --block-size 4096 --num-blocks 8192
  vda_rpc bdev_null_create --name 123 --block-size 512 --num-blocks 8
  vda_rpc bdev_get_bdevs '{"name":"Malloc0"}'
  vda_rpc save_config > config.json
  vda_rpc load_config config.json`

// usageError is a command line that makes no sense.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

func (o *options) call(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return usagef("name a method; vda_rpc --help shows how, rpc_get_methods lists them")
	}
	if o.timeout <= 0 || o.wait < 0 {
		return usagef("--timeout %g has to be above 0 and --wait %g not below", o.timeout, o.wait)
	}
	method := args[0]
	var params json.RawMessage
	var err error
	switch method {
	case "save_config":
		if len(args) > 1 {
			return usagef("save_config takes no parameters; it prints everything")
		}
	case "load_config":
		if len(args) != 2 {
			return usagef("load_config wants the name of a file that save_config made, - for standard input")
		}
	default:
		if params, err = parameters(method, args[1:]); err != nil {
			return err
		}
	}
	c, err := spdk.New(spdk.Config{Socket: o.socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return usagef("%v", err)
	}
	defer c.Close()
	if o.wait > 0 {
		if err := appear(ctx, c, seconds(o.wait)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, seconds(o.timeout))
	defer cancel()
	result := json.RawMessage("true")
	switch {
	case method == "save_config":
		result, err = saveConfig(ctx, c)
	case method == "load_config":
		err = loadConfig(ctx, c, args[1])
	case params == nil:
		err = c.Call(ctx, method, nil, &result)
	default:
		err = c.Call(ctx, method, params, &result)
	}
	if err != nil {
		return err
	}
	return show(stdout, result)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// appear waits until somebody listens on the socket.
func appear(ctx context.Context, c *spdk.Client, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := fmt.Errorf("%w: no answer within %v", spdk.ErrUnreachable, limit)
	for {
		_, err := c.StartID(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, spdk.ErrUnreachable):
			last = err
		case ctx.Err() != nil: // the time is over in the middle of an attempt
			return last
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// parameters makes the parameter object, nil for none.
func parameters(method string, args []string) (json.RawMessage, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if !strings.HasPrefix(args[0], "-") {
		if len(args) > 1 {
			return nil, usagef("%q after the parameters; they are one JSON object, quote it for the shell", args[1])
		}
		if !json.Valid([]byte(args[0])) || !strings.HasPrefix(strings.TrimSpace(args[0]), "{") {
			return nil, usagef("parameters %q are no JSON object", args[0])
		}
		return json.RawMessage(args[0]), nil
	}
	members := map[string]json.RawMessage{}
	for i := 0; i < len(args); i++ {
		name, value, err := flag(method, args[i])
		if err != nil {
			return nil, err
		}
		if value == nil && i+1 < len(args) && !isFlag(args[i+1]) {
			i++
			value = literal(name, args[i])
		}
		if value == nil {
			value = json.RawMessage("true")
		}
		if _, twice := members[name]; twice {
			return nil, usagef("%s is given twice", name)
		}
		members[name] = value
	}
	return json.Marshal(members)
}

// isFlag tells a flag from a value such as -1.
func isFlag(arg string) bool {
	return strings.HasPrefix(arg, "-") && !json.Valid([]byte(arg))
}

// flag reads one flag; value is nil when it stands in the next argument.
func flag(method, arg string) (name string, value json.RawMessage, err error) {
	if method == "bdev_set_options" {
		switch arg {
		case "-d", "--disable-auto-examine":
			return "bdev_auto_examine", json.RawMessage("false"), nil
		case "-e", "--enable-auto-examine":
			return "bdev_auto_examine", json.RawMessage("true"), nil
		}
	}
	long, ok := strings.CutPrefix(arg, "--")
	if !ok || long == "" {
		return "", nil, usagef("%s has no flag %s; write --name VALUE with SPDK's parameter names, or a JSON object", method, arg)
	}
	long, given, has := strings.Cut(long, "=")
	name = strings.ReplaceAll(long, "-", "_")
	if has {
		value = literal(name, given)
	}
	return name, value, nil
}

// literal is a value of the parameter called name as JSON, as a string if it is
// not JSON. Where only a string will do it is one, written in JSON or bare.
func literal(name, s string) json.RawMessage {
	if json.Valid([]byte(s)) && (!IsWord(name) || strings.HasPrefix(s, `"`)) {
		return json.RawMessage(s)
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`)
	}
	return quoted
}

// show prints a result.
func show(w io.Writer, result json.RawMessage) error {
	if string(result) == "true" {
		return nil
	}
	var s string
	if json.Unmarshal(result, &s) == nil {
		_, err := fmt.Fprintln(w, s)
		return err
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, result, "", "  "); err != nil {
		return fmt.Errorf("result is no JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, buf.String())
	return err
}

// report prints a failure; a refusal like rpc.py does.
func report(w io.Writer, err error) {
	var refused *spdk.RPCError
	if !errors.As(err, &refused) {
		fmt.Fprintf(w, "vda_rpc: %v\n", err)
		return
	}
	body := struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    string `json:"data,omitempty"`
	}{refused.Code, refused.Message, refused.Data}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(body); err != nil {
		fmt.Fprintf(w, "vda_rpc: %v\n", refused)
		return
	}
	fmt.Fprintf(w, "%s: got JSON-RPC error response\n%s", refused.Method, buf.String())
}
