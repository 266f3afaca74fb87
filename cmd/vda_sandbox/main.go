// Command vda_sandbox runs a whole cluster on this machine and proves it with
// I/O; see package sandbox.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/sandbox"
	"github.com/virtual-disk-array/vda/sandbox/dataplane"
)

func main() {
	var keep bool
	cmd := &cobra.Command{
		Use:   "vda_sandbox",
		Short: "Run a whole VDA cluster on this machine and prove it with I/O",
		Long: `Starts two disk nodes, two controller nodes, a portal and a monitor as separate
processes on 127.0.0.1, creates two disk arrays with vda_cli, writes and reads
every block of one through both controllers, measures the other, prints a
summary and takes everything down again. Leaves nothing behind.

Runs on vda_tgt; with SPDK_TGT=/path/to/spdk_tgt and DATA_PLANE=spdk or mixed in
the environment, on spdk_tgt or on both.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			ctx, stop := daemon.Context()
			defer stop()
			return run(ctx, keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the cluster up after the proof until Ctrl-C, and print how to reach it")
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "vda_sandbox:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) error {
	plan, err := dataplane.FromEnv()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vda-sandbox-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := os.Stdout.Stat()
	if err != nil {
		return err
	}
	cfg := sandbox.Config{BinDir: filepath.Dir(self), Dir: dir, Out: os.Stdout, Terminal: out.Mode()&os.ModeCharDevice != 0, Plan: plan}
	begin := time.Now()
	if err := sandbox.Run(ctx, cfg, keep); err != nil {
		return err
	}
	fmt.Printf("\nAll good: every block was read back as written, through both controllers. %.0f s.\n", time.Since(begin).Seconds())
	return nil
}
