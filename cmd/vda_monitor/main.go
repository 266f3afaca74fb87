// Command vda_monitor watches the nodes of a VDA cluster and makes them what
// the database says.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/daemon"
	"github.com/virtual-disk-array/vda/monitor"
)

func main() {
	ctx, stop := daemon.Context()
	defer stop()
	os.Exit(monitor.App{Stdout: os.Stdout, Stderr: os.Stderr}.Main(ctx, os.Args[1:]))
}
