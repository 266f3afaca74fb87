// Vda_cli is the user's client of a VDA portal.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"vda/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Main(ctx, cli.Config{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv})
	stop()
	os.Exit(status)
}
