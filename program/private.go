package program

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// Private says that a flag's value has a secret in it, which mask covers: it returns as many bytes
// as it is given. A process of Main shows nobody more than that of its command line and
// its environment, and hands the variables of the flag to no other program.
func Private(fs *pflag.FlagSet, name string, mask func(value string) string) {
	f := fs.Lookup(name)
	f.Value = private{f.Value, mask}
}

// Covered is a mask for a value that is a secret as a whole.
func Covered(value string) string { return strings.Repeat("x", len(value)) }

type private struct {
	pflag.Value
	mask func(string) string
}

// masks are those of the private flags of a command and of the ones below it, by name.
func masks(c *cobra.Command, all map[string]func(string) string) map[string]func(string) string {
	for _, fs := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
		fs.VisitAll(func(f *pflag.Flag) {
			if p, is := f.Value.(private); is {
				all[f.Name] = p.mask
			}
		})
	}
	for _, sub := range c.Commands() {
		masks(sub, all)
	}
	return all
}

// own is the process that this is. What it holds is its alone: the secrets on the command line
// and in the environment are covered where other programs read them.
func own(root *cobra.Command) Process {
	p := Process{Args: make([]string, 0, len(os.Args)), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.LookupEnv}
	for _, a := range os.Args[1:] {
		p.Args = append(p.Args, strings.Clone(a)) // the memory that os.Args stands in is written to
	}
	flags := masks(root, map[string]func(string) string{})
	seen := maskArgs(p.Args, flags)
	hidden := map[string]string{}
	for name := range flags {
		if v, ok := os.LookupEnv(EnvName(name)); ok {
			hidden[EnvName(name)] = v
			os.Unsetenv(EnvName(name)) // for the programs that this one runs
		}
	}
	if len(hidden) > 0 {
		p.Getenv = func(name string) (string, bool) {
			if v, ok := hidden[name]; ok {
				return v, true
			}
			return os.LookupEnv(name)
		}
	}
	if seen == nil && len(hidden) == 0 {
		return p
	}
	if err := cover(seen, flags); err != nil {
		fmt.Fprintf(os.Stderr, "%s: secrets on the command line and in the environment stay where others may read them: %v; "+
			"give them in files\n", root.Name(), err)
	}
	os.Args = append([]string{strings.Clone(os.Args[0])}, p.Args...)
	return p
}

// maskArgs is the command line as it may be seen, nil when there is no secret on it.
func maskArgs(args []string, flags map[string]func(string) string) []string {
	var seen []string
	show := func(i int, arg string) {
		if seen == nil {
			seen = append([]string(nil), args...)
		}
		seen[i] = arg
	}
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		long, is := strings.CutPrefix(args[i], "--")
		name, value, with := strings.Cut(long, "=")
		mask := flags[name]
		switch {
		case !is || mask == nil:
		case with:
			show(i, "--"+name+"="+mask(value))
		case i+1 < len(args):
			i++
			show(i, mask(args[i]))
		}
	}
	return seen
}

// cover writes what may be seen over the memory from which the kernel shows a process's
// command line and environment. args are nil when the command line may be seen as it is.
func cover(args []string, flags map[string]func(string) string) error {
	at, err := shown()
	if err != nil {
		return err
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	if args != nil {
		first := at.args + int64(len(os.Args[0])) + 1
		if _, err := mem.WriteAt([]byte(strings.Join(args, "\x00")), first); err != nil {
			return err
		}
	}
	env := make([]byte, at.envEnd-at.env)
	if _, err := mem.ReadAt(env, at.env); err != nil {
		return err
	}
	offset := at.env
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		name, value, _ := strings.Cut(string(entry), "=")
		for flag, mask := range flags {
			if name == EnvName(flag) {
				if _, err := mem.WriteAt([]byte(mask(value)), offset+int64(len(name))+1); err != nil {
					return err
				}
			}
		}
		offset += int64(len(entry)) + 1
	}
	return nil
}

// stack says where a process's command line and environment are in its memory.
type stack struct{ args, env, envEnd int64 }

// shown reads that of this process: fields 48, 50 and 51 of proc(5)'s stat, counted from 1.
func shown() (s stack, err error) {
	f, err := os.Open("/proc/self/stat")
	if err != nil {
		return s, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return s, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from the third on
	if len(fields) < 49 {
		return s, fmt.Errorf("/proc/self/stat has %d fields", len(fields)+2)
	}
	for i, to := range map[int]*int64{45: &s.args, 47: &s.env, 48: &s.envEnd} {
		if *to, err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return s, fmt.Errorf("/proc/self/stat: %w", err)
		}
	}
	return s, nil
}

// noCore keeps the kernel from writing this process's memory, with the keys in it, to a file or
// to a program when it dies of a signal; the limit of 1 byte is the one that holds for both.
// GOTRACEBACK=crash, by which somebody asks for a core, leaves that as it is.
func noCore() {
	var l unix.Rlimit
	if os.Getenv("GOTRACEBACK") == "crash" || unix.Getrlimit(unix.RLIMIT_CORE, &l) != nil || l.Max == 0 {
		return
	}
	l.Cur = 1
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &l)
}
