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
// METHOD --help prints what docs/jsonrpc.md says of a method, without a call.
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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/spdk"
)

// Main is one call.
type Main struct {
	// Socket is the path of the data plane's JSON-RPC socket.
	Socket string
	// Timeout bounds the call, Wait the time until the socket is there.
	Timeout, Wait time.Duration
	// Args are the method and its parameters.
	Args []string
	// Stdin is what load_config - reads.
	Stdin io.Reader
	// Stdout gets the result, Stderr what is worth saying besides.
	Stdout, Stderr io.Writer
}

// Program is vda_rpc.
func Program() program.Program {
	m := Main{}
	c := &cobra.Command{
		Use:   "vda_rpc [flags] METHOD ['{\"name\":\"value\",…}' | --name VALUE …]",
		Short: "Call a JSON-RPC method of vda_tgt or spdk_tgt",
		Long: `vda_rpc calls a JSON-RPC method of vda_tgt or spdk_tgt and prints its result. Flags
stand before the method, its parameters after it. rpc_get_methods lists the
methods; METHOD --help says what one of vda_tgt's does, as docs/jsonrpc.md.`,
		Example: `  vda_rpc rpc_get_methods
  vda_rpc -s /tmp/vda.sock bdev_set_options -d
  vda_rpc bdev_malloc_create --name Malloc0 --block-size 4096 --num-blocks 8192
  vda_rpc bdev_null_create --name 123 --block-size 512 --num-blocks 8
  vda_rpc bdev_get_bdevs '{"name":"Malloc0"}'
  vda_rpc bdev_get_bdevs --help
  vda_rpc save_config > config.json
  vda_rpc load_config config.json`,
		Args:        cobra.ArbitraryArgs,
		Annotations: map[string]string{program.Verbatim: "true"},
	}
	fs := c.Flags()
	fs.SetInterspersed(false)
	fs.SortFlags = false
	m.Timeout = time.Minute
	fs.StringVarP(&m.Socket, "socket", "s", "/var/tmp/vda.sock", "`PATH` of the data plane's JSON-RPC socket")
	fs.VarP((*seconds)(&m.Timeout), "timeout", "t", "`SECONDS` to wait for the reply, or a duration such as 2m")
	fs.Var((*seconds)(&m.Wait), "wait", "`SECONDS` to wait for the socket to appear, or a duration")
	c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return m.methods(c.Context(), begun), cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		m.Args, m.Stdin, m.Stdout, m.Stderr = args, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
		if err := m.Run(c.Context()); err != nil {
			return callError{err}
		}
		return nil
	}
	return program.Program{Root: c, Fail: fail}
}

// methods are those of the data plane that begin so, for a shell to complete;
// none when it does not answer at once.
func (m Main) methods(ctx context.Context, begun string) []string {
	c, err := spdk.New(spdk.Config{Socket: m.Socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	all, err := c.GetMethods(ctx, false)
	if err != nil {
		return nil
	}
	all = append(all, "save_config", "load_config")
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, begun) })
}

// fail reports a command line that makes no sense with exit status 2, a call
// that failed with 1.
func fail(p program.Process, err error) int {
	var call callError
	var bad *usageError
	if errors.As(err, &bad) || !errors.As(err, &call) {
		fmt.Fprintf(p.Stderr, "vda_rpc: %v\n", err)
		return 2
	}
	report(p.Stderr, err)
	return 1
}

// callError is an error of Run, where the command line was understood.
type callError struct{ error }

func (e callError) Unwrap() error { return e.error }

// usageError is a command line that makes no sense.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// Run makes the call and prints the result.
func (m Main) Run(ctx context.Context) error {
	if len(m.Args) == 0 {
		return usagef("name a method; vda_rpc --help shows how, rpc_get_methods lists them")
	}
	if m.Timeout <= 0 || m.Wait < 0 {
		return usagef("--timeout %v must be above 0 and --wait %v not below", m.Timeout, m.Wait)
	}
	method, args := m.Args[0], m.Args[1:]
	if asksHelp(args) {
		text, err := helpOf(method)
		if err == nil {
			_, err = io.WriteString(m.Stdout, text)
		}
		return err
	}
	var params json.RawMessage
	var err error
	switch method {
	case "save_config":
		if len(args) > 0 {
			return usagef("save_config takes no parameters; it prints everything")
		}
	case "load_config":
		if len(args) != 1 {
			return usagef("load_config wants the name of a file that save_config made, - for standard input")
		}
	default:
		if params, err = parameters(method, args); err != nil {
			return err
		}
	}
	c, err := spdk.New(spdk.Config{Socket: m.Socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return usagef("%v", err)
	}
	defer c.Close()
	if m.Wait > 0 {
		if err := appear(ctx, c, m.Wait); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	result := json.RawMessage("true")
	switch {
	case method == "save_config":
		result, err = saveConfig(ctx, c)
	case method == "load_config":
		err = m.loadConfig(ctx, c, args[0])
	case params == nil:
		err = c.Call(ctx, method, nil, &result)
	default:
		err = c.Call(ctx, method, params, &result)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no reply from %s within %v; see --timeout", method, m.Socket, m.Timeout)
	case err != nil:
		return err
	}
	return show(m.Stdout, result)
}

// seconds is a flag in seconds, as rpc.py has them, or a duration.
type seconds time.Duration

func (s *seconds) String() string {
	return strconv.FormatFloat(time.Duration(*s).Seconds(), 'g', -1, 64)
}
func (s *seconds) Type() string { return "seconds" }

func (s *seconds) Set(text string) error {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("it must be a number of seconds, or a duration such as 2m")
		}
		*s = seconds(d)
		return nil
	}
	const longest = 1e9 // some 30 years: what a time.Duration holds
	if !(n >= -longest && n <= longest) {
		return fmt.Errorf("it must be at most %g seconds", longest)
	}
	*s = seconds(n * float64(time.Second))
	return nil
}

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
			return nil, usagef("parameters %q are not a JSON object", args[0])
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
		return fmt.Errorf("result is not JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, buf.String())
	return err
}

// report prints a failure; a refusal like rpc.py does.
func report(w io.Writer, err error) {
	var refused *spdk.RPCError
	if !errors.As(err, &refused) {
		fmt.Fprintf(w, "vda_rpc: %s\n", reason.Full(err))
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
