// Vda_cli is the user's client of a VDA portal.
package main

import (
	"os"

	"github.com/virtual-disk-array/vda/cli"
	"github.com/virtual-disk-array/vda/daemon"
)

func main() {
	ctx, stop := daemon.Context()
	status := cli.Main(ctx, cli.Config{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv})
	stop()
	os.Exit(status)
}
