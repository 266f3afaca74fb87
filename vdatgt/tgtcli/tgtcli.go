// Package tgtcli is the command line of vda_tgt: the data plane itself, and the
// commands that check an lvstore and print the reference of its methods.
package tgtcli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/vdatgt"
)

// flags are the command line.
type flags struct {
	vdatgt.Config
	bufferMiB    int
	httpPort     int
	httpListener string
	log          daemon.LogFlags
	profile      string
}

// Program is vda_tgt.
func Program() program.Program {
	f := flags{}
	c := &cobra.Command{
		Use:   "vda_tgt --rpc-socket PATH [--wait-for-rpc]",
		Short: "Serve block devices over NVMe/TCP, driven by JSON-RPC",
		Long: `vda_tgt serves block devices over NVMe/TCP. It starts empty and is driven over
a Unix socket by JSON-RPC with SPDK's method names, parameters, results and
error codes; vda_rpc is a client for it. It needs no huge pages and uses no
processor time when idle. SIGTERM or SIGINT stops it cleanly: hosts are
disconnected, lvstores are unloaded.`,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := f.main(c.ErrOrStderr())
			if err != nil {
				return err
			}
			return m.Run(c.Context())
		},
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.RPCSocket, "rpc-socket", "r", "/var/tmp/vda.sock",
		"`PATH` of the JSON-RPC Unix socket; refused while another process serves it, a stale one is replaced, "+
			"a process that was killed and has not gone is waited for")
	fs.BoolVar(&f.WaitForRPC, "wait-for-rpc", false,
		"stay in the start-up state, where options can be set, until framework_start_init is called")
	fs.IntVar(&f.bufferMiB, "buffer-memory", 1024, "maximum `MiB` of data buffers for I/O under way, for all connections together")
	fs.IntVar(&f.MaxConns, "max-connections", 4096, "at most `N` NVMe/TCP connections of hosts at once; an idle one holds about 30 KiB")
	fs.DurationVar(&f.Spin, "spin", 20*time.Microsecond, "how long a busy connection polls before it sleeps, and up to five times as long "+
		"while storage or data that was asked for is quick to come; 0 turns polling off")
	fs.IntVar(&f.httpPort, "http-port", 0, "TCP `PORT` of HTTP (/metrics, /healthz); 0 serves none")
	fs.StringVar(&f.httpListener, "http-listener", "127.0.0.1", "IP `ADDRESS` to serve HTTP on, with --http-port; 0.0.0.0 is all of "+
		"this machine's")
	f.log.Add(fs)
	fs.StringVar(&f.profile, "cpu-profile", "",
		"`FILE` for a profile of the processor time, written when vda_tgt ends; for go tool pprof (default none)")
	c.AddCommand(checkCommand(), methodsCommand())
	return program.Program{Root: c, Serves: true}
}

// Main is a data plane to run.
type Main struct {
	vdatgt.Config
	// HTTPPort is where HTTP is served, on HTTPListener; 0: nowhere.
	HTTPPort     int
	HTTPListener string
	// CPUProfile is the path of a profile of the processor time; "" for none.
	CPUProfile string
}

// main is what the command line asks for.
func (f *flags) main(stderr io.Writer) (Main, error) {
	if err := f.log.Check(); err != nil {
		return Main{}, err
	}
	switch {
	case f.bufferMiB < 16 || f.bufferMiB > 1<<20:
		return Main{}, fmt.Errorf("--buffer-memory %d must be from 16 to 1048576 MiB", f.bufferMiB)
	case f.MaxConns < 1:
		return Main{}, fmt.Errorf("--max-connections %d must be above 0", f.MaxConns)
	case f.httpPort < 0 || f.httpPort > 65535:
		return Main{}, fmt.Errorf("--http-port %d must be from 0 to 65535", f.httpPort)
	case f.Spin < 0 || f.Spin > time.Millisecond:
		return Main{}, fmt.Errorf("--spin %v must be from 0 to 1ms", f.Spin)
	}
	m := Main{Config: f.Config, HTTPPort: f.httpPort, HTTPListener: f.httpListener, CPUProfile: f.profile}
	m.BufferMemory = f.bufferMiB << 20
	if m.Spin == 0 {
		m.Spin = -1 // Config's zero is the default
	}
	m.LogLevel = &slog.LevelVar{}
	m.Log = f.log.Log(stderr, m.LogLevel)
	m.RecentLog = daemon.RecentLog
	return m, nil
}

// Run serves until ctx ends.
func (m Main) Run(ctx context.Context) error {
	if fit, files := vdatgt.FitDescriptors(m.MaxConns); fit < m.MaxConns {
		m.Log.Warn("the limit of open files leaves room for fewer connections than --max-connections; raise it (ulimit -n, LimitNOFILE=)",
			"files", files, "connections", fit, "max-connections", m.MaxConns)
		m.MaxConns = fit
	}
	if m.HTTPPort != 0 {
		// The port goes with the process that had it, as the socket does.
		if err := vdatgt.AwaitPredecessor(ctx, m.RPCSocket, m.Log); err != nil {
			return err
		}
		lis, err := daemon.Listen(ctx, "http-", m.HTTPListener, m.HTTPPort)
		if err != nil {
			return err
		}
		defer lis.Close()
		m.HTTP = lis
	}
	t, err := vdatgt.New(m.Config)
	if err != nil {
		return err
	}
	if m.CPUProfile != "" {
		return profiled(m.CPUProfile, func() error { return t.Run(ctx) })
	}
	return t.Run(ctx)
}
