// Command vda_db creates, migrates, checks and drops the schema of VDA's
// database.
package main

import (
	"os"

	"vda/daemon"
	"vda/store/dbcli"
)

func main() {
	ctx, stop := daemon.Context()
	defer stop()
	os.Exit(dbcli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
