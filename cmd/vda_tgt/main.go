// Command vda_tgt is the embedded data plane: block devices, NVMe/TCP target
// and host, driven over JSON-RPC with SPDK's methods.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/vdatgt"
)

func main() {
	ctx, stop := daemon.Context()
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vda_tgt:", err)
		os.Exit(1)
	}
}

// flags are the command line.
type flags struct {
	vdatgt.Config
	bufferMiB int
	level     string
	profile   string
}

func command() *cobra.Command {
	f := flags{}
	c := &cobra.Command{
		Use:   "vda_tgt --rpc-socket PATH [--wait-for-rpc]",
		Short: "The embedded data plane of VDA",
		Long: `vda_tgt serves block devices over NVMe/TCP. It starts empty and is driven over
a Unix socket by JSON-RPC with SPDK's method names, parameters, results and
error codes; vda_rpc is a client for it. It needs no huge pages and uses no
processor time when idle. SIGTERM or SIGINT stops it cleanly: hosts are
disconnected, lvstores are unloaded.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.RPCSocket, "rpc-socket", "r", "/var/tmp/vda.sock", "path of the JSON-RPC Unix socket; refused while another process serves it, a stale one is replaced")
	fs.BoolVar(&f.WaitForRPC, "wait-for-rpc", false, "stay in the start-up state, where options can be set, until framework_start_init is called")
	fs.IntVar(&f.bufferMiB, "buffer-memory", 1024, "maximum MiB of data buffers for I/O under way, for all connections together")
	fs.IntVar(&f.MaxConns, "max-connections", 4096, "most NVMe/TCP connections of hosts at once; an idle one holds about 30 KiB")
	fs.DurationVar(&f.Spin, "spin", 20*time.Microsecond, "how long a busy connection polls before it sleeps, and up to five times as long while storage or data that was asked for is quick to come; 0 turns polling off")
	fs.StringVar(&f.level, "log-level", "info", "minimum level to log to standard error: debug, info, warn or error")
	fs.StringVar(&f.profile, "cpu-profile", "", "file for a profile of the processor time, written when vda_tgt ends; for go tool pprof")
	c.AddCommand(checkCommand(), methodsCommand())
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}

func (f *flags) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return fmt.Errorf("--log-level %q is none of debug, info, warn, error", f.level)
	}
	switch {
	case f.bufferMiB < 16 || f.bufferMiB > 1<<20:
		return fmt.Errorf("--buffer-memory %d has to be from 16 to 1048576 MiB", f.bufferMiB)
	case f.MaxConns < 1:
		return fmt.Errorf("--max-connections %d has to be above 0", f.MaxConns)
	case f.Spin < 0 || f.Spin > time.Millisecond:
		return fmt.Errorf("--spin %v has to be from 0 to 1ms", f.Spin)
	}
	f.BufferMemory = f.bufferMiB << 20
	if f.Spin == 0 {
		f.Spin = -1 // Config's zero is the default
	}
	f.LogLevel = &slog.LevelVar{}
	f.LogLevel.Set(level)
	f.Log = daemon.NewLog(os.Stderr, f.LogLevel)
	if fit, files := vdatgt.FitDescriptors(f.MaxConns); fit < f.MaxConns {
		f.Log.Warn("the limit of open files leaves room for fewer connections than --max-connections; raise it (ulimit -n, LimitNOFILE=)",
			"files", files, "connections", fit, "max-connections", f.MaxConns)
		f.MaxConns = fit
	}
	t, err := vdatgt.New(f.Config)
	if err != nil {
		return err
	}
	if f.profile != "" {
		return profiled(f.profile, func() error { return t.Run(ctx) })
	}
	return t.Run(ctx)
}
