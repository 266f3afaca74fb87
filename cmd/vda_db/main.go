// Command vda_db creates, migrates, checks and drops the schema of VDA's
// database.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"vda/store/dbcli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(dbcli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
