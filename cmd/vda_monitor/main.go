// Command vda_monitor watches the nodes of a VDA cluster and makes them what
// the database says.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"vda/monitor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(monitor.App{Stdout: os.Stdout, Stderr: os.Stderr}.Main(ctx, os.Args[1:]))
}
