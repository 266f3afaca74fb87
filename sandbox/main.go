package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
)

// Main is a sandbox in a temporary directory.
type Main struct {
	// BinDir holds the programs. Default: where this one is.
	BinDir string
	// Keep leaves the cluster up after the proof until ctx ends.
	Keep bool
	// Plan says which node runs on which data plane. Zero: all on vda_tgt.
	Plan dataplane.Plan
	// Plain is Config's.
	Plain bool
	// Out gets the story.
	Out io.Writer
}

// Program is vda_sandbox.
func Program() program.Program {
	m := Main{}
	c := &cobra.Command{
		Use:   "vda_sandbox [flags]",
		Short: "Run a whole VDA cluster on this machine and prove it with I/O",
		Long: `Starts three disk nodes, two controller nodes, a portal and a monitor as separate
processes on 127.0.0.1, creates two disk arrays with vda_cli, writes and reads
every block of one through both controllers, and measures the other. Then it makes
a mirrored array, kills a disk node under it while a host writes, and waits until
the array is whole again. It prints a summary and takes everything down. Leaves
nothing behind.

The cluster is secured: daemons enrol and know each other by certificates, vda_cli
shows a user's token, and nodes prove keys to each other; strangers are refused, which
is tried. --plain leaves that out.

Runs on vda_tgt; with SPDK_TGT=/path/to/spdk_tgt and DATA_PLANE=spdk or mixed in
the environment, on spdk_tgt or on both.`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if m.Plan, err = dataplane.FromEnv(); err != nil {
				return err
			}
			m.Out = c.OutOrStdout()
			return m.Run(c.Context())
		},
	}
	c.Flags().BoolVar(&m.Keep, "keep", false, "leave the cluster up after the proof until Ctrl-C, and print how to reach it")
	c.Flags().BoolVar(&m.Plain, "plain", false, "no certificates, users and keys: anyone who reaches a port can give orders")
	return program.Program{Root: c, Fail: fail}
}

// fail prints an error as it is: what the processes said last has lines.
func fail(p program.Process, err error) int {
	fmt.Fprintln(p.Stderr, "vda_sandbox:", err)
	return 1
}

// Run proves a cluster and removes it.
func (m Main) Run(ctx context.Context) error {
	if m.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		m.BinDir = filepath.Dir(self)
	}
	dir, err := os.MkdirTemp("", "vda-sandbox-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	cfg := Config{BinDir: m.BinDir, Dir: dir, Out: m.Out, Terminal: terminal(m.Out), Plan: m.Plan, Plain: m.Plain}
	if err := Run(ctx, cfg, m.Keep); err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.Out, "\nAll good: every block was read back as written, through both controllers. %.0f s.\n",
		time.Since(begin).Seconds())
	return err
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
